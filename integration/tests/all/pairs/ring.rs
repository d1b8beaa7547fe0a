//! Round through all three protocols: what comes back to the first is what was there.

use std::collections::BTreeMap;

use anyhow::Result;
use trestle_core::Message;

use super::{
    nasty::Nasty,
    routes::{Route, start},
    site::{Protocol, Site, Topic},
};
use crate::parts::unique;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_round_through_all_protocols_is_what_it_was() -> Result<()> {
    use Protocol::{Kafka, Pulsar, RocketMq};
    let site = Site::shared().await?;
    let rings =
        [[Kafka, Pulsar, RocketMq, Kafka], [RocketMq, Kafka, Pulsar, RocketMq], [Pulsar, RocketMq, Kafka, Pulsar]];
    let run = unique("ring");
    let (mut routes, mut ends) = (Vec::new(), Vec::new());
    for ring in rings {
        let from = ring[0].name();
        let topics: Vec<Topic> =
            ring.iter().enumerate().map(|(at, p)| p.topic(&format!("{run}-{from}-{at}")).of_any_time()).collect();
        for topic in &topics {
            site.make(topic, 2).await?;
        }
        for (at, pair) in topics.windows(2).enumerate() {
            let [from, to] = [pair[0].clone(), pair[1].clone()];
            let name = format!("{run}-{}-route-{at}", ring[0].name());
            routes.push(Route { name, from, via: None, to, same_partitions: true });
        }
        ends.push(topics);
    }
    let bridge = start(&site, &routes).await?;
    let mut written = Vec::new();
    for (at, topics) in ends.iter().enumerate() {
        let mut here = BTreeMap::new();
        for partition in 0..2 {
            let messages = Nasty::new(1_000 + at as u64 * 10 + u64::from(partition)).messages(40);
            let carried = |message: &Message| topics.iter().all(|topic| topic.takes(message));
            let messages: Vec<Message> = messages.into_iter().filter(carried).collect();
            site.write(&topics[0], partition, &messages).await?;
            here.insert(partition, messages);
        }
        written.push(here);
    }
    // Nothing was filtered or dead-lettered on the way, so that each topic of a ring holds what the first does.
    for (routes, written) in routes.chunks(3).zip(&written) {
        for route in routes {
            route.judge(&site, &bridge, written).await.map_err(|error| error.context(route.name.clone()))?;
        }
    }
    bridge.fine();
    Ok(())
}
