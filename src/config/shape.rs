//! The route table as it is written. Its doc comments are the descriptions of the JSON Schema that `trestle schema` prints.

mod admin;

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::admin::{ADDRESS, Admin, Algorithm, Auth, Jwt, Limits, Metrics, Required, Scope};
use super::quantity::{Size, Time};
use crate::policy::order;

/// Which topic goes where, and how.
#[derive(Clone, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Trestle route table")]
pub struct Table {
    /// The clusters that the routes speak of, by a name of your choice.
    #[schemars(schema_with = "clusters")]
    pub clusters: BTreeMap<String, Value>,
    /// What holds for every route that does not say otherwise, key by key.
    #[serde(default)]
    pub defaults: Defaults,
    /// The routes, by a name of your choice: it appears in metrics, groups, headers and dead letters.
    pub routes: BTreeMap<String, Route>,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub memory: Memory,
    #[serde(default)]
    pub shutdown: Shutdown,
}

/// The way of one topic's messages.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub from: From,
    /// A durable topic between the two, so that an outage of the target never holds the source back.
    pub via: Option<Via>,
    pub to: To,
    /// What is changed in each message on purpose, or left out; one step after the other, in the first hop.
    #[serde(default)]
    pub transform: Vec<Transform>,
    /// What is kept in order, and so what a message that fails holds back: all of its target partition, its own key, or
    /// nothing.
    #[serde(default)]
    pub order: Order,
    /// With `order: key` or `none`: messages that may wait apart for another attempt, in each target partition. With more the
    /// partition waits for them.
    #[serde(default = "set_aside")]
    #[schemars(range(min = 1, max = 100_000))]
    pub set_aside: u32,
    /// Where a message goes: where the target's own clients put its key, to the source partition's number, or to one
    /// partition after the other, batch by batch.
    #[serde(default)]
    pub partitioning: Partitioning,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub gate: Gate,
    /// What each hop of the route may send a second. Default: no limit.
    #[serde(default)]
    pub rate: Rate,
    /// A send that is not confirmed in this time has failed.
    #[serde(default = "send_timeout")]
    pub send_timeout: Time,
    /// How long a partition that is being taken away waits for the sends in flight.
    #[serde(default = "revoke_timeout")]
    pub revoke_timeout: Time,
    /// How long a part may say nothing although something is waited for, before its hop is set up anew. Default: 1m, or twice
    /// the `send_timeout` if that is longer.
    pub hung_after: Option<Time>,
    /// How often settled positions are committed at the source. What settled since is repeated after a kill.
    #[serde(default = "commit_interval")]
    pub commit_interval: Time,
    #[serde(default)]
    pub max_ahead: MaxAhead,
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// Policies that hold for one hop alone.
    #[serde(default)]
    pub hops: Hops,
    /// Adds the origin and the list of topics it came through to each message, as headers, and leaves out a message that has
    /// been at an end of the route before: a circle of such routes carries each message round once.
    #[serde(default)]
    pub stamp: bool,
}

/// Where messages are read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// A name under `clusters`.
    #[schemars(length(min = 1))]
    pub cluster: String,
    #[schemars(length(min = 1))]
    pub topic: Option<String>,
    /// Several topics in place of `topic`. Each is carried by itself, as if it were a route named `ROUTE:TOPIC`; `{topic}` in
    /// a topic or group of the route stands for the last part of its name.
    #[serde(default)]
    pub topics: Vec<String>,
    /// In place of `topic`: every topic whose name, in full, is matched by this regular expression. Looked for again and
    /// again; a topic that the table's routes write is none of them.
    #[schemars(length(min = 1))]
    pub pattern: Option<String>,
    /// With `pattern`: how often topics are looked for.
    #[serde(default = "look_every")]
    pub look_every: Time,
    /// The consumer group or subscription; used by one route only, so with several topics `{topic}` is part of it. Default:
    /// `trestle-` and the route's name, with several topics `-{topic}` behind it.
    #[schemars(length(min = 1))]
    pub group: Option<String>,
    /// Where to begin when the group has no position yet: `earliest`, `latest`, or a time such as `2026-01-31T12:00:00Z`, by
    /// the cluster's own dates.
    #[serde(default = "start")]
    #[schemars(length(min = 1))]
    pub start: String,
    /// In place of `start`: the first offset of each partition. One that is not named begins at its first message.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = { "type": "integer", "minimum": 0 }))]
    pub start_offsets: BTreeMap<String, u64>,
    /// What to do when the broker no longer has the next message: stop the partition, or go on at the earliest it has.
    #[serde(default)]
    pub on_gap: OnGap,
    /// The client's own settings for this topic, by the client's own names.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Where messages are staged.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Via {
    /// A name under `clusters`.
    #[schemars(length(min = 1))]
    pub cluster: String,
    /// Used by this route only.
    #[schemars(length(min = 1))]
    pub topic: String,
    /// The group or subscription that delivers from here. Default: `trestle-`, the route's name, and `-deliver`.
    #[schemars(length(min = 1))]
    pub group: Option<String>,
    /// The client's own settings for this topic, by the client's own names.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Where messages are delivered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct To {
    /// A name under `clusters`.
    #[schemars(length(min = 1))]
    pub cluster: String,
    #[schemars(length(min = 1))]
    pub topic: String,
    /// The client's own settings for this topic, by the client's own names.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Where messages go that cannot be delivered, and how many may.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetter {
    /// A name under `clusters`. Default: one that keeps dead letters by itself: that of `via`, else of `from` or `to`, else
    /// the only one in the table.
    #[schemars(length(min = 1))]
    pub cluster: Option<String>,
    /// Default where the cluster keeps dead letters by itself: a topic named after the route.
    #[schemars(length(min = 1))]
    pub topic: Option<String>,
    /// More dead letters than this within the time stop the route until a person has looked, rather than empty it into the
    /// dead letters: the fault is in no message then. Counted in a route over all its hops, in each process; or `off`.
    pub most: Limit<u32>,
    /// See `most`.
    pub within: Time,
}

