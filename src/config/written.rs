//! What a table says, setting by setting under the table's own names and with every default, to tell which of them another
//! one changes.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};

use super::{
    policies::OF_A_HOP,
    secrets::{Secrets, is_secret},
    shape,
    table::Cluster,
};

/// What stands for a value that nobody may see.
const BLOTTED: &str = "***";

/// There are secrets in it; [`Written::shown`] has none.
#[derive(Clone, Default)]
pub struct Written {
    routes: Map<String, Value>,
    clusters: Map<String, Value>,
    /// Of the process.
    settings: Map<String, Value>,
    secrets: Secrets,
}

impl Written {
    /// `clusters`: as they are meant.
    pub(super) fn new(table: &shape::Table, clusters: &BTreeMap<String, std::sync::Arc<Cluster>>) -> Self {
        let route = |(name, route): (&String, &shape::Route)| (name.clone(), effective(route));
        let cluster = |(name, cluster): (&String, &std::sync::Arc<Cluster>)| (name.clone(), cluster.written());
        let settings = json!({
            "admin": { "listen": table.admin.listen },
            "memory": table.memory,
            "shutdown": table.shutdown,
        });
        let settings = if let Value::Object(settings) = settings { settings } else { Map::new() };
        Written {
            routes: table.routes.iter().map(route).collect(),
            clusters: clusters.iter().map(cluster).collect(),
            settings,
            secrets: Secrets::default(),
        }
    }

    /// With these values blotted out wherever they are shown.
    pub(super) fn hiding(self, secrets: Secrets) -> Self {
        Written { secrets, ..self }
    }

    /// Everything, secrets included: for a comparison that never leaves the process.
    pub fn whole(&self) -> Value {
        json!({ "routes": self.routes, "clusters": self.clusters, "settings": self.settings })
    }

    /// Without what is secret.
    pub fn shown(&self) -> Value {
        self.blotted(self.whole(), false)
    }

    fn blotted(&self, value: Value, secret: bool) -> Value {
        match value {
            Value::Object(all) => {
                // Only what is below a name of the table's own grammar is judged by its key.
                let blotted = |(key, value): (String, Value)| {
                    let within = is_secret(&key, secret);
                    (key, self.blotted(value, within))
                };
                Value::Object(all.into_iter().map(blotted).collect())
            }
            Value::Array(all) => Value::Array(all.into_iter().map(|value| self.blotted(value, secret)).collect()),
            Value::Null => Value::Null,
            _ if secret => BLOTTED.into(),
            Value::String(text) => without_user(&self.secrets.scrub(&text)).into(),
            other => other,
        }
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

/// A route says what holds for its hops, each of which may say otherwise: what is left is what holds for them.
fn effective(route: &shape::Route) -> Value {
    let mut written = serde_json::to_value(route).unwrap_or_default();
    if let Some(settings) = written.as_object_mut() {
        OF_A_HOP.iter().for_each(|key| drop(settings.remove(*key)));
        if route.via.is_none()
            && let Some(hops) = settings.get_mut("hops").and_then(Value::as_object_mut)
        {
            hops.remove("stage");
        }
    }
    written
}

/// A URL may hold a user and a password.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{BLOTTED}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_user() {
        assert_eq!(without_user("http://me:pw@host:1/a@b"), "http://***@host:1/a@b");
        assert_eq!(without_user("pulsar://host:1/a@b"), "pulsar://host:1/a@b");
        assert_eq!(without_user("host:1"), "host:1");
    }
}
