//! What is said about metrics, held against README's table; the table itself is held against a running bridge by
//! `tests/all/metrics.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{catalogue, expression::named};

const README: &str = include_str!("../../../README.md");
const RULES: &str = include_str!("../../../compose/prometheus/rules.yaml");
const DASHBOARD: &str = include_str!("../../../compose/grafana/dashboard.json");
const RECORDER: &str = include_str!("../../../src/admin/metrics.rs");
/// Prometheus adds them to what it scrapes.
const ADDED: &[&str] = &["instance", "job"];

/// Names in an expression that nobody exposes. `recorded`: by rules.
fn unknown(expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let named = named(expression);
    let added: BTreeSet<String> = ADDED.iter().map(|label| label.to_string()).collect();
    let (mut found, mut all) = (Vec::new(), added.clone());
    for (metric, selected) in &named.metrics {
        let Some(labels) = labels(metric, recorded) else {
            found.push(format!("{metric} is no metric"));
            continue;
        };
        let strange = selected.iter().filter(|label| !labels.contains(*label) && !added.contains(*label));
        found.extend(strange.map(|label| format!("{metric} has no label {label}")));
        all.extend(labels);
    }
    let strange = named.grouping.iter().filter(|label| !all.contains(*label));
    found.extend(strange.map(|label| format!("nothing here has a label {label}")));
    found
}

/// `None`: there is no such metric.
fn labels(metric: &str, recorded: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let known = catalogue();
    let of = |labels: &[&str]| labels.iter().map(|label| label.to_string()).collect();
    if metric == "up" {
        return Some(BTreeSet::new());
    }
    if recorded.contains(metric) {
        return Some(of(&["route", "hop"]));
    }
    if let Some(described) = known.get(metric) {
        return Some(described.labels.clone());
    }
    let whole = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part))?;
    let histogram = known.get(whole).filter(|described| described.kind == "histogram")?;
    Some(histogram.labels.union(&of(&["le"])).cloned().collect())
}

/// The values of a key of the rules, also those that are written over several lines.
fn values(key: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    let mut inside = None;
    for line in RULES.lines() {
        let text = line.trim_start().trim_start_matches("- ");
        let indent = line.len() - text.len();
        if let Some(value) = text.strip_prefix(&format!("{key}: ")) {
            inside = Some(indent);
            values.push(value.trim_start_matches(">-").to_owned());
        } else if inside.is_some_and(|key| indent > key) {
            values.iter_mut().last().unwrap().push_str(&format!(" {text}"));
        } else {
            inside = None;
        }
    }
    values
}

/// Each label that a text fills in by `$labels.NAME` or `{{NAME}}`.
fn filled_in(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    let by_alerts = text.split("$labels.").skip(1).map(name);
    let by_legends = text.split("{{").skip(1).map(name).filter(|name| !name.is_empty());
    by_alerts.chain(by_legends).collect()
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    panels.into_iter().filter(|panel| panel["type"] != "row").collect()
}

#[test]
fn readme_describes_each_metric_that_the_program_records_and_no_other() {
    let names = RECORDER.split("\"trestle_").skip(1).filter_map(|rest| rest.split_once('"'));
    // The rest is series that its tests look for.
    let names = names.filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    let recorded: BTreeSet<String> = names.map(|(name, _)| format!("trestle_{name}")).collect();
    let described = catalogue();
    assert!(recorded.len() > 20, "{recorded:?}");
    assert_eq!(described.into_keys().collect::<BTreeSet<_>>(), recorded);
}

#[test]
fn alerts_name_only_metrics_and_labels_that_there_are() {
    let recorded: BTreeSet<String> = values("record").into_iter().collect();
    let expressions = values("expr");
    assert!(expressions.len() > 10 && recorded.len() == 2, "{expressions:?}");
    for expression in &expressions {
        assert_eq!(unknown(expression, &recorded), Vec::<String>::new(), "in {expression}");
        assert!(!named(expression).metrics.is_empty(), "{expression}");
    }
}

#[test]
fn each_alert_says_what_to_do_and_where_to_read_on() {
    let anchors: BTreeSet<String> = README
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let alerts = values("alert");
    let urls = values("runbook_url");
    assert_eq!(alerts.len(), urls.len());
    for (alert, url) in alerts.iter().zip(&urls) {
        let anchor = url.split_once("README.md#").map(|(_, anchor)| anchor);
        assert_eq!(anchor, Some(&*alert.to_lowercase()));
        assert!(anchors.contains(&alert.to_lowercase()), "README has no heading {alert}");
    }
    for key in ["summary", "description"] {
        assert_eq!(values(key).len(), alerts.len(), "{key}");
    }
    assert!(
        values("labels").iter().all(|labels| ["{ severity: critical }", "{ severity: warning }"].contains(&&**labels))
    );
    assert_eq!(values("labels").len(), alerts.len());
    // What a text fills in has to be a label of the alert's result.
    let expressions: Vec<String> = values("expr").split_off(values("record").len());
    for (nth, expression) in expressions.iter().enumerate() {
        let grouping = named(expression).grouping;
        let texts = format!("{} {}", values("summary")[nth], values("description")[nth]);
        let missing: Vec<String> =
            filled_in(&texts).into_iter().filter(|label| !grouping.contains(label) && label != "instance").collect();
        assert!(missing.is_empty(), "{}: {missing:?}", alerts[nth]);
    }
}

#[test]
fn every_panel_of_the_dashboard_names_an_existing_metric() {
    let panels = panels();
    assert!(panels.len() >= 15, "{}", panels.len());
    for panel in &panels {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title} has no description");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(unknown(expression, &BTreeSet::new()), Vec::<String>::new(), "{title}: {expression}");
            assert!(!named(expression).metrics.is_empty(), "{title}: {expression}");
            let grouping = named(expression).grouping;
            // Without a grouping, what Prometheus adds is there as well.
            let there = |label: &str| grouping.contains(label) || grouping.is_empty() && ADDED.contains(&label);
            let mut strange = filled_in(target["legendFormat"].as_str().unwrap());
            strange.retain(|label| !there(label));
            assert!(strange.is_empty(), "{title}: the legend has {strange:?}");
        }
    }
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        assert_eq!(unknown(query, &BTreeSet::new()), Vec::<String>::new(), "{query}");
    }
}

#[test]
fn the_dashboard_shows_what_an_operator_asks_for() {
    let shown: BTreeMap<String, BTreeSet<String>> = panels()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap().clone())
        .flat_map(|target| named(target["expr"].as_str().unwrap()).metrics)
        .collect();
    let missing: Vec<String> = catalogue()
        .into_keys()
        .filter(|name| name != "trestle_lag_seconds")
        .filter(|name| !shown.contains_key(name) && !shown.contains_key(&format!("{name}_bucket")))
        .collect();
    assert!(missing.is_empty(), "on no panel: {missing:?}");
}

#[test]
fn a_name_that_nobody_exposes_is_found() {
    let cases = [
        ("rate(trestle_delivered_total[1m])", "trestle_delivered_total is no metric"),
        ("trestle_route_up{topic=\"x\"}", "trestle_route_up has no label topic"),
        ("sum by (route, cause) (trestle_route_up)", "nothing here has a label cause"),
        ("trestle_route_up_bucket", "trestle_route_up_bucket is no metric"),
        ("trestle:gone:sum", "trestle:gone:sum is no metric"),
    ];
    for (expression, expected) in cases {
        assert_eq!(unknown(expression, &BTreeSet::new()), [expected], "{expression}");
    }
}
