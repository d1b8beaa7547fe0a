use std::collections::BTreeMap;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use schemars::JsonSchema;
use serde::Deserialize;
use trestle_core::OptionsOf;

use crate::options;

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

impl Settings {
    pub(crate) fn check(&self) -> Result<(), String> {
        for server in self.servers.split(',').map(str::trim) {
            let port =
                server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(format!("`servers`: `{server}` is not host:port; several are separated by commas"));
            }
        }
        options::refused(OptionsOf::Cluster, &self.options)?;
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
            // A path that drops packets and resets nothing is noticed no sooner.
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "10000")
            // A connection that was closed for being idle is nothing to tell.
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in self.options.iter().chain(options).filter(|(name, _)| !options::is_own(name)) {
            config.set(name, value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[(&str, &str)]) -> Settings {
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Settings { servers: "127.0.0.1:9092".into(), options }
    }

    #[test]
    fn an_option_that_librdkafka_does_not_know_is_refused() {
        assert!(settings(&[("session.timeout", "1")]).check().unwrap_err().contains("session.timeout"));
        assert!(settings(&[("session.timeout.ms", "soon")]).check().is_err());
        settings(&[("session.timeout.ms", "6000"), ("compression.type", "zstd")]).check().unwrap();
    }

    #[test]
    fn servers_are_named_with_their_ports() {
        for servers in ["", "a:1,,b:1", "127.0.0.1", "a:", ":9092", "a:b", "a:99999"] {
            let settings = Settings { servers: servers.into(), options: BTreeMap::new() };
            assert!(settings.check().is_err(), "{servers:?}");
        }
    }
}
