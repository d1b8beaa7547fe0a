//! What a PromQL expression names, as far as it takes to find a name that nobody exposes. Whether it means something is promtool's
//! to say.

use std::collections::{BTreeMap, BTreeSet};

/// Words that are followed by labels in parentheses.
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

#[derive(Debug, Default)]
pub struct Named {
    /// Metrics, each with the labels that it is selected by.
    pub metrics: BTreeMap<String, BTreeSet<String>>,
    /// Labels that results are grouped or matched by.
    pub grouping: BTreeSet<String>,
}

/// Metrics are what begins with `trestle_` or is called `up`; `trestle:...` are recorded by rules.
pub fn named(expression: &str) -> Named {
    let mut named = Named::default();
    let mut rest = expression;
    let mut last = "";
    while let Some(at) = rest.find(|c: char| is_name(c) || c == '"' || c == '{' || c == '(') {
        rest = &rest[at..];
        match rest.as_bytes()[0] {
            b'"' => rest = past_string(rest),
            b'{' => {
                let end = end_of_braces(rest);
                if let Some(labels) = named.metrics.get_mut(last) {
                    labels.extend(selected(&rest[1..end]));
                }
                rest = &rest[end..];
            }
            b'(' => {
                if BEFORE_LABELS.contains(&last) {
                    let end = rest.find(')').unwrap_or(rest.len());
                    named.grouping.extend(rest[1..end].split(',').map(|label| label.trim().to_owned()));
                    rest = &rest[end..];
                } else {
                    rest = &rest[1..];
                }
                last = "";
            }
            _ => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                last = &rest[..end];
                if last == "up" || last.starts_with("trestle_") || last.starts_with("trestle:") {
                    named.metrics.entry(last.to_owned()).or_default();
                }
                rest = &rest[end..];
            }
        }
    }
    named
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn past_string(text: &str) -> &str {
    let end = text[1..].find('"').map_or(text.len(), |end| end + 2);
    &text[end..]
}

/// Where the brace that this begins with is closed: values may hold braces.
fn end_of_braces(text: &str) -> usize {
    let mut quoted = false;
    let end = text.find(|c| {
        quoted ^= c == '"';
        c == '}' && !quoted
    });
    end.unwrap_or(text.len())
}

/// The labels of `a="x",b=~"y"`.
fn selected(matchers: &str) -> impl Iterator<Item = String> {
    let outside = matchers.split('"').step_by(2).filter(|part| part.contains('='));
    outside.map(|part| part.trim_matches(|c: char| !is_name(c)).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_selectors_and_groups_are_found() {
        let named = named(
            r#"sum by (route, hop) (rate(trestle_a_total{route=~"$route, x{2}", cause="timeout"}[5m])) / on (route) group_left (version) trestle_b == 1 or up"#,
        );
        let of = |name: &str| named.metrics[name].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(named.metrics.keys().collect::<Vec<_>>(), ["trestle_a_total", "trestle_b", "up"]);
        assert_eq!((of("trestle_a_total"), of("trestle_b")), (vec!["cause", "route"], vec![]));
        assert_eq!(named.grouping.iter().collect::<Vec<_>>(), ["hop", "route", "version"]);
    }
}
