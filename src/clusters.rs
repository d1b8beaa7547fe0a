//! The protocols that Trestle speaks: the only file that names them all.

use std::{collections::BTreeMap, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trestle_core::{Accounts, Connector, OptionsOf, WrongOption};

use crate::config::{Cluster, Endpoint, Rate};

/// Ties what a crate says of its protocol to the rest.
macro_rules! protocol {
    ($crate_name:ident { $($field:ident: $value:expr),+ $(,)? }) => {
        Protocol {
            $($field: $value,)+
            options: $crate_name::check_options,
            accounts: &$crate_name::ACCOUNTS,
            schema: |generator| $crate_name::Settings::json_schema(generator),
            connect: |cluster, settings| {
                let settings = typed::<$crate_name::Settings>(settings)?;
                $crate_name::connector(cluster, settings).map_err(|problem| SettingsError { path: Vec::new(), problem })
            },
        }
    };
}

/// One entry a protocol.
const PROTOCOLS: &[Protocol] = &[
    protocol!(trestle_kafka {
        name: "kafka",
        topic: kafka_topic,
        carries: kafka_letter,
        longest_topic: 249,
        folded: kafka_folded,
        group: any_group,
        stages: true,
        dead_letters: None,
        takes_all: &[("trestle.untimely", "header")],
        spreads: |_, _| false,
        begins: |_| true,
        reading: &["isolation.level"],
        offsets: true,
        acknowledgement_window: Some(KAFKA_WINDOW),
    }),
    protocol!(trestle_pulsar {
        name: "pulsar",
        topic: pulsar_topic,
        carries: pulsar_letter,
        longest_topic: 1_000,
        folded: same,
        group: pulsar_subscription,
        stages: true,
        dead_letters: Some(DEAD_LETTERS),
        takes_all: &[],
        spreads: |_, options| trestle_pulsar::spreads(options),
        begins: |_| true,
        reading: &[],
        offsets: false,
        acknowledgement_window: None,
    }),
    protocol!(trestle_rocketmq {
        name: "rocketmq",
        topic: rocketmq_topic,
        carries: rocketmq_letter,
        longest_topic: 127,
        folded: same,
        group: rocketmq_group,
        stages: false,
        dead_letters: None,
        takes_all: &[],
        spreads: |cluster, _| trestle_rocketmq::is_behind_a_proxy(cluster),
        begins: |cluster| !trestle_rocketmq::is_behind_a_proxy(cluster),
        reading: &["tags"],
        offsets: true,
        acknowledgement_window: None,
    }),
];

/// A route's dead letters go here, with its name behind it, unless the table says otherwise.
const DEAD_LETTERS: &str = "persistent://public/dlq-pulsar-bridge/";

/// A member that has not given a partition back by then is thrown out: the group's rebalance timeout. That a message is not
/// acknowledged for long matters to none of the three: Kafka's source is polled whatever the target does, Pulsar's broker waits
/// for ever (`ackTimeoutMillis` is a client's own), and so does RocketMQ's for who pulls (its window is one of POP).
const KAFKA_WINDOW: (&str, u64) = ("max.poll.interval.ms", 300_000);

pub struct Protocol {
    /// `type` in the table.
    pub name: &'static str,
    /// The topic's name in full, or what is wrong with it.
    pub topic: fn(&str, Use) -> Result<String, String>,
    /// Whether a topic's name may have this character from another protocol's name.
    pub carries: fn(char) -> bool,
    /// Bytes of a topic's name at most.
    pub longest_topic: usize,
    /// Two topics that this makes equal cannot both exist.
    pub folded: fn(&str) -> String,
    /// What is wrong with the name of a consumer group or subscription.
    pub group: fn(&str) -> Result<(), String>,
    /// Which options of a cluster or topic its connector does not take.
    pub options: fn(OptionsOf, &BTreeMap<String, String>) -> Vec<WrongOption>,
    /// May be a route's `via`: staged messages are safe there until the next hop delivered them.
    pub stages: bool,
    /// Where it keeps dead letters by itself, if it does: the beginning of the topic's name.
    pub dead_letters: Option<&'static str>,
    /// Options of topics that Trestle has for itself, for staging and for dead letters, which take whatever comes.
    pub takes_all: &'static [(&'static str, &'static str)],
    /// Whether several members of a group read one partition at the same time, by the settings of a source's cluster and its
    /// options.
    pub spreads: fn(&Value, &BTreeMap<String, String>) -> bool,
    /// Whether a source may begin where the table says, and not only where its group is, by the settings of its cluster.
    pub begins: fn(&Value) -> bool,
    /// Options of a source that say which messages there are, and so hold for whoever reads the topic beside it.
    pub reading: &'static [&'static str],
    /// A source may begin at offsets that the table names.
    pub offsets: bool,
    /// What becomes of messages that are read and written there.
    pub accounts: &'static Accounts,
    /// The client's option, and its default in milliseconds, for how long a group waits for a partition that it takes away.
    pub acknowledgement_window: Option<(&'static str, u64)>,
    schema: fn(&mut SchemaGenerator) -> Schema,
    connect: Connect,
}

/// From a cluster's name and settings.
type Connect = fn(&str, Value) -> Result<Arc<dyn Connector>, SettingsError>;

/// What a topic is named for: some are only read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    Read,
    Write,
}

