use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use trestle_core::{OptionsOf, WrongOption};

/// A RocketMQ cluster in the route table, reached by the remoting protocol.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name servers: `a:9876;b:9876`. When one does not answer, the next is asked.
    pub namesrv: String,
    /// Of a user known to the cluster's ACL; together with `secret_key`.
    #[serde(default)]
    pub access_key: Option<String>,
    #[serde(default)]
    pub secret_key: Option<String>,
    /// When a message counts as stored although a disk flush or a replica timed out.
    #[serde(default)]
    pub durability: Durability,
    /// See [`CLUSTER_OPTIONS`].
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Only when it is stored as the broker's configuration promises (SEND_OK).
    #[default]
    Replicated,
    /// As soon as the broker has it, also after FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT and SLAVE_NOT_AVAILABLE.
    Accepted,
}

/// Options of a cluster and of the topics read from it, by the Java client's names, in milliseconds, with their defaults.
pub const CLUSTER_OPTIONS: [(&str, u64); 3] = [
    // How long a broker may hold a pull for which it has no message.
    ("brokerSuspendMaxTimeMillis", 5_000),
    // How often members tell the brokers that they live.
    ("heartbeatBrokerInterval", 10_000),
    // How often members look who else is there, when no broker says that it changed.
    ("rebalanceInterval", 5_000),
];

/// Options of a topic written to: `true` or `false`.
pub const SINK_OPTIONS: [&str; 2] = [
    // A property `trestle-id` made of route, source partition and position, by which receivers can drop repeats.
    "trestleId",
    // A property `__SHARDINGKEY` with the key, which gRPC clients show as the message group.
    "shardingKey",
];

impl Settings {
    /// The addresses of the name servers.
    pub fn name_servers(&self) -> Result<Vec<String>, String> {
        let addresses = self.namesrv.split([';', ',']).map(str::trim).filter(|a| !a.is_empty());
        let addresses: Vec<String> = addresses.map(str::to_owned).collect();
        if addresses.is_empty() {
            return Err("namesrv: no name server; write `host:9876`, or several with `;` between them".into());
        }
        for address in &addresses {
            let port =
                address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(format!("namesrv: `{address}` is not `host:port`"));
            }
        }
        Ok(addresses)
    }
}

/// Milliseconds of each of [`CLUSTER_OPTIONS`]: the topic's, else the cluster's, else the default.
#[derive(Clone, Debug)]
pub struct Millis(BTreeMap<&'static str, u64>);

impl Millis {
    pub fn read(layers: &[&BTreeMap<String, String>]) -> Result<Self, String> {
        let mut millis: BTreeMap<&'static str, u64> = CLUSTER_OPTIONS.into();
        for (name, value) in layers.iter().flat_map(|layer| layer.iter()) {
            let known = CLUSTER_OPTIONS.iter().find(|(known, _)| known == name);
            let Some((known, _)) = known else {
                let names: Vec<&str> = CLUSTER_OPTIONS.iter().map(|(n, _)| *n).collect();
                return Err(format!("options: `{name}` is not known here; known are {}", names.join(", ")));
            };
            let number = value.parse().ok().filter(|n| *n > 0);
            millis.insert(
                known,
                number.ok_or_else(|| format!("options: {name}: `{value}` is not a number of milliseconds"))?,
            );
        }
        Ok(Millis(millis))
    }

    pub fn get(&self, name: &str) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.get(name).copied().unwrap_or_default())
    }
}

/// The options that are wrong: a name that is not known, or a value that its name does not take.
pub fn check_options(of: OptionsOf, options: &BTreeMap<String, String>) -> Vec<WrongOption> {
    const READ: [&str; 3] = [CLUSTER_OPTIONS[0].0, CLUSTER_OPTIONS[1].0, CLUSTER_OPTIONS[2].0];
    let known: &'static [&str] = if of == OptionsOf::Sink { &SINK_OPTIONS } else { &READ };
    let wrong = |(name, value): (&String, &String)| {
        if !known.contains(&name.as_str()) {
            return Some(WrongOption::unknown(name, known));
        }
        let one = BTreeMap::from([(name.clone(), value.clone())]);
        let read = if of == OptionsOf::Sink { switches(&one).map(drop) } else { Millis::read(&[&one]).map(drop) };
        read.err().map(|problem| WrongOption::value(name, problem.trim_start_matches("options: ")))
    };
    options.iter().filter_map(wrong).collect()
}

/// Whether each of [`SINK_OPTIONS`] is on.
pub fn switches(options: &BTreeMap<String, String>) -> Result<Vec<&'static str>, String> {
    let mut on = Vec::new();
    for (name, value) in options {
        let known = SINK_OPTIONS.iter().find(|known| *known == name);
        let known = known
            .ok_or_else(|| format!("options: `{name}` is not known here; known are {}", SINK_OPTIONS.join(", ")))?;
        match value.as_str() {
            "true" => on.push(*known),
            "false" => {}
            _ => return Err(format!("options: {name}: `{value}` is neither true nor false")),
        }
    }
    Ok(on)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Result<Settings, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn name_servers_are_a_list_and_mistakes_are_told() {
        let read = settings(r#"{"namesrv": "a:9876; b:9877;"}"#).unwrap();
        assert_eq!(read.name_servers().unwrap(), ["a:9876", "b:9877"]);
        for bad in ["", ";", "a", "a:x", ":1", "a:99999"] {
            assert!(Settings { namesrv: bad.into(), ..read.clone() }.name_servers().is_err(), "{bad}");
        }
        assert!(settings(r#"{"namesrv": "a:1", "nameserver": "b:1"}"#).is_err());
    }

    #[test]
    fn unknown_options_are_errors_that_name_the_known_ones() {
        let options = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let error = Millis::read(&[&options("pullBatchSize", "1")]).unwrap_err();
        assert!(error.contains("pullBatchSize") && error.contains("rebalanceInterval"), "{error}");
        let (cluster, topic) = (options("rebalanceInterval", "900"), options("rebalanceInterval", "700"));
        let millis = Millis::read(&[&cluster, &topic]).unwrap();
        assert_eq!(millis.get("rebalanceInterval").as_millis(), 700);
        assert!(Millis::read(&[&options("rebalanceInterval", "0")]).is_err());
        assert_eq!(switches(&options("trestleId", "true")).unwrap(), ["trestleId"]);
        assert!(switches(&options("trestleId", "yes")).is_err() && switches(&options("tag", "true")).is_err());
        let wrong = |of, name, value| check_options(of, &options(name, value)).first().map(|w| w.known.is_some());
        assert_eq!(wrong(OptionsOf::Source, "rebalanceInterval", "700"), None);
        assert_eq!(wrong(OptionsOf::Source, "rebalanceInterval", "soon"), Some(false));
        assert_eq!(wrong(OptionsOf::Source, "trestleId", "true"), Some(true));
        assert_eq!(wrong(OptionsOf::Sink, "trestleId", "true"), None);
        assert_eq!(wrong(OptionsOf::Sink, "trestleId", "1"), Some(false));
        assert_eq!(wrong(OptionsOf::Cluster, "rebalanceIntervall", "1"), Some(true));
    }
}
