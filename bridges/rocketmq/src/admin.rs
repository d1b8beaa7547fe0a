//! What the cluster says of a topic, and how a topic is made.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use trestle_core::{Ensure, Fault, TopicInfo, Why};

use crate::{
    client::{BROKER_LIMIT, BrokerConfig, Client},
    remoting::{Request, codes::request},
    route::Route,
};

/// Name servers hear of a new topic from the broker, within this time.
const SPREAD_LIMIT: Duration = Duration::from_secs(10);
const SPREAD_POLL: Duration = Duration::from_millis(100);
const READ_WRITE: u32 = 6;
const LONGEST_TOPIC: usize = 127;
/// Messages that wait for somebody must outlive any absence: a year.
const DURABLE_HOURS: u64 = 365 * 24;

pub async fn describe(client: &Client, topic: &str) -> Result<TopicInfo, Fault> {
    check_name(topic)
        .map_err(|error| Fault::unavailable(Why::UnknownTopic, format!("{}: {error}", client.at(topic))))?;
    let route = client.route(topic).await?;
    let limits = limits(client, &route).await;
    Ok(info(topic, &route, &limits))
}

pub fn info(topic: &str, route: &Route, limits: &Limits) -> TopicInfo {
    let kept = |hours| {
        format!(
            "messages of {topic} are deleted after {hours} h (fileReservedTime), read or not, and earlier when the broker's disk fills up"
        )
    };
    let unknown =
        "the broker does not tell its settings, so nothing is known of `fileReservedTime` and `maxMessageSize`";
    TopicInfo {
        partitions: partitions(route),
        max_message: limits.max_message,
        grows: true,
        losses: limits.hours.filter(|hours| *hours < DURABLE_HOURS).map(kept).into_iter().collect(),
        warnings: Vec::new(),
        unchecked: limits.hours.is_none().then(|| unknown.to_owned()).into_iter().collect(),
    }
}

pub async fn ensure(client: &Client, topic: &str, ensure: Ensure) -> Result<TopicInfo, Fault> {
    check_name(topic)
        .map_err(|error| Fault::unavailable(Why::UnknownTopic, format!("{}: {error}", client.at(topic))))?;
    let route = match client.route(topic).await {
        Ok(route) => route,
        Err(fault) if fault.kind == trestle_core::FaultKind::Unavailable(Why::UnknownTopic) => Route::default(),
        Err(fault) => return Err(fault),
    };
    let wanted = ensure.partitions.max(1);
    if partitions(&route) < wanted {
        create(client, topic, &route, wanted).await?;
        spread(client, topic, wanted).await?;
    }
    if let Some(durable) = ensure.durable {
        let hours = limits(client, &client.route(topic).await?).await.hours;
        if hours.is_none_or(|hours| hours < DURABLE_HOURS) {
            let kept = hours.map_or_else(|| "an unknown time".into(), |hours| format!("{hours} h"));
            return Err(Fault::down(format!(
                "{}: the broker deletes messages after {kept}, whether {} has read them or not. Set fileReservedTime to {DURABLE_HOURS} or more, or choose another cluster",
                client.at(topic),
                durable.subscription
            )));
        }
    }
    describe(client, topic).await
}

fn partitions(route: &Route) -> u32 {
    route.writable().len().max(route.readable().len()) as u32
}

/// The lowest of the brokers that let us ask.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// `maxMessageSize`, in bytes.
    pub max_message: Option<usize>,
    /// `fileReservedTime`.
    pub hours: Option<u64>,
}

impl Limits {
    pub fn lowest<'a>(configs: impl Iterator<Item = &'a BrokerConfig> + Clone) -> Self {
        let lowest = |name| configs.clone().filter_map(|config| config.number(name)).min();
        Limits { max_message: lowest("maxMessageSize").map(|bytes| bytes as usize), hours: lowest("fileReservedTime") }
    }
}

async fn limits(client: &Client, route: &Route) -> Limits {
    let mut configs = Vec::new();
    for (_, address) in route.masters() {
        configs.extend(client.broker_config(address).await);
    }
    Limits::lowest(configs.iter())
}

/// Gives every master an equal share of the queues; takes none away.
async fn create(client: &Client, topic: &str, route: &Route, wanted: u32) -> Result<(), Fault> {
    let masters = client.masters().await?;
    if masters.is_empty() {
        return Err(Fault::down(format!("{}: no broker is registered at the name servers", client.at(topic))));
    }
    let share = wanted.div_ceil(masters.len() as u32);
    for (broker, address) in masters {
        let (read, write) = route.queues_of(&broker).unwrap_or((0, 0));
        if read >= share && write >= share {
            continue;
        }
        let request = Request::new(request::UPDATE_AND_CREATE_TOPIC)
            .field("topic", topic)
            .field("defaultTopic", "TBW102")
            .field("readQueueNums", read.max(share))
            .field("writeQueueNums", write.max(share))
            .field("perm", READ_WRITE)
            .field("topicFilterType", "SINGLE_TAG")
            .field("topicSysFlag", 0)
            .field("order", false);
        client
            .ask(&address, request, BROKER_LIMIT, &format!("{}, creating it on broker {broker}", client.at(topic)))
            .await?;
    }
    Ok(())
}

async fn spread(client: &Client, topic: &str, wanted: u32) -> Result<(), Fault> {
    let deadline = Instant::now() + SPREAD_LIMIT;
    loop {
        if client.route(topic).await.is_ok_and(|route| partitions(&route) >= wanted) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Fault::down(format!("{}: created, but the name servers do not know it yet", client.at(topic))));
        }
        sleep(SPREAD_POLL).await;
    }
}

/// `TopicValidator.java`.
fn check_name(topic: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '-' | '_');
    if topic.is_empty() || topic.len() > LONGEST_TOPIC {
        return Err(format!("a RocketMQ topic's name has 1 to {LONGEST_TOPIC} characters, this one {}", topic.len()));
    }
    match topic.chars().find(|c| !legal(*c)) {
        Some(odd) => {
            Err(format!("`{odd}` cannot be in a RocketMQ topic's name; a-z, A-Z, 0-9, `_`, `-`, `%` and `|` can"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_those_that_brokers_take() {
        for good in ["orders", "%RETRY%g", "a|b_c-9", &"x".repeat(127)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "größe", &"x".repeat(128)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("a.b").unwrap_err().contains("`.`"));
    }
}