/// One step: exactly one of these.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Transform {
    /// Only messages that pass go on.
    pub keep: Option<Test>,
    /// Messages that pass do not go on.
    pub drop: Option<Test>,
    /// One header of this name, with this value: in the place of the first that has the name, else behind the others.
    pub set: Option<SetHeader>,
    /// Every header of the name gets the other one.
    pub rename: Option<Rename>,
    /// The name of a header: every one of it is taken away.
    #[schemars(length(min = 1))]
    pub remove: Option<String>,
    /// The name of a header: the value of the last one becomes the key. A message without it keeps its key.
    #[schemars(length(min = 1))]
    pub rekey: Option<String>,
}

/// A question to the key, or to the headers of a name, of which any may pass: one of `equals`, `prefix` and `regex`, or whether
/// it is there.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Test {
    /// The name of a header.
    #[schemars(length(min = 1))]
    pub header: Option<String>,
    /// In place of `header`: the key.
    pub key: bool,
    pub equals: Option<String>,
    pub prefix: Option<String>,
    /// Found anywhere, unless it has anchors.
    pub regex: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetHeader {
    #[schemars(length(min = 1))]
    pub header: String,
    pub value: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    #[schemars(length(min = 1))]
    pub header: String,
    #[schemars(length(min = 1))]
    pub to: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    #[default]
    Stop,
    Earliest,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    #[default]
    Partition,
    Key,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Partitioning {
    #[default]
    Key,
    Same,
    RoundRobin,
}

/// How often a message is tried before it is dead-lettered. An outage spends none of these.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The first delay.
    pub initial: Time,
    /// The longest delay.
    pub max: Time,
    /// Each delay is so many times the one before it.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub multiplier: f64,
    /// Each delay is shortened by chance, by up to this part of it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// Attempts beyond the first.
    #[schemars(range(max = 100))]
    pub retries: u32,
}

/// When sending to a partition is given up for a while, and how it is tried again. Nothing is lost or dead-lettered meanwhile.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Failures in a row that close the gate; an outage closes it at once.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: u32,
    /// From closing to the first probe; each one that fails doubles it.
    pub initial: Time,
    /// The longest time between two probes.
    pub max: Time,
    /// A probe that takes longer has failed. Default: `send_timeout`.
    pub probe: Option<Time>,
}

/// What may be sent a second, repeats included. What waits is not read from the source; nothing is dropped.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    /// Messages a second, or `off`.
    pub messages: Limit<u32>,
    /// Bytes a second, or `off`. A message that is larger goes, and those behind it wait the longer.
    pub bytes: Limit<Size>,
}

/// A number, or `off`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Limit<T> {
    At(T),
    Off(Off),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Off {
    Off,
}

/// How far a partition may read past its oldest unsettled message. Bounds what a kill repeats.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaxAhead {
    #[schemars(range(min = 1, max = 1_000_000))]
    pub messages: u32,
    pub bytes: Size,
}

/// Policies of one hop, which are those of the route where it says nothing, key by key.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hops {
    /// Into `via`.
    pub stage: HopPolicies,
    /// Into the target.
    pub deliver: HopPolicies,
}

/// See the same settings of a route.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HopPolicies {
    pub order: Order,
    #[schemars(range(min = 1, max = 100_000))]
    pub set_aside: u32,
    pub retry: Retry,
    pub gate: Gate,
    pub rate: Rate,
    pub send_timeout: Time,
    pub revoke_timeout: Time,
    pub hung_after: Option<Time>,
    pub commit_interval: Time,
    pub max_ahead: MaxAhead,
}

