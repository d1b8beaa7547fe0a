//! What one table changes of another, route by route and setting by setting, by the table's own names.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// By the table's names of routes: one that has several topics is one here.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// They drain, and start with their new settings where they were.
    pub changed: Vec<Changed>,
    pub untouched: Vec<String>,
    /// Settings of the process that a reload does not change.
    pub needs_restart: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    pub route: String,
    /// As `retry.retries`, or `clusters.main.servers`.
    pub keys: Vec<String>,
}

/// Settings that follow a table without touching a route.
const FOLLOWS: &str = "shutdown";
const HOPS: [&str; 2] = ["hops.stage.", "hops.deliver."];

impl Plan {
    /// Of two tables as [`crate::config::Written`] has them.
    pub fn between(running: &Value, new: &Value) -> Self {
        let (before, after) = (under(running, "routes"), under(new, "routes"));
        let clusters = changed_clusters(running, new);
        let mut plan = Plan::default();
        for (name, route) in after {
            let Some(was) = before.get(name) else {
                plan.added.push(name.clone());
                continue;
            };
            let mut keys = same_in_all_hops(differing(was, route), route);
            keys.extend(used(was).union(&used(route)).filter_map(|cluster| clusters.get(*cluster)).flatten().cloned());
            match keys.is_empty() {
                true => plan.untouched.push(name.clone()),
                false => plan.changed.push(Changed { route: name.clone(), keys }),
            }
        }
        plan.removed = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
        let settings = differing(&running["settings"], &new["settings"]);
        plan.needs_restart = settings.into_iter().filter(|key| !key.starts_with(FOLLOWS)).collect();
        plan
    }
}

fn under<'a>(table: &'a Value, key: &str) -> &'a Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    table.get(key).and_then(Value::as_object).unwrap_or(&NONE)
}

/// The keys of each cluster that is another one now.
fn changed_clusters<'a>(running: &'a Value, new: &'a Value) -> BTreeMap<&'a str, Vec<String>> {
    let before = under(running, "clusters");
    let changed = |(name, cluster): (&'a String, &Value)| {
        let keys = differing(before.get(name).unwrap_or(&Value::Null), cluster);
        let path =
            |key: String| if key.is_empty() { format!("clusters.{name}") } else { format!("clusters.{name}.{key}") };
        (!keys.is_empty()).then(|| (name.as_str(), keys.into_iter().map(path).collect()))
    };
    under(new, "clusters").iter().filter_map(changed).collect()
}

/// The clusters of a route.
fn used(route: &Value) -> BTreeSet<&str> {
    ["from", "via", "to", "dead_letter"].iter().filter_map(|end| route[end]["cluster"].as_str()).collect()
}

/// Paths to what is not the same, as deep as both are mappings.
fn differing(one: &Value, other: &Value) -> Vec<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            let below = |key: &String| {
                let (one, other) = (one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null));
                let path = |rest: String| if rest.is_empty() { key.clone() } else { format!("{key}.{rest}") };
                differing(one, other).into_iter().map(path).collect::<Vec<_>>()
            };
            keys.into_iter().flat_map(below).collect()
        }
        (one, other) if one == other => Vec::new(),
        _ => vec![String::new()],
    }
}

/// What is changed in every hop alike is the route's.
fn same_in_all_hops(keys: Vec<String>, route: &Value) -> Vec<String> {
    let hops: Vec<&str> =
        HOPS.into_iter().filter(|hop| route["hops"].get(hop.split('.').nth(1).unwrap_or_default()).is_some()).collect();
    let all: BTreeSet<String> = keys.iter().cloned().collect();
    let short = |key: String| {
        let own = hops.iter().find_map(|hop| key.strip_prefix(hop));
        match own {
            Some(own) if hops.iter().all(|hop| all.contains(&format!("{hop}{own}"))) => own.to_owned(),
            _ => key,
        }
    };
    keys.into_iter().map(short).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        config::{self, Table},
        supervisor::Difference,
    };

    const TABLE: &str = r#"
