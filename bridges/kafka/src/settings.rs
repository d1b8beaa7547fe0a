use std::collections::BTreeMap;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use schemars::JsonSchema;
use serde::Deserialize;

/// A Kafka cluster of the route table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Brokers to begin with, as host:port, separated by commas.
    pub servers: String,
    /// Further settings by librdkafka's own names, such as `security.protocol`, `sasl.username` or `compression.type`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Settings that Trestle's promises rest on, and why each cannot be set.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "it is `servers` of the cluster"),
    ("metadata.broker.list", "it is `servers` of the cluster"),
    ("group.id", "it is `group` of the route"),
    ("group.protocol", "partitions are handed over by the classic, cooperative protocol"),
    ("enable.auto.commit", "only settled messages are committed"),
    ("enable.auto.offset.store", "only settled messages are committed"),
    ("auto.offset.reset", "it is `start` of the route, and a position that is gone is reported as a gap"),
    ("enable.partition.eof", "nothing here asks for it"),
    ("queued.max.messages.kbytes", "it follows from the memory limit"),
    ("queued.min.messages", "it follows from the memory limit"),
    ("fetch.queue.backoff.ms", "bounded queues need it short"),
    ("enable.idempotence", "order depends on it; `durability` of the cluster decides"),
    ("acks", "`durability` of the cluster decides"),
    ("request.required.acks", "`durability` of the cluster decides"),
    ("max.in.flight", "order depends on it"),
    ("max.in.flight.requests.per.connection", "order depends on it"),
    ("retries", "order depends on it"),
    ("message.send.max.retries", "order depends on it"),
    ("enable.gapless.guarantee", "order is kept by sending one unit at a time"),
    ("message.timeout.ms", "it is the route's send timeout"),
    ("delivery.timeout.ms", "it is the route's send timeout"),
    ("message.max.bytes", "the topic's own limit counts"),
    ("transactional.id", "messages are not written in transactions"),
    ("allow.auto.create.topics", "topics are made with the partitions they need, or not at all"),
    ("partitioner", "keys are placed as Java clients place them"),
    ("statistics.interval.ms", "nobody would read them"),
];

impl Settings {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.servers.split(',').any(|server| server.trim().is_empty()) {
            return Err("`servers` must name at least one broker as host:port, separated by commas".into());
        }
        check_options(&self.options)?;
        // librdkafka itself knows its names and values best.
        self.base(&BTreeMap::new()).create_native_config().map(drop).map_err(|error| error.to_string())
    }

    /// What every client of the cluster has in common: the cluster's options, overridden by `options` of a topic.
    pub(crate) fn base(&self, options: &BTreeMap<String, String>) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.servers)
            .set("client.id", "trestle")
            // To ask for a topic must not make it, which a producer's metadata requests do by default.
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "10000")
            // A connection that was closed for being idle is nothing to tell.
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in self.options.iter().chain(options) {
            config.set(name, value);
        }
        config
    }
}

/// Refuses options that are Trestle's own, all at once.
pub(crate) fn check_options(options: &BTreeMap<String, String>) -> Result<(), String> {
    let mut wrong: Vec<String> = OWNED
        .iter()
        .filter(|(name, _)| options.contains_key(*name))
        .map(|(name, why)| format!("`{name}` cannot be set: {why}"))
        .collect();
    if options.get("partition.assignment.strategy").is_some_and(|strategy| strategy != "cooperative-sticky") {
        wrong.push("`partition.assignment.strategy` can only be cooperative-sticky".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[(&str, &str)]) -> Settings {
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Settings { servers: "127.0.0.1:9092".into(), options }
    }

    #[test]
    fn an_option_that_a_promise_rests_on_is_refused_with_its_reason() {
        let error = settings(&[("group.id", "x"), ("acks", "1")]).check().unwrap_err();
        assert!(error.contains("`group.id` cannot be set: it is `group` of the route"), "{error}");
        assert!(error.contains("`acks` cannot be set"), "{error}");
        let error = settings(&[("partition.assignment.strategy", "range")]).check().unwrap_err();
        assert!(error.contains("cooperative-sticky"), "{error}");
    }

    #[test]
    fn an_option_that_librdkafka_does_not_know_is_refused() {
        assert!(settings(&[("session.timeout", "1")]).check().unwrap_err().contains("session.timeout"));
        assert!(settings(&[("session.timeout.ms", "soon")]).check().is_err());
        settings(&[("session.timeout.ms", "6000"), ("compression.type", "zstd")]).check().unwrap();
    }

    #[test]
    fn servers_must_be_named() {
        for servers in ["", "a:1,,b:1"] {
            let settings = Settings { servers: servers.into(), options: BTreeMap::new() };
            assert!(settings.check().is_err(), "{servers:?}");
        }
    }
}
