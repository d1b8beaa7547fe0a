//! The metrics as README's table tells them.

use std::collections::{BTreeMap, BTreeSet};

/// What is promised of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub kind: String,
    /// Without `le`.
    pub labels: BTreeSet<String>,
}

/// By name. The rows are ``| `NAME`, `NAME` | TYPE | LABEL, LABEL | ... |``.
pub fn catalogue() -> BTreeMap<String, Described> {
    let rows = include_str!("../../../README.md").lines().filter(|line| line.starts_with("| `trestle_"));
    rows.flat_map(|row| {
        let cells: Vec<&'static str> = row.split('|').map(str::trim).collect();
        let words = |cell: &'static str| cell.split(", ").filter(|word| !word.is_empty());
        let labels = words(cells[3]).map(str::to_owned).collect();
        let described = Described { kind: cells[2].to_owned(), labels };
        words(cells[1]).map(move |name| (name.trim_matches('`').to_owned(), described.clone()))
    })
    .collect()
}
