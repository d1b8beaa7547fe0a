//! The route table: `shape` is what is written, `table` what is meant. In between every mistake is found at once:
//! `yaml` (text to a tree with places), `recover` (the same behind an error of syntax), `secrets` (`${NAME}`), `blot` (a line without secrets), `conform` (types, by the JSON Schema of `shape`),
//! `meaning` (names, limits), `several` and `instances` (routes of several topics), `transforms`, `policies` (those of routes and their defaults), `auth` (who may ask on the admin address), `options` (the clients' own settings) and `topology` (what routes do to each other).
//! `inputs` remembers what it was read from, and `watch` notices that this has changed.

mod auth;
mod blot;
mod conform;
mod inputs;
mod instances;
mod json_schema;
mod limits;
mod meaning;
mod mistake;
mod options;
mod policies;
mod quantity;
mod recover;
mod scalar;
mod secrets;
mod several;
mod shape;
mod table;
mod topology;
mod transforms;
mod watch;
mod written;
mod yaml;

use std::path::Path;

pub use auth::{Algorithm, Auth, Jwt, Key, Required, Scope, Scopes, Token, digest_of, is_loopback};
pub use inputs::Inputs;
pub use limits::AdminLimits;
pub use mistake::{Mistake, Severity, window_start};
pub use quantity::{Size, Time};
pub use secrets::{Environment, is_secret};
pub use several::{Found, When};
pub(crate) use shape::Rate;
pub use shape::published_schema;
pub use table::{Cluster, Endpoint, Hop, Memory, OnGap, Pattern, Route, Table};
pub use watch::{LOOK_EVERY, Watch};
pub use written::Written;

use yaml::Span;

/// Bytes of a table at most.
const MAX_TABLE: u64 = 64 << 20;

/// A table, if there is none of severity `Error` among the mistakes.
pub struct Checked {
    pub table: Option<Table>,
    /// By place in the file.
    pub mistakes: Vec<Mistake>,
    /// Where everything of the table stands.
    pub places: Option<Places>,
    /// What it was read from.
    pub inputs: Inputs,
}

/// Reads and checks a table, with the environment of this process. `found`: the topics that its patterns matched.
pub fn load(file: &Path, found: &Found) -> Checked {
    let mut inputs = Inputs::default();
    match read(file, &mut inputs) {
        Ok(text) => {
            let mut checked = check_with(file, &text, &|name| std::env::var(name).ok(), found);
            checked.inputs.extend(inputs);
            checked
        }
        Err(mistake) => Checked { table: None, mistakes: vec![*mistake], places: None, inputs },
    }
}

/// Checks a table of which no pattern has matched anything yet. Reads nothing but the files that `${file:/path}` names, and
/// connects to nothing.
pub fn check(file: &Path, text: &str, environment: Environment<'_>) -> Checked {
    check_with(file, text, environment, &Found::new())
}

fn check_with(file: &Path, text: &str, environment: Environment<'_>, found: &Found) -> Checked {
    let recover::Readings { rest, before, mut mistakes } = recover::read(text);
    let (mut table, mut places, mut inputs) = (None, None, Inputs::default());
    let mut hidden = Vec::new();
    for mut part in before {
        hidden.push(secrets::fill(&mut part, text, environment, &mut inputs, &mut mistakes));
        conform::conform(&part, &shape::schema(), false, &mut mistakes);
    }
    let whole = rest.syntax.is_none();
    match rest.root {
        Some(mut root) => {
            let secrets = secrets::fill(&mut root, text, environment, &mut inputs, &mut mistakes);
            let value = conform::conform(&root, &shape::schema(), whole, &mut mistakes);
            if whole {
                table = meaning::check(file, &root, value, found, &mut inputs, &mut mistakes);
                table = table.map(|table| Table { written: table.written.hiding(secrets.clone()), ..table });
            }
            hidden.push(secrets.clone());
            places = Some(Places { root, secrets, text: text.to_owned() });
        }
        None if whole => mistakes.push(Mistake::at(Span { line: 1, column: 1, width: 1 }, "the table is empty")),
        None => {}
    }
    for mistake in &mut mistakes {
        mistake.problem =
            hidden.iter().fold(std::mem::take(&mut mistake.problem), |text, secrets| secrets.scrub(&text));
    }
    mistake::complete(&mut mistakes, text);
    if mistakes.iter().any(|mistake| mistake.severity == Severity::Error) {
        table = None;
    }
    Checked { table, mistakes, places, inputs }
}

/// Where everything of a table stands, for what is found out about it later.
pub struct Places {
    root: yaml::Node,
    secrets: secrets::Secrets,
    text: String,
}

impl Places {
    /// Points at what stands at this path of the table, or nearest above it.
    pub fn mistake(&self, path: &[&str], problem: &str) -> Mistake {
        Mistake::on(&self.root, path, self.secrets.scrub(problem))
    }

    /// Sorted by place, each with the line it stands in.
    pub fn complete(&self, mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
        mistake::complete(&mut mistakes, &self.text);
        mistakes
    }
}

fn read(file: &Path, inputs: &mut Inputs) -> Result<String, Box<Mistake>> {
    let start = Span { line: 1, column: 1, width: 1 };
    let bytes =
        inputs.read(file, MAX_TABLE).map_err(|error| Mistake::at(start, format!("cannot read the table: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Mistake::at(Span { line, column, width: 1 }, "this is not UTF-8").into()
    })
}

#[cfg(test)]
mod tests;
