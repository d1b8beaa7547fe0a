use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use trestle_core::{OptionsOf, WrongOption};

use crate::{
    sink_options::SinkOptions,
    tags::{TAGS_OPTION, Tags},
};

/// A RocketMQ cluster in the route table, reached by the remoting protocol (`namesrv`) or through a gRPC proxy (`proxy`).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name servers: `a:9876;b:9876`. When one does not answer, the next is asked. Either these or `proxy`.
    #[serde(default)]
    pub namesrv: Option<String>,
    /// In place of `namesrv`, for a cluster that shows only its gRPC proxy: `host:8081`. Such a cluster is written one
    /// message at a time, and read in no order that holds between instances. Needs a program that was built with the feature `rocketmq-proxy`.
    #[serde(default)]
    pub proxy: Option<String>,
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

/// Of a topic that is read through a gRPC proxy, in milliseconds: for so long a message that was received is nobody else's, unless
/// it is renewed, which happens when a third of it is over. After a crash messages come again that late.
pub const INVISIBLE_DURATION: InvisibleDuration = InvisibleDuration {
    name: "invisibleDuration",
    // `ProxyConfig.java`: defaultInvisibleTimeMills, minInvisibleTimeMillsForRecv, maxInvisibleTimeMills.
    default: 60_000,
    least: 10_000,
    most: 12 * 60 * 60 * 1_000,
};

/// An option with its bounds.
pub struct InvisibleDuration {
    pub name: &'static str,
    default: u64,
    least: u64,
    most: u64,
}

impl InvisibleDuration {
    pub fn read(&self, options: &BTreeMap<String, String>) -> Result<Duration, String> {
        let millis = match options.get(self.name) {
            None => self.default,
            Some(text) => {
                text.parse().ok().filter(|millis| (self.least..=self.most).contains(millis)).ok_or_else(|| {
                    format!(
                        "{}: `{text}` is not a number of milliseconds from {} to {}",
                        self.name, self.least, self.most
                    )
                })?
            }
        };
        Ok(Duration::from_millis(millis))
    }
}

/// How a cluster is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// Addresses of its name servers.
    NameServers(Vec<String>),
    /// Address of its gRPC proxy.
    Proxy(String),
}

impl Settings {
    pub fn way(&self) -> Result<Way, String> {
        match (&self.namesrv, &self.proxy) {
            (Some(list), None) => name_servers(list).map(Way::NameServers),
            (None, Some(address)) => {
                let address = address.trim();
                is_address(address)
                    .then(|| Way::Proxy(address.to_owned()))
                    .ok_or_else(|| format!("proxy: `{address}` is not `host:port`"))
            }
            (Some(_), Some(_)) => {
                Err("`namesrv` and `proxy` exclude each other: a cluster is reached by one of them".into())
            }
            (None, None) => Err("`namesrv` is missing, or `proxy` where a cluster shows only its gRPC proxy".into()),
        }
    }
}

/// Whether these settings are of a cluster that is reached through a gRPC proxy: its topics are one partition, that several
/// members of a group read at the same time, from where the group is. Wrong ones say nothing.
pub fn is_behind_a_proxy(settings: &serde_json::Value) -> bool {
    settings.get("proxy").is_some_and(serde_json::Value::is_string)
}

fn name_servers(list: &str) -> Result<Vec<String>, String> {
    let addresses = list.split([';', ',']).map(str::trim).filter(|a| !a.is_empty());
    let addresses: Vec<String> = addresses.map(str::to_owned).collect();
    if addresses.is_empty() {
        return Err("namesrv: no name server; write `host:9876`, or several with `;` between them".into());
    }
    match addresses.iter().find(|address| !is_address(address)) {
        Some(address) => Err(format!("namesrv: `{address}` is not `host:port`")),
        None => Ok(addresses),
    }
}

fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    matches!(port, Some(Ok(_)))
}

