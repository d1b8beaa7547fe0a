//! The nine pairs of source and target protocol, direct and through a staging topic.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use trestle_core::Message;

use super::{
    nasty::Nasty,
    routes::{Route, start},
    site::{Protocol, Site},
};
use crate::parts::unique;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_carries_every_message_exactly() -> Result<()> {
    // One source partition, so that the order in each target partition says everything.
    carried("pair", &[None], 1, 3).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_carries_every_message_exactly_through_a_staging_topic() -> Result<()> {
    carried("staged", &[Some(Protocol::Pulsar), Some(Protocol::Kafka)], 2, 2).await
}

/// Each pair through each of these staging topics; Kafka stages one pair of each source.
async fn carried(what: &str, vias: &[Option<Protocol>], from: u32, to: u32) -> Result<()> {
    let site = Site::shared().await?;
    let run = unique(what);
    let mut routes = Vec::new();
    for via in vias {
        for (at, (source, target)) in pairs().enumerate() {
            if *via == Some(Protocol::Kafka) && at % 4 != 1 {
                continue;
            }
            let name = format!("{run}-{}-{}-{}", source.name(), via.map_or("direct", Protocol::name), target.name());
            routes.push(Route {
                from: source.topic(&format!("{name}-in")).of_any_time(),
                via: via.map(|via| via.topic(&format!("{name}-via"))),
                to: target.topic(&format!("{name}-out")),
                same_partitions: from == to,
                name,
            });
        }
    }
    for route in &routes {
        site.make(&route.from, from).await?;
        site.make(&route.to, to).await?;
    }
    let bridge = start(&site, &routes).await?;
    let mut wrong = Vec::new();
    let mut written = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let mut here = BTreeMap::new();
        for partition in 0..from {
            let messages = Nasty::new(at as u64 * 10 + u64::from(partition)).messages(40);
            let messages: Vec<Message> = messages.into_iter().filter(|message| route.from.takes(message)).collect();
            site.write(&route.from, partition, &messages).await?;
            here.insert(partition, messages);
        }
        written.push(here);
    }
    for (route, written) in routes.iter().zip(&written) {
        if let Err(error) = route.judge(&site, &bridge, written).await {
            wrong.push(format!("{}: {error:#}", route.name));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} routes:\n{}", wrong.len(), routes.len(), wrong.join("\n"));
    bridge.fine();
    Ok(())
}

fn pairs() -> impl Iterator<Item = (Protocol, Protocol)> {
    Protocol::ALL.into_iter().flat_map(|source| Protocol::ALL.map(|target| (source, target)))
}