/// What holds for every route that does not say otherwise, key by key.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    pub retry: Retry,
    pub gate: Gate,
    pub rate: Rate,
    pub send_timeout: Option<Time>,
    pub revoke_timeout: Option<Time>,
    pub hung_after: Option<Time>,
    pub commit_interval: Option<Time>,
    pub max_ahead: MaxAhead,
    #[schemars(range(min = 1, max = 100_000))]
    pub set_aside: Option<u32>,
    pub dead_letter: DeadLetterDefaults,
}

/// See `dead_letter` of a route.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterDefaults {
    /// More dead letters than this within the time stop a route; or `off`.
    pub most: Limit<u32>,
    /// See `most`.
    pub within: Time,
}

/// What all routes together may hold.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Bytes of messages in flight, over all routes.
    pub limit: Size,
    /// A larger message is rejected at the source.
    pub largest_message: Size,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long a drain may finish what is in flight. Keep it below what the container's supervisor allows.
    pub grace: Time,
}

impl std::convert::From<Order> for order::Order {
    fn from(order: Order) -> Self {
        match order {
            Order::Partition => order::Order::Partition,
            Order::Key => order::Order::Key,
            Order::None => order::Order::None,
        }
    }
}

impl Default for HopPolicies {
    fn default() -> Self {
        HopPolicies {
            order: Order::default(),
            set_aside: set_aside(),
            retry: Retry::default(),
            gate: Gate::default(),
            rate: Rate::default(),
            send_timeout: send_timeout(),
            revoke_timeout: revoke_timeout(),
            hung_after: None,
            commit_interval: commit_interval(),
            max_ahead: MaxAhead::default(),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry { initial: Time::millis(100), max: Time::millis(5_000), multiplier: 2.0, jitter: 0.25, retries: 3 }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Gate { failures: 5, initial: Time::millis(100), max: Time::millis(5_000), probe: None }
    }
}

/// Generous: a bad producer makes some dozens, a wrong target as many as there are messages.
const MOST_DEAD_LETTERS: (Limit<u32>, Time) = (Limit::At(1_000), Time::millis(60_000));

impl Default for DeadLetter {
    fn default() -> Self {
        let (most, within) = MOST_DEAD_LETTERS;
        DeadLetter { cluster: None, topic: None, most, within }
    }
}

impl Default for DeadLetterDefaults {
    fn default() -> Self {
        let (most, within) = MOST_DEAD_LETTERS;
        DeadLetterDefaults { most, within }
    }
}

impl<T> Default for Limit<T> {
    fn default() -> Self {
        Limit::Off(Off::Off)
    }
}

impl<T> Limit<T> {
    pub fn at(self) -> Option<T> {
        match self {
            Limit::At(limit) => Some(limit),
            Limit::Off(_) => None,
        }
    }
}

impl Default for MaxAhead {
    fn default() -> Self {
        MaxAhead { messages: 10_000, bytes: Size::mib(64) }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory { limit: Size::mib(256), largest_message: Size::mib(5) }
    }
}

impl Default for Shutdown {
    /// Kubernetes kills 30 s after SIGTERM by default; this leaves time to close.
    fn default() -> Self {
        Shutdown { grace: Time::millis(25_000) }
    }
}

const fn look_every() -> Time {
    Time::millis(30_000)
}

fn start() -> String {
    EARLIEST.to_owned()
}

/// The names that `start` takes.
pub const EARLIEST: &str = "earliest";
pub const LATEST: &str = "latest";

const fn send_timeout() -> Time {
    Time::millis(3_000)
}

const fn set_aside() -> u32 {
    1_000
}

const fn revoke_timeout() -> Time {
    Time::millis(5_000)
}

const fn commit_interval() -> Time {
    Time::millis(200)
}

/// The JSON Schema of the whole table, connectors' settings included.
pub fn schema() -> Value {
    SchemaGenerator::default().into_root_schema_for::<Table>().into()
}

/// The schema as other programs are to have it. A client's option is a text here, but is written as any scalar.
pub fn published_schema() -> Value {
    let mut schema = schema();
    let text = serde_json::json!({ "type": "string" });
    widen(&mut schema, &text, &serde_json::json!({ "type": ["string", "number", "boolean"] }));
    schema
}

/// Maps of this kind of value take the wider one.
fn widen(schema: &mut Value, narrow: &Value, wide: &Value) {
    match schema {
        Value::Object(object) => {
            for (name, inner) in object {
                if name == "additionalProperties" && inner == narrow {
                    *inner = wide.clone();
                }
                widen(inner, narrow, wide);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| widen(inner, narrow, wide)),
        _ => {}
    }
}

fn clusters(generator: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object", "additionalProperties": crate::clusters::schema(generator) })
}