/// A connector does not take these settings.
#[derive(Clone, PartialEq, Debug)]
pub struct SettingsError {
    /// Keys that lead to the setting; empty when it speaks of several.
    pub path: Vec<String>,
    pub problem: String,
}

pub fn protocols() -> impl Iterator<Item = &'static Protocol> + Clone {
    PROTOCOLS.iter()
}

pub fn protocol(name: &str) -> Option<&'static Protocol> {
    protocols().find(|protocol| protocol.name == name)
}

/// Makes the connector of a checked cluster. Opens no connection.
pub fn connect(cluster: &Cluster) -> Result<Arc<dyn Connector>, SettingsError> {
    let unknown = || SettingsError { path: Vec::new(), problem: format!("nothing here speaks {}", cluster.protocol) };
    let protocol = protocol(cluster.protocol).ok_or_else(unknown)?;
    (protocol.connect)(&cluster.name, cluster.settings.clone()).map_err(|error| error.narrowed(&cluster.settings))
}

/// Options to write a topic that Trestle has for itself: what the table says, and else to take whatever comes.
pub fn taking_all(to: &Endpoint) -> BTreeMap<String, String> {
    let all = protocol(to.cluster.protocol).map_or(&[][..], |protocol| protocol.takes_all);
    let mut options: BTreeMap<String, String> =
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    options.extend(to.options.clone());
    options
}

impl SettingsError {
    /// A connector's own check names a setting in its words at best; points at the one it names.
    fn narrowed(mut self, settings: &Value) -> Self {
        let options = settings.get("options").and_then(Value::as_object);
        let inner = options.into_iter().flat_map(|options| options.keys()).map(|key| (Some("options"), key));
        let all = inner.chain(settings.as_object().into_iter().flat_map(|all| all.keys()).map(|key| (None, key)));
        let named = all.filter(|(_, key)| self.problem.contains(key.as_str())).max_by_key(|(_, key)| key.len());
        if let (true, Some((above, key))) = (self.path.is_empty(), named) {
            self.path = above.map(str::to_owned).into_iter().chain([key.clone()]).collect();
        }
        self
    }
}

/// Whether the connector has a setting of this name of its own.
pub fn has_setting(protocol: &Protocol, name: &str) -> bool {
    let schema = (protocol.schema)(&mut SchemaGenerator::default());
    schema.get("properties").is_some_and(|properties| properties.get(name).is_some())
}