/// Milliseconds of each of [`CLUSTER_OPTIONS`]: the topic's, else the cluster's, else the default.
#[derive(Clone, Debug)]
pub struct Millis(BTreeMap<&'static str, u64>);

impl Millis {
    pub fn read(cluster: &BTreeMap<String, String>, topic: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut millis: BTreeMap<&'static str, u64> = CLUSTER_OPTIONS.into();
        let topic = topic.iter().filter(|(name, _)| *name != TAGS_OPTION);
        for (name, value) in cluster.iter().chain(topic) {
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

    pub fn get(&self, name: &str) -> Duration {
        Duration::from_millis(self.0.get(name).copied().unwrap_or_default())
    }
}

/// The options that are wrong: a name that is not known, or a value that its name does not take.
pub fn check_options(of: OptionsOf, options: &BTreeMap<String, String>) -> Vec<WrongOption> {
    const CLUSTER: [&str; 3] = [CLUSTER_OPTIONS[0].0, CLUSTER_OPTIONS[1].0, CLUSTER_OPTIONS[2].0];
    const SOURCE: [&str; 5] = [CLUSTER[0], CLUSTER[1], CLUSTER[2], TAGS_OPTION, INVISIBLE_DURATION.name];
    let known: &'static [&str] = match of {
        OptionsOf::Cluster => &CLUSTER,
        OptionsOf::Source => &SOURCE,
        OptionsOf::Sink => return SinkOptions::read(options).err().unwrap_or_default(),
    };
    let wrong = |(name, value): (&String, &String)| {
        if !known.contains(&name.as_str()) {
            return Some(WrongOption::unknown(name, known));
        }
        let one = BTreeMap::from([(name.clone(), value.clone())]);
        let read = match name.as_str() {
            TAGS_OPTION => Tags::read(&one).map(drop),
            name if name == INVISIBLE_DURATION.name => INVISIBLE_DURATION.read(&one).map(drop),
            _ => Millis::read(&one, &one).map(drop),
        };
        read.err().map(|problem| WrongOption::value(name, problem.trim_start_matches("options: ")))
    };
    options.iter().filter_map(wrong).collect()
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
        assert_eq!(read.way(), Ok(Way::NameServers(vec!["a:9876".into(), "b:9877".into()])));
        for bad in ["", ";", "a", "a:x", ":1", "a:99999"] {
            assert!(Settings { namesrv: Some(bad.into()), ..read.clone() }.way().is_err(), "{bad}");
        }
        assert!(settings(r#"{"namesrv": "a:1", "nameserver": "b:1"}"#).is_err());
    }

    #[test]
    fn a_cluster_is_reached_by_name_servers_or_by_a_proxy() {
        let way = |json| settings(json).unwrap().way();
        assert_eq!(way(r#"{"proxy": "p:8081"}"#), Ok(Way::Proxy("p:8081".into())));
        assert!(way(r#"{"proxy": "http://p"}"#).unwrap_err().contains("host:port"));
        assert!(way(r#"{"proxy": "p:1", "namesrv": "a:1"}"#).unwrap_err().contains("exclude"));
        assert!(way("{}").unwrap_err().contains("`namesrv` is missing"));
    }

    #[test]
    fn unknown_options_are_errors_that_name_the_known_ones() {
        let options = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let error = Millis::read(&BTreeMap::new(), &options("pullBatchSize", "1")).unwrap_err();
        assert!(error.contains("pullBatchSize") && error.contains("rebalanceInterval"), "{error}");
        let (cluster, topic) = (options("rebalanceInterval", "900"), options("rebalanceInterval", "700"));
        let millis = Millis::read(&cluster, &topic).unwrap();
        assert_eq!(millis.get("rebalanceInterval").as_millis(), 700);
        assert!(Millis::read(&options("rebalanceInterval", "0"), &BTreeMap::new()).is_err());
        assert!(Millis::read(&options("tags", "a"), &BTreeMap::new()).is_err(), "tags are of a topic");
        assert!(Millis::read(&BTreeMap::new(), &options("tags", "a")).is_ok());
        let wrong = |of, name, value| check_options(of, &options(name, value)).first().map(|w| w.known.is_some());
        assert_eq!(wrong(OptionsOf::Source, "rebalanceInterval", "700"), None);
        assert_eq!(wrong(OptionsOf::Source, "rebalanceInterval", "soon"), Some(false));
        assert_eq!(wrong(OptionsOf::Source, "trestleId", "true"), Some(true));
        assert_eq!(wrong(OptionsOf::Sink, "trestleId", "true"), None);
        assert_eq!(wrong(OptionsOf::Sink, "trestleId", "1"), Some(false));
        assert_eq!(wrong(OptionsOf::Source, "invisibleDuration", "30000"), None);
        assert_eq!(wrong(OptionsOf::Source, "invisibleDuration", "1"), Some(false));
        assert_eq!(wrong(OptionsOf::Source, "tags", "a || b"), None);
        assert_eq!(wrong(OptionsOf::Source, "tags", "a|b"), Some(false));
        assert_eq!(wrong(OptionsOf::Cluster, "tags", "a"), Some(true));
        assert_eq!(wrong(OptionsOf::Sink, "tags", "a"), Some(true));
        assert_eq!(wrong(OptionsOf::Cluster, "rebalanceIntervall", "1"), Some(true));
    }
}
