//! Topics of a table, read without a group and with patience.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;
use trestle_core::{Excerpt, Fault, ReadFrom, Reader, ReaderSpec};

use crate::{
    clusters::{self, Use},
    config::{Endpoint, Table},
    patience::{is_passing, open},
};

/// Bytes that a client may buffer.
const BUFFER: usize = 16 << 20;

/// One end of the way that messages take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    From,
    To,
}

/// `CLUSTER/TOPIC`, or a route, which stands for the topic that it reads or writes.
pub fn endpoint(table: &Table, text: &str, end: End) -> Result<Endpoint, String> {
    let Some((name, topic)) = text.split_once('/') else {
        let hops = table.routes.get(text).map(|route| &route.hops);
        let at = hops.and_then(|hops| match end {
            End::From => hops.first().map(|hop| &hop.from),
            End::To => hops.last().map(|hop| &hop.to),
        });
        let routes = table.routes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return at
            .cloned()
            .ok_or_else(|| format!("`{text}` is neither CLUSTER/TOPIC nor a route of the table, which has {routes}"));
    };
    let cluster = table.clusters.get(name).ok_or_else(|| {
        let clusters = table.clusters.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("`{text}`: the table has no cluster `{name}`, only {clusters}")
    })?;
    let protocol =
        clusters::protocol(cluster.protocol).ok_or_else(|| format!("nothing here speaks {}", cluster.protocol))?;
    let topic = (protocol.topic)(topic, Use::Read).map_err(|problem| format!("`{text}`: {problem}"))?;
    Ok(Endpoint { cluster: cluster.clone(), topic, options: BTreeMap::new() })
}

/// Where the routes that end at `to`, and begin at `from` where it is given, keep what they could not deliver.
pub fn dead_letters(table: &Table, from: Option<&Endpoint>, to: &Endpoint) -> Vec<Endpoint> {
    let same = |a: &Endpoint, b: &Endpoint| a.cluster.name == b.cluster.name && a.topic == b.topic;
    let mut letters: Vec<Endpoint> = Vec::new();
    for route in table.routes.values() {
        let begins = from.is_none_or(|from| route.hops.iter().any(|hop| same(&hop.from, from)));
        let ends = route.hops.iter().any(|hop| same(&hop.to, to));
        if begins && ends && !letters.iter().any(|letter| same(letter, &route.dead_letter)) {
            letters.push(route.dead_letter.clone());
        }
    }
    letters
}

/// A topic that is being read.
pub struct Reading {
    reader: Box<dyn Reader>,
    name: String,
    /// How long a cluster may say nothing.
    patience: Duration,
    /// Of each partition that was read from.
    read: BTreeMap<u32, u64>,
    disturbed: Option<Fault>,
}

impl Reading {
    /// Tries for as long as `patience`. `None`: there is no such topic.
    pub async fn open(
        endpoint: &Endpoint,
        from: ReadFrom,
        follow: bool,
        largest_message: usize,
        patience: Duration,
    ) -> Result<Option<Self>, String> {
        let connector = clusters::connect(&endpoint.cluster).map_err(|error| error.problem)?;
        let spec = ReaderSpec {
            topic: endpoint.topic.clone(),
            from,
            follow,
            buffer_bytes: BUFFER,
            largest_message,
            options: endpoint.options.clone(),
        };
        let reader = open(endpoint, patience, || connector.reader(spec.clone())).await?;
        let (name, read) = (endpoint.to_string(), BTreeMap::new());
        Ok(reader.map(|reader| Reading { reader, name, patience, read, disturbed: None }))
    }

    /// The next messages of a partition, and how many of it were read before them. `None` at the end. Waits for as long
    /// as the topic has nothing; cancel-safe.
    pub async fn next(&mut self) -> Result<Option<(Excerpt, u64)>, String> {
        loop {
            match self.reader.next().await {
                Ok(Some(excerpt)) => {
                    self.disturbed = None;
                    let read = self.read.entry(excerpt.partition.0).or_default();
                    let before = *read;
                    *read += excerpt.messages.len() as u64;
                    return Ok(Some((excerpt, before)));
                }
                Ok(None) => return Ok(None),
                // The reader mends itself; what a person has to mend is an error.
                Err(fault) if is_passing(&fault) => self.disturbed = Some(fault),
                Err(fault) => return Err(format!("{}: {fault}", self.name)),
            }
        }
    }

    /// As [`Reading::next`], for a topic that has something or ends.
    pub async fn next_in_time(&mut self) -> Result<Option<(Excerpt, u64)>, String> {
        let patience = self.patience;
        if let Ok(read) = timeout(patience, self.next()).await {
            return read;
        }
        let why = self.disturbed().unwrap_or_default();
        Err(format!("{}: nothing could be read for {patience:?}; {why}", self.name))
    }

    /// What kept the topic from being read since it last was.
    pub fn disturbed(&self) -> Option<String> {
        self.disturbed.as_ref().map(|fault| format!("reading {} is disturbed: {fault}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn table() -> Table {
        let text = r#"
clusters:
  main: { type: kafka, servers: "127.0.0.1:9092" }
  staging: { type: pulsar, url: "pulsar://127.0.0.1:6650", admin: "http://127.0.0.1:8080" }
routes:
  orders:
    from: { cluster: main, topic: orders }
    via: { cluster: staging, topic: "persistent://public/default/orders" }
    to: { cluster: main, topic: copied }
"#;
        let checked = config::check(Path::new("table.yaml"), text, &|_| None);
        checked.table.unwrap_or_else(|| panic!("{:?}", checked.mistakes))
    }

    #[test]
    fn topics_are_named_by_cluster_or_by_route() {
        let table = table();
        let named = |text, end| endpoint(&table, text, end).map(|endpoint| endpoint.to_string());
        assert_eq!(named("orders", End::From), Ok("main/orders".into()));
        assert_eq!(named("orders", End::To), Ok("main/copied".into()));
        assert_eq!(named("main/any", End::To), Ok("main/any".into()));
        let full = "staging/persistent://public/default/x";
        assert_eq!(named(full, End::To), Ok(full.into()));
        for (text, says) in [("none", "has orders"), ("none/x", "only main, staging"), ("main/a b", "not allowed")] {
            assert!(named(text, End::To).unwrap_err().contains(says), "{text}");
        }
    }

    #[test]
    fn dead_letters_are_those_of_the_routes_between() {
        let table = table();
        let at = |text: &str| endpoint(&table, text, End::From).unwrap();
        let told = |from: Option<&str>, to: &str| dead_letters(&table, from.map(at).as_ref(), &at(to)).len();
        assert_eq!(told(Some("main/orders"), "main/copied"), 1);
        assert_eq!(told(None, "main/copied"), 1);
        assert_eq!(told(Some("main/orders"), "staging/persistent://public/default/orders"), 1);
        assert_eq!(told(Some("main/other"), "main/copied"), 0);
        assert_eq!(told(None, "main/orders"), 0);
    }
}
