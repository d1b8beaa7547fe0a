//! `trestle explain`: what a route does to a message, what it promises, and what would make that stronger.

mod advice;
mod route;

use std::path::Path;

use serde_json::json;

use self::route::Explained;
use super::{
    Exit, Output, answer,
    check::{Answers, load, survey},
};
use crate::config::Table;

/// Prints each route of the table, or the one of this name. With `connect` the real topics are looked at as well.
pub fn explain(file: &Path, only: Option<&str>, output: Output, connect: bool) -> Exit {
    let (table, answers) = match load_and_ask(file, connect) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let of = |name: &str| {
        only.is_none_or(|only| name == only || name.strip_prefix(only).is_some_and(|rest| rest.starts_with(':')))
    };
    let routes = table.routes.values().filter(|route| of(&route.name));
    let explained: Vec<Explained> = routes.map(|route| Explained::new(&table, route, answers.as_ref())).collect();
    if let (Some(name), true) = (only, explained.is_empty()) {
        let known = table.routes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        eprintln!("error: the table has no route `{name}`, only {known}{}", unfound(&table, connect));
        return Exit::Wrong;
    }
    match output {
        Output::Json => answer(&format!("{:#}\n", json!({ "file": file, "routes": explained }))),
        Output::Text => {
            let texts: Vec<String> = explained.iter().map(Explained::text).collect();
            answer(&texts.join("\n"));
            answer(&unfound(&table, connect));
        }
    }
    match answers {
        Some(answers) if answers.failed => Exit::Failed,
        _ => Exit::Fine,
    }
}

fn load_and_ask(file: &Path, connect: bool) -> Result<(Table, Option<Answers>), Exit> {
    if !connect {
        return Ok((load(file)?, None));
    }
    let (table, answers) = survey(file)?;
    Ok((table, Some(answers)))
}

/// What is said of patterns whose topics nobody has looked for.
fn unfound(table: &Table, connect: bool) -> String {
    if table.patterns.is_empty() || connect {
        return String::new();
    }
    let names: Vec<&str> = table.patterns.iter().map(|pattern| pattern.route.as_str()).collect();
    format!("\nwhich topics {} matches is known with --connect only\n", names.join(", "))
}
