//! What a new table changes, by what its routes mean and not by how they are written.

use std::{collections::BTreeMap, sync::Arc};

use crate::config::{Route, Table};

/// Names of routes, and how many stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Difference {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub unchanged: usize,
}

type Routes = BTreeMap<String, Arc<Route>>;

impl Difference {
    /// A route whose cluster is another one now has changed as well: its ends carry their clusters.
    pub fn between(running: &Routes, wanted: &Routes) -> Self {
        let mut difference = Difference::default();
        for (name, route) in wanted {
            match running.get(name) {
                None => difference.added.push(name.clone()),
                Some(same) if same == route => difference.unchanged += 1,
                Some(_) => difference.changed.push(name.clone()),
            }
        }
        difference.removed = running.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        difference
    }
}

/// What of the new table a running process cannot take over, in words.
pub fn needs_restart(running: &Table, wanted: &Table) -> Vec<String> {
    let mut settings = Vec::new();
    if running.listen != wanted.listen {
        settings.push(format!("`admin.listen` needs a restart: {} stays, {} was read", running.listen, wanted.listen));
    }
    let bytes = [
        ("memory.limit", running.memory.limit, wanted.memory.limit),
        ("memory.largest_message", running.memory.largest_message, wanted.memory.largest_message),
    ];
    for (setting, stays, read) in bytes.into_iter().filter(|(_, stays, read)| stays != read) {
        settings.push(format!("`{setting}` needs a restart: {stays} bytes stay, {read} were read"));
    }
    settings
}

/// Whether one of the two has to be gone before the other starts: they have the same name, read as the same group, or stage
/// in the same topic, which would fence the one that still drains.
pub fn exclude(one: &Route, other: &Route) -> bool {
    let pairs = || one.hops.iter().flat_map(|a| other.hops.iter().map(move |b| (a, b)));
    one.name == other.name
        || pairs().any(|(a, b)| a.group == b.group && a.from.topic == b.from.topic)
        || pairs().any(|(a, b)| a.fenced && b.fenced && a.to.topic == b.to.topic)
}
