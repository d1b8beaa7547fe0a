//! Which topics a cluster has, as its name servers know them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use trestle_core::Fault;

use crate::{
    client::Client,
    remoting::{Answer, Request, codes::request},
    route::quote_bare_keys,
};

/// Topics of the brokers' own (`TopicValidator.java`).
const SYSTEM: [&str; 7] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];
/// More of them, and what groups keep for themselves: retries, dead letters, light queues (`MixAll.java`).
const PREFIXES: [&str; 5] = ["rmq_sys_", "RMQ_SYS_", "%RETRY%", "%DLQ%", "%LMQ%"];
/// Each cluster has a topic of its name with this behind it, for answers to requests (`MixAll.REPLY_TOPIC_POSTFIX`).
const REPLIES: &str = "_REPLY_TOPIC";

/// Names of all topics of users, sorted. Name servers share nothing, and one that was just restarted knows no topic until the
/// brokers have registered again (up to 30 s), so all are asked, and none of them knowing a broker is a fault.
pub async fn topics(client: &Client) -> Result<Vec<String>, Fault> {
    let about = format!("cluster {}", client.cluster);
    let mut taken = BTreeSet::new();
    for answer in client.every_name_server(Request::new(request::GET_BROKER_CLUSTER_INFO), &about).await? {
        taken.extend(read::<Cluster>(&answer, &about)?.names());
    }
    if taken.is_empty() {
        return Err(Fault::down(format!("{about}: no broker is registered at the name servers")));
    }
    let request = Request::new(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
    let mut topics = BTreeSet::new();
    for answer in client.every_name_server(request, &about).await? {
        topics.extend(read::<Topics>(&answer, &about)?.topics);
    }
    Ok(topics.into_iter().filter(|topic| is_users(topic, &taken)).collect())
}

/// `taken` are the names of clusters and brokers, each of which is a topic, too.
fn is_users(topic: &str, taken: &BTreeSet<String>) -> bool {
    let replies = topic.strip_suffix(REPLIES).is_some_and(|cluster| taken.contains(cluster));
    let system = SYSTEM.contains(&topic) || PREFIXES.iter().any(|prefix| topic.starts_with(prefix));
    !replies && !system && !taken.contains(topic)
}

#[derive(Deserialize)]
struct Topics {
    #[serde(rename = "topicList", default)]
    topics: Vec<String>,
}

/// By name; what is said of each is of no interest here.
#[derive(Deserialize)]
struct Cluster {
    #[serde(rename = "brokerAddrTable", default)]
    brokers: BTreeMap<String, serde_json::Value>,
    #[serde(rename = "clusterAddrTable", default)]
    clusters: BTreeMap<String, serde_json::Value>,
}

impl Cluster {
    fn names(self) -> impl Iterator<Item = String> {
        self.brokers.into_keys().chain(self.clusters.into_keys())
    }
}

fn read<T: for<'de> Deserialize<'de>>(answer: &Answer, about: &str) -> Result<T, Fault> {
    let text = quote_bare_keys(&String::from_utf8_lossy(&answer.body));
    serde_json::from_str(&text)
        .map_err(|error| Fault::down(format!("{about}: a name server's answer is not readable: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brokers_keep_for_themselves_is_no_topic_of_users() {
        let taken = ["broker-a", "DefaultCluster"].map(String::from).into();
        for own in [
            "TBW102",
            "RMQ_SYS_TRANS_HALF_TOPIC",
            "rmq_sys_REVIVE_LOG_DefaultCluster",
            "%RETRY%group",
            "%DLQ%group",
            "broker-a",
            "DefaultCluster",
            "DefaultCluster_REPLY_TOPIC",
        ] {
            assert!(!is_users(own, &taken), "{own}");
        }
        for users in ["orders", "rmq_sysorders", "My_REPLY_TOPIC", "broker-ab"] {
            assert!(is_users(users, &taken), "{users}");
        }
    }
}
