//! `trestle plan`: what a reload would change, route by route.

use std::path::Path;

use serde_json::Value;

use super::{Exit, Output, answer, check, client};
use crate::{
    admin::PLAN,
    plan::{Changed, Plan},
};

/// What the new table is compared with.
pub enum Against<'a> {
    File(&'a Path),
    /// HOST:PORT of a running instance.
    Running(&'a str),
}

/// Reads the new table, and says what it changes. Nothing is changed by asking.
pub fn plan(new: &Path, against: &Against<'_>, output: Output) -> Exit {
    let new = match check::load(new) {
        Ok(table) => table.written,
        Err(exit) => return exit,
    };
    let plan = match against {
        Against::File(old) => match check::load(old) {
            Ok(old) => Plan::between(&old.written.whole(), &new.whole()),
            Err(exit) => return exit,
        },
        Against::Running(address) => match asked(address, &new.shown()) {
            Ok(plan) => plan,
            Err(problem) => {
                eprintln!("error: {problem}");
                return Exit::Failed;
            }
        },
    };
    let hidden = matches!(against, Against::Running(_));
    match output {
        Output::Json => answer(&format!("{:#}\n", serde_json::json!(plan))),
        Output::Text => answer(&text(&plan, hidden)),
    }
    Exit::Fine
}

fn asked(address: &str, new: &Value) -> Result<Plan, String> {
    let plan = client::post(address, PLAN, new)?;
    serde_json::from_value(plan).map_err(|error| format!("http://{address}{PLAN}: the answer is no plan: {error}"))
}

/// One line a route that does not stay as it is.
fn text(plan: &Plan, secrets_hidden: bool) -> String {
    let line = |what: &str, of: &str| format!("{what:<11}{of}\n");
    let mut text: String = plan.added.iter().map(|route| line("added", route)).collect();
    text.extend(
        plan.changed.iter().map(|Changed { route, keys }| line("changed", &format!("{route}: {}", keys.join(", ")))),
    );
    text.extend(plan.removed.iter().map(|route| line("removed", route)));
    text.extend(plan.needs_restart.iter().map(|key| line("restart", &format!("{key} stays as it is until then"))));
    let untouched = plan.untouched.len();
    text.push_str(&line("untouched", &format!("{untouched} route{}", if untouched == 1 { "" } else { "s" })));
    if secrets_hidden {
        text.push_str("Secrets are not compared: a new one changes every route on its cluster.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_one_line_a_route_that_does_not_stay_as_it_is() {
        let plan = Plan {
            added: vec!["new".into()],
            removed: vec!["old".into()],
            changed: vec![Changed { route: "orders".into(), keys: vec!["retry.retries".into(), "to.topic".into()] }],
            untouched: vec!["same".into()],
            needs_restart: vec!["memory.limit".into()],
        };
        let expected = "added      new\nchanged    orders: retry.retries, to.topic\nremoved    old\n\
                        restart    memory.limit stays as it is until then\nuntouched  1 route\n";
        assert_eq!(text(&plan, false), expected);
        assert!(text(&plan, true).ends_with("every route on its cluster.\n"));
    }
}
