//! `trestle check`: every mistake of a route table at once, the way a compiler tells them.

mod answers;
mod connect;
mod judge;
mod render;

use std::path::Path;

use serde_json::{Value, json};

pub use self::answers::{Answers, survey};
use self::{judge::Judgement, render::report};
use super::{Exit, Output, answer, columns};
use crate::config::{self, Checked, Found, Mistake, Pattern, Places, Route, Severity, Table};

/// Prints what is wrong to standard error, or what the table comes to, to standard output; as JSON both go there. With
/// `connect` the clusters of a right table are asked as well.
pub fn check(file: &Path, output: Output, connect: bool) -> Exit {
    let mut checked = config::load(file, &Found::new());
    let asked = if connect { connect::ask(&mut checked, |found| config::load(file, &found)) } else { None };
    let judgement = asked.zip(checked.table.as_ref()).map(|(asked, table)| match asked {
        Ok(asked) => judge::judge(table, &asked.surveys).and(asked.unknown),
        Err(problem) => Judgement::failed(problem),
    });
    let mut exit = if checked.table.is_some() { Exit::Fine } else { Exit::Wrong };
    if let (Some(judgement), Some(places)) = (&judgement, &checked.places) {
        let found = placed(judgement, places);
        if found.iter().any(|mistake| mistake.severity == Severity::Error) {
            exit = Exit::Failed;
        }
        checked.mistakes.extend(found);
    }
    match output {
        Output::Json => answer(&format!("{:#}\n", as_json(file, &checked, judgement.as_ref()))),
        Output::Text => {
            report(file, &checked.mistakes);
            if let Some(table) = &checked.table {
                answer(&summary(table));
            }
            if let Some(judgement) = &judgement {
                answer(&judgement.summary());
            }
        }
    }
    exit
}

/// What the clusters said, at the lines of the table that it is about.
fn placed(judgement: &Judgement, places: &Places) -> Vec<Mistake> {
    let place = |finding: &judge::Finding| {
        let path: Vec<&str> = finding.path.iter().map(String::as_str).collect();
        let mistake = places.mistake(&path, &finding.problem);
        if finding.severity == Severity::Warning { mistake.warning() } else { mistake }
    };
    places.complete(judgement.findings.iter().map(place).collect())
}

/// Reads a table for a command that needs a right one; says what is wrong with it.
pub fn load(file: &Path) -> Result<Table, Exit> {
    read(file).table.ok_or(Exit::Wrong)
}

/// As [`load`], with the routes of what the table's patterns matched.
pub fn load_found(file: &Path, found: &Found) -> Result<Table, Exit> {
    let checked = config::load(file, found);
    report(file, &checked.mistakes);
    checked.table.ok_or(Exit::Wrong)
}

/// As [`load`], with all that was found out.
pub fn read(file: &Path) -> Checked {
    let checked = config::load(file, &Found::new());
    report(file, &checked.mistakes);
    checked
}

fn as_json(file: &Path, checked: &Checked, judgement: Option<&Judgement>) -> Value {
    let (warnings, mistakes): (Vec<_>, Vec<_>) = checked.mistakes.iter().partition(|m| m.severity == Severity::Warning);
    let routes = checked.table.iter().flat_map(|table| table.routes.values());
    let route = |route: &Route| {
        let hop = |hop: &config::Hop| json!({ "hop": hop.name, "from": hop.from.to_string(), "group": hop.group, "to": hop.to.to_string() });
        let hops: Vec<_> = route.hops.iter().map(hop).collect();
        json!({ "route": route.name, "hops": hops, "dead_letters": route.dead_letter.to_string() })
    };
    let mut answer = json!({
        "file": file,
        "ok": mistakes.is_empty(),
        "mistakes": mistakes,
        "warnings": warnings,
        "routes": routes.map(|r| route(r)).collect::<Vec<_>>(),
    });
    let patterns = checked.table.iter().flat_map(|table| &table.patterns);
    let pattern = |of: &Pattern| json!({ "route": of.route, "cluster": of.cluster.name, "pattern": of.like });
    answer["patterns"] = patterns.map(pattern).collect();
    if let Some(judgement) = judgement {
        answer["clusters"] = json!(judgement.clusters);
        answer["to_be_made"] = json!(judgement.to_be_made);
    }
    answer
}

/// One line a route.
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
    let rows =
        columns(&std::iter::once(heading).chain(table.routes.values().map(|route| row(route))).collect::<Vec<_>>());
    let found = |of: &Pattern| {
        let found = table.routes.values().filter(|route| route.declared == of.route).count();
        let Pattern { route, cluster, like, .. } = of;
        format!(
            "{route} carries every topic of {} that `{like}` matches: {found} found (--connect looks)\n",
            cluster.name
        )
    };
    rows + &table.patterns.iter().map(found).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Checked {
        config::check(Path::new("table.yaml"), text, &|_| None)
    }

    #[test]
    fn a_right_table_is_summed_up_one_line_a_route() {
        let table = checked(include_str!("../../../compose/trestle.yaml")).table.unwrap();
        let summary = summary(&table);
        let lines: Vec<_> = summary.lines().collect();
        assert_eq!(lines.len(), 1 + table.routes.len());
        assert!(lines[0].starts_with("route") && lines[1].starts_with("orders"), "{summary}");
        assert!(lines[1].contains("main/orders") && lines[1].contains("trestle-orders"), "{summary}");
    }

    #[test]
    fn programs_get_the_same_as_people() {
        let json = as_json(Path::new("table.yaml"), &checked("clusters: {}\nrouts: {}\n"), None);
        assert_eq!(json["ok"], false);
        let unknown = &json["mistakes"][1];
        assert_eq!(
            (&unknown["line"], &unknown["column"], &unknown["nearest"]),
            (&json!(2), &json!(1), &json!("routes"))
        );
        assert_eq!(unknown["path"], "/routs");
    }
}
