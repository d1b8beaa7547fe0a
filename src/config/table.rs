//! The route table as it is carried out: checked, every default filled in. Only [`super::check`] makes one.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use regex::Regex;
use serde_json::{Value, json};
use trestle_core::{Guarantee, Start};

use crate::{
    pipeline::{Edits, MaxAhead, Placement},
    policy::{dead_letter_limit::DeadLetterLimit, gate::GatePolicy, order::SetAside, rate::Rate, retry::Retry},
};

pub use super::shape::OnGap;
use super::{auth::Auth, limits::AdminLimits, written::Written};

#[derive(Clone, Debug)]
pub struct Table {
    /// Where it was read, for a reload.
    pub file: PathBuf,
    pub clusters: BTreeMap<String, Arc<Cluster>>,
    pub routes: BTreeMap<String, Arc<Route>>,
    /// Routes of every topic that matches, as far as they were found.
    pub patterns: Vec<Pattern>,
    /// Where the admin server listens.
    pub listen: SocketAddr,
    /// Who may ask there.
    pub auth: Auth,
    /// What clients may take there.
    pub limits: AdminLimits,
    pub memory: Memory,
    /// All of it by its own names.
    pub written: Written,
    /// How long a drain may finish what is in flight.
    pub grace: Duration,
}

/// One installation of one protocol. [`crate::clusters::connect`] makes its connector.
#[derive(Clone, PartialEq)]
pub struct Cluster {
    pub name: String,
    /// `type` in the table.
    pub protocol: &'static str,
    pub guarantee: Guarantee,
    /// Shared by all routes that write to it.
    pub rate: Rate,
    /// The connector's own settings; they may hold secrets.
    pub(crate) settings: Value,
}

#[derive(Clone, PartialEq)]
pub struct Endpoint {
    pub cluster: Arc<Cluster>,
    /// In full, as the protocol names it.
    pub topic: String,
    pub options: BTreeMap<String, String>,
}

/// What topics a route of the table is for. Each that is found becomes a [`Route`] named after both.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The route that the table names.
    pub route: String,
    pub cluster: Arc<Cluster>,
    /// As written.
    pub like: String,
    /// Matches whole names.
    pub expression: Regex,
    pub look_every: Duration,
}

/// Two that are equal mean the same, clusters included.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    pub name: String,
    /// The table's name of it: another one where a route of the table has several topics.
    pub declared: String,
    /// One, `deliver`; or two, `stage` and `deliver`, with a `via` between them.
    pub hops: Vec<Hop>,
    /// Of all hops.
    pub dead_letter: Endpoint,
    /// Over all hops; nothing when any number is written.
    pub dead_letter_limit: Option<DeadLetterLimit>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Hop {
    /// `stage` or `deliver`.
    pub name: &'static str,
    pub from: Endpoint,
    pub group: String,
    pub start: Start,
    pub on_gap: OnGap,
    pub to: Endpoint,
    /// What the route does to each message; nothing in its second hop.
    pub edits: Edits,
    /// Staging always keeps the partition's number.
    pub placement: Placement,
    /// Staging has its topic for itself, so that a newer instance may take its lanes over.
    pub fenced: bool,
    pub policies: HopPolicies,
}

#[derive(Clone, PartialEq, Debug)]
pub struct HopPolicies {
    pub retry: Retry,
    pub gate: GatePolicy,
    pub set_aside: SetAside,
    pub rate: Rate,
    pub send_timeout: Duration,
    pub revoke_timeout: Duration,
    pub hung_after: Duration,
    pub commit_interval: Duration,
    pub max_ahead: MaxAhead,
}

/// Bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    pub limit: usize,
    pub largest_message: usize,
}

impl Cluster {
    /// All that makes it what it is, by the table's names; secrets included.
    pub(super) fn written(&self) -> Value {
        let mut written = self.settings.clone();
        written["type"] = self.protocol.into();
        written["durability"] = if self.guarantee == Guarantee::Accepted { "accepted" } else { "replicated" }.into();
        written["rate"] = json!({ "messages": self.rate.messages, "bytes": self.rate.bytes });
        written
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Without the options' values, which may be secrets.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { cluster, topic, options } = self;
        let names: Vec<_> = options.keys().collect();
        f.debug_struct("Endpoint").field("cluster", cluster).field("topic", topic).field("options", &names).finish()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster.name, self.topic)
    }
}
