//! The metrics page as Prometheus reads it, and what is said of it elsewhere: README's table, the alerts, the dashboard.

mod catalogue;
#[cfg(test)]
mod expression;
mod lint;

use std::collections::BTreeMap;

pub use catalogue::{Described, catalogue};
pub use lint::problems;

/// A metric with all of its series.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub name: String,
    pub help: Option<String>,
    /// `counter`, `gauge`, `histogram`, ...
    pub kind: Option<String>,
    pub series: Vec<Series>,
}

#[derive(Clone, Debug)]
pub struct Series {
    /// With the `_bucket`, `_sum` or `_count` of a histogram.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Family {
    /// Its metrics on a page in Prometheus' text format. What stands before its `TYPE` line belongs to nobody and gets a family
    /// without a type.
    pub fn all(page: &str) -> Vec<Family> {
        let mut families: Vec<Family> = Vec::new();
        for line in page.lines().filter(|line| !line.is_empty()) {
            let told = |kind: &str| line.strip_prefix(kind).and_then(|rest| rest.split_once(' '));
            if let Some((name, text)) = told("# HELP ") {
                family(&mut families, name).help = Some(text.into());
            } else if let Some((name, kind)) = told("# TYPE ") {
                family(&mut families, name).kind = Some(kind.into());
            } else if let Some(series) = Series::parse(line) {
                family(&mut families, &series.name.clone()).series.push(series);
            }
        }
        families
    }
}

/// The family of this metric or of this series, new if there is none.
fn family<'a>(families: &'a mut Vec<Family>, name: &str) -> &'a mut Family {
    let has = |family: &Family| {
        let parts: &[&str] =
            if family.kind.as_deref() == Some("histogram") { &["_bucket", "_sum", "_count"] } else { &[] };
        family.name == name || parts.iter().any(|part| name.strip_suffix(part) == Some(&family.name))
    };
    let at = families.iter().position(has).unwrap_or(families.len());
    if at == families.len() {
        families.push(Family { name: name.into(), ..Family::default() });
    }
    &mut families[at]
}

impl Series {
    /// `None` for a comment, and for what is no sample.
    pub(crate) fn parse(line: &str) -> Option<Series> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        if name.starts_with('#') {
            return None;
        }
        Some(Series { name: name.into(), labels: pairs(labels)?, value: value.parse().ok()? })
    }
}

/// `a="x",b="y \" z"`
fn pairs(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (label, rest) = text.split_once("=\"")?;
        let mut escaped = false;
        let end = rest.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        labels.insert(label.trim_start_matches(',').to_owned(), rest[..end].to_owned());
        text = &rest[end + 1..];
    }
    Some(labels)
}

#[cfg(test)]
mod tests;
