//! `trestle check`: every mistake of a route table at once, the way a compiler tells them.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    path::Path,
};

use serde_json::{Value, json};

use super::{Exit, Output, answer};
use crate::config::{self, Checked, Mistake, Route, Severity, Table, window_start};

/// Prints what is wrong to standard error, or what the table comes to, to standard output; as JSON both go there.
pub fn check(file: &Path, output: Output) -> Exit {
    let checked = config::load(file);
    match output {
        Output::Json => answer(&format!("{:#}\n", as_json(file, &checked))),
        Output::Text => {
            report(file, &checked.mistakes);
            if let Some(table) = &checked.table {
                answer(&summary(table));
            }
        }
    }
    if checked.table.is_some() { Exit::Fine } else { Exit::Wrong }
}

/// Reads a table for a command that needs a right one; says what is wrong with it.
pub fn load(file: &Path) -> Result<Table, Exit> {
    let checked = config::load(file);
    report(file, &checked.mistakes);
    checked.table.ok_or(Exit::Wrong)
}

fn report(file: &Path, mistakes: &[Mistake]) {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A reader that went away is no error.
    let _ = io::Write::write_all(&mut io::stderr().lock(), rendered(file, mistakes, colours).as_bytes());
}

fn as_json(file: &Path, checked: &Checked) -> Value {
    let (warnings, mistakes): (Vec<_>, Vec<_>) = checked.mistakes.iter().partition(|m| m.severity == Severity::Warning);
    let routes = checked.table.iter().flat_map(|table| table.routes.values());
    let route = |route: &Route| {
        let hop = |hop: &config::Hop| json!({ "hop": hop.name, "from": hop.from.to_string(), "group": hop.group, "to": hop.to.to_string() });
        let hops: Vec<_> = route.hops.iter().map(hop).collect();
        json!({ "route": route.name, "hops": hops, "dead_letters": route.dead_letter.to_string() })
    };
    json!({
        "file": file,
        "ok": checked.table.is_some(),
        "mistakes": mistakes,
        "warnings": warnings,
        "routes": routes.map(|r| route(r)).collect::<Vec<_>>(),
    })
}

/// One line a route, in columns.
fn summary(table: &Table) -> String {
    let heading = ["route", "from", "via", "to", "hops", "group", "dead letters"].map(str::to_owned);
    let row = |route: &Route| {
        let (first, last) = (route.hops.first(), route.hops.last());
        let via = first.filter(|_| route.hops.len() > 1).map_or("-".into(), |hop| hop.to.to_string());
        [
            route.name.clone(),
            first.map(|hop| hop.from.to_string()).unwrap_or_default(),
            via,
            last.map(|hop| hop.to.to_string()).unwrap_or_default(),
            route.hops.len().to_string(),
            first.map(|hop| hop.group.clone()).unwrap_or_default(),
            route.dead_letter.to_string(),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(table.routes.values().map(|route| row(route))).collect();
    let mut widths = [0; 7];
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

/// File, line and column, the line itself with carets below what is meant, and what was expected.
fn rendered(file: &Path, mistakes: &[Mistake], colours: bool) -> String {
    let paint = |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let mut out = String::new();
    for mistake in mistakes {
        let (word, code) = match mistake.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}: {}", paint(code, word), paint("1", &mistake.problem));
        let gutter = " ".repeat(mistake.line.to_string().len());
        let _ = writeln!(out, "{gutter}--> {}:{}:{}", file.display(), mistake.line, mistake.column);
        if !mistake.text.trim().is_empty() {
            let before = mistake.column.saturating_sub(1 + window_start(mistake.column));
            let room = mistake.text.chars().count().saturating_sub(before).max(1);
            let carets = "^".repeat(mistake.width.clamp(1, room));
            let _ = writeln!(out, "{} | {}", mistake.line, mistake.text);
            let _ = writeln!(out, "{gutter} | {}{}", " ".repeat(before), paint(code, &carets));
        }
        if let Some(expected) = &mistake.expected {
            let _ = writeln!(out, "{gutter} = expected {expected}");
        }
        if let Some(nearest) = &mistake.nearest {
            let _ = writeln!(out, "{gutter} = did you mean `{nearest}`?");
        }
        out.push('\n');
    }
    let errors = mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
    if errors > 0 {
        let _ = writeln!(out, "{}: {errors} mistake{}", file.display(), if errors == 1 { "" } else { "s" });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Checked {
        config::check(Path::new("table.yaml"), text, &|_| None)
    }

    #[test]
    fn a_mistake_is_shown_in_its_line_with_what_was_expected() {
        let text = "clusters:\n  main: { type: kafak, servers: \"127.0.0.1:9092\" }\nroutes: {}\n";
        let shown = rendered(Path::new("table.yaml"), &checked(text).mistakes, false);
        let expected = "error: `kafak` is not known here
 --> table.yaml:2:17
2 |   main: { type: kafak, servers: \"127.0.0.1:9092\" }
  |                 ^^^^^
  = expected one of kafka, pulsar, rocketmq
  = did you mean `kafka`?

table.yaml: 1 mistake
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_right_table_is_summed_up_one_line_a_route() {
        let table = checked(include_str!("../../compose/trestle.yaml")).table.unwrap();
        let summary = summary(&table);
        let lines: Vec<_> = summary.lines().collect();
        assert_eq!(lines.len(), 1 + table.routes.len());
        assert!(lines[0].starts_with("route") && lines[1].starts_with("orders"), "{summary}");
        assert!(lines[1].contains("main/orders") && lines[1].contains("trestle-orders"), "{summary}");
    }

    #[test]
    fn programs_get_the_same_as_people() {
        let json = as_json(Path::new("table.yaml"), &checked("clusters: {}\nrouts: {}\n"));
        assert_eq!(json["ok"], false);
        let unknown = &json["mistakes"][1];
        assert_eq!(
            (&unknown["line"], &unknown["column"], &unknown["nearest"]),
            (&json!(2), &json!(1), &json!("routes"))
        );
        assert_eq!(unknown["path"], "/routs");
    }
}