clusters:
  k: { type: kafka, servers: "h:1", options: { sasl.password: first-password, security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: me } }
  p: { type: pulsar, url: "pulsar://h:1" }
  r: { type: rocketmq, namesrv: "h:1" }
routes:
  staged:
    from: { cluster: k, topic: in }
    via: { cluster: p, topic: "persistent://public/default/staged" }
    to: { cluster: r, topic: out }
    transform: [{ drop: { header: a, equals: heartbeat } }]
  plain:
    from: { cluster: p, topic: "persistent://public/default/in" }
    to: { cluster: r, topic: plain }
"#;

    fn table(text: &str) -> Table {
        let checked = config::check(Path::new("t"), text, &|_| None);
        checked.table.unwrap_or_else(|| panic!("{text}\n{:#?}", checked.mistakes))
    }

    fn keys(plan: &Plan) -> Vec<(String, Vec<String>)> {
        plan.changed.iter().map(|changed| (changed.route.clone(), changed.keys.clone())).collect()
    }

    #[test]
    fn a_plan_names_what_a_reload_would_change_and_by_which_settings() {
        let running = table(TABLE);
        for (from, to, expected) in [
            ("in }\n    via", "in, start: latest }\n    via", &[("staged", "from.start")][..]),
            ("equals: heartbeat", "equals: beat", &[("staged", "transform")]),
            (
                "routes:",
                "defaults: { retry: { retries: 9 } }\nroutes:",
                &[("plain", "retry.retries"), ("staged", "retry.retries")],
            ),
            (
                "topic: out }",
                "topic: out }\n    hops: { deliver: { send_timeout: 2s } }",
                &[("staged", "hops.deliver.send_timeout")],
            ),
            ("first-password", "second-password", &[("staged", "clusters.k.options.sasl.password")]),
            (
                "namesrv: \"h:1\"",
                "namesrv: \"h:1\", rate: { messages: 7 }",
                &[("plain", "clusters.r.rate.messages"), ("staged", "clusters.r.rate.messages")],
            ),
            ("topic: out }", "topic: out }\n    send_timeout: 3000ms", &[]),
            ("routes:", "memory: { limit: 64MiB }\nshutdown: { grace: 9s }\nroutes:", &[]),
        ] {
            let new = table(&TABLE.replace(from, to));
            let plan = Plan::between(&running.written.whole(), &new.written.whole());
            let expected: Vec<_> =
                expected.iter().map(|(route, key)| ((*route).to_owned(), vec![(*key).to_owned()])).collect();
            assert_eq!(keys(&plan), expected, "{to}");
            // What a reload itself would find.
            let found = Difference::between(&running.routes, &new.routes);
            assert_eq!(
                found.changed,
                plan.changed.iter().map(|changed| changed.route.clone()).collect::<Vec<_>>(),
                "{to}"
            );
            assert_eq!(found.unchanged, plan.untouched.len(), "{to}");
            let restart: &[&str] = if to.contains("64MiB") { &["memory.limit"] } else { &[] };
            assert_eq!(plan.needs_restart, restart, "{to}");
        }
        let new = table(&TABLE.replace("  plain:", "  other:"));
        let plan = Plan::between(&running.written.whole(), &new.written.whole());
        assert_eq!(
            (plan.added, plan.removed, plan.untouched),
            (vec!["other".to_owned()], vec!["plain".to_owned()], vec!["staged".to_owned()])
        );
    }

    #[test]
    fn what_is_shown_for_a_comparison_has_no_secret_and_finds_the_rest() {
        let running = table(TABLE).written.shown();
        assert!(!running.to_string().contains("first-password"), "{running}");
        let plan = |from: &str, to: &str| Plan::between(&running, &table(&TABLE.replace(from, to)).written.shown());
        assert_eq!(plan("first-password", "second-password").changed, [], "nobody can tell");
        assert_eq!(keys(&plan("sasl.username: me", "sasl.username: you"))[0].1, ["clusters.k.options.sasl.username"]);
    }
}