/// The JSON Schema of one cluster: what all have in common, and the settings of each protocol's connector.
pub fn schema(generator: &mut SchemaGenerator) -> Schema {
    let mut branches = Vec::new();
    let mut rate = Value::from(generator.subschema_for::<Rate>());
    rate["description"] = "What all routes together may write to it in a second.".into();
    for protocol in PROTOCOLS {
        let mut schema = Value::from((protocol.schema)(generator));
        schema["properties"]["type"] = json!({ "type": "string", "const": protocol.name });
        let durability = json!({
            "type": "string",
            "enum": ["replicated", "accepted"],
            "default": "replicated",
            "description": "When a message counts as stored that the broker accepted but did not store as safely as it is configured to.",
        });
        if schema["properties"].get("durability").is_none() {
            schema["properties"]["durability"] = durability;
        }
        schema["properties"]["rate"] = rate.clone();
        match schema["required"].as_array_mut() {
            Some(required) => required.insert(0, "type".into()),
            None => schema["required"] = json!(["type"]),
        }
        branches.push(schema);
    }
    schemars::json_schema!({ "oneOf": branches })
}

fn typed<T: DeserializeOwned>(settings: Value) -> Result<T, SettingsError> {
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let segments = error.path().iter().map(|segment| segment.to_string().trim_matches(['[', ']']).to_owned());
        SettingsError { path: segments.collect(), problem: error.inner().to_string() }
    })
}

/// `org.apache.kafka.common.internals.Topic`.
fn kafka_topic(name: &str, usage: Use) -> Result<String, String> {
    const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];
    letters(name, "._-", 249)?;
    match name {
        "." | ".." => Err("`.` and `..` are no topics".into()),
        _ if usage == Use::Write && INTERNAL.contains(&name) => Err("the broker keeps this topic for itself".into()),
        _ => Ok(name.to_owned()),
    }
}

fn kafka_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// `%` and `|` mean something to RocketMQ.
fn rocketmq_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-".contains(c)
}

fn pulsar_letter(c: char) -> bool {
    c != '/' && !c.is_whitespace() && !c.is_control()
}

/// Kafka names its metrics with `_` for `.`, and refuses a topic whose name then is taken.
fn kafka_folded(name: &str) -> String {
    name.replace('.', "_")
}

fn same(name: &str) -> String {
    name.to_owned()
}

/// `org.apache.pulsar.common.naming.TopicName` and `NamedEntity`.
fn pulsar_topic(name: &str, _: Use) -> Result<String, String> {
    let Some(path) = name.strip_prefix("persistent://") else {
        if name.starts_with("non-persistent://") {
            return Err("a non-persistent topic loses messages by design".into());
        }
        let full = if name.matches('/').count() == 2 { name.to_owned() } else { format!("public/default/{name}") };
        return Err(format!("write it in full: persistent://{full}"));
    };
    let [tenant, namespace, topic] = path.split('/').collect::<Vec<_>>()[..] else {
        return Err("it has the form persistent://tenant/namespace/name".into());
    };
    letters(tenant, "-=:._", 255).and_then(|()| letters(namespace, "-=:._", 255))?;
    if topic.is_empty() || topic.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("its last part is empty, or has a blank in it".into());
    }
    if let Some((whole, number)) = topic.rsplit_once("-partition-")
        && number.parse::<u32>().is_ok()
    {
        return Err(format!(
            "`-partition-{number}` names one partition: name the topic, persistent://{tenant}/{namespace}/{whole}"
        ));
    }
    Ok(name.to_owned())
}

/// `org.apache.rocketmq.common.topic.TopicValidator`. Retry and dead-letter topics of a group are only read.
fn rocketmq_topic(name: &str, usage: Use) -> Result<String, String> {
    const SYSTEM: [&str; 9] = [
        "TBW102",
        "SCHEDULE_TOPIC_XXXX",
        "BenchmarkTest",
        "RMQ_SYS_TRANS_HALF_TOPIC",
        "RMQ_SYS_TRACE_TOPIC",
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC",
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
    ];
    letters(name, "%|_-", 127)?;
    let system = SYSTEM.contains(&name) || name.starts_with("rmq_sys_");
    if system || (usage == Use::Write && (name.starts_with("%RETRY%") || name.starts_with("%DLQ%"))) {
        return Err("the broker keeps this topic for itself".into());
    }
    Ok(name.to_owned())
}

fn any_group(name: &str) -> Result<(), String> {
    if name.chars().any(char::is_control) { Err("it has a control character in it".into()) } else { Ok(()) }
}

/// It is part of the path of the admin API and of the cursor's name.
fn pulsar_subscription(name: &str) -> Result<(), String> {
    if name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err("it has a slash or a blank in it".into());
    }
    Ok(())
}

/// `org.apache.rocketmq.client.Validators`: the rest of what is allowed is taken by `%RETRY%` before the name.
fn rocketmq_group(name: &str) -> Result<(), String> {
    letters(name, "%|_-", 120)
}

/// Letters and digits of ASCII, and `others`; 1 to `most` of them.
pub fn letters(name: &str, others: &str, most: usize) -> Result<(), String> {
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !others.contains(*c)) {
        Some(c) => Err(format!("`{}` is not allowed in it, only letters, digits and {others}", c.escape_default())),
        None if name.is_empty() => Err("it is empty".into()),
        None if name.len() > most => Err(format!("it is longer than {most} characters")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_our_own_takes_what_it_can_unless_the_table_says_otherwise() {
        let cluster = |protocol| {
            let (guarantee, rate) = (Default::default(), Default::default());
            Cluster { name: "c".into(), protocol, guarantee, rate, settings: Value::Null }
        };
        let options = |protocol: &'static str, said: &[(&str, &str)]| {
            let options = said.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            taking_all(&Endpoint { cluster: Arc::new(cluster(protocol)), topic: "t".into(), options })
        };
        let untimely = |value: &str| BTreeMap::from([("trestle.untimely".to_owned(), value.to_owned())]);
        assert_eq!(options("kafka", &[]), untimely("header"));
        assert_eq!(options("kafka", &[("trestle.untimely", "dead-letter")]), untimely("dead-letter"));
        assert!(options("pulsar", &[]).is_empty());
        for protocol in protocols() {
            let wrong = (protocol.options)(OptionsOf::Sink, &options(protocol.name, &[]));
            assert!(wrong.is_empty(), "its connector does not take them: {wrong:?}");
        }
    }

    #[test]
    fn each_protocol_names_topics_its_own_way() {
        let legal = |protocol: &str, name: &str, usage| (super::protocol(protocol).unwrap().topic)(name, usage).is_ok();
        for (protocol, good, bad) in [
            ("kafka", &["orders", "a.b_c-d"][..], &["", ".", "a b", "a/b", "ö", "__consumer_offsets"][..]),
            (
                "pulsar",
                &["persistent://public/default/orders", "persistent://a/b/c-partition-x"],
                &[
                    "orders",
                    "public/default/orders",
                    "non-persistent://a/b/c",
                    "persistent://a/b",
                    "persistent://a/b/c-partition-3",
                ],
            ),
            ("rocketmq", &["orders", "a_b-c"], &["", "a.b", "TBW102", "rmq_sys_x", "%DLQ%group"]),
        ] {
            for name in good {
                assert!(legal(protocol, name, Use::Write), "{protocol} {name}");
            }
            for name in bad {
                assert!(!legal(protocol, name, Use::Write), "{protocol} {name}");
            }
        }
        assert!(legal("rocketmq", "%DLQ%group", Use::Read), "a group's own dead letters may be read");
        assert!(!legal("kafka", &"x".repeat(250), Use::Read) && !legal("rocketmq", &"x".repeat(128), Use::Read));
    }
}
