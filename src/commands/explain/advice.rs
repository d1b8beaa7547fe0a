//! What would make a route's promises stronger, and what weakens them as it is written.

use serde::Serialize;
use trestle_core::{Guarantee, Start};

use crate::{
    config::{Hop, OnGap, Route, Table},
    pipeline::Placement,
    policy::order::Order,
};

#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Where in the table.
    pub setting: String,
    pub says: String,
}

pub fn of(table: &Table, route: &Route) -> Vec<Advice> {
    let mut all = Vec::new();
    let name = &route.declared;
    let mut say = |setting: String, says: &str| {
        let advice = Advice { setting, says: says.to_owned() };
        if !all.contains(&advice) {
            all.push(advice);
        }
    };
    let (Some(first), Some(last)) = (route.hops.first(), route.hops.last()) else { return all };
    if route.hops.len() == 1 {
        say(
            format!("routes.{name}.via"),
            "without a staging topic an outage of the target keeps messages at the source, where its retention counts",
        );
    }
    for hop in &route.hops {
        weakened(hop, name, &mut say);
    }
    if first.on_gap == OnGap::Earliest {
        say(
            format!("routes.{name}.from.on_gap: stop"),
            "with `earliest` messages that vanish at the source before they were read are skipped, with a line in the log",
        );
    }
    if first.start == Start::Latest {
        say(
            format!("routes.{name}.from.start: earliest"),
            "with `latest` what was there before the first start is not carried",
        );
    }
    if last.to.cluster.protocol == "rocketmq" && last.to.options.get("trestleId").map(String::as_str) != Some("true") {
        say(
            format!("routes.{name}.to.options.trestleId: true"),
            "gives each message a property by which receivers can drop repeats",
        );
    }
    if route.dead_letter_limit.is_none() {
        say(
            format!("routes.{name}.dead_letter.most"),
            "with `off` a fault that is in no message can empty the whole topic into the dead letters",
        );
    }
    say(
        "bodies".into(),
        "values pass untouched: ids of a schema registry in them (Confluent's, Apicurio's) mean nothing in another registry, so \
         readers of the target need the same one",
    );
    let largest = table.memory.largest_message;
    say(
        "memory.largest_message".into(),
        &format!("a message of more than {largest} bytes with its headers is a dead letter, whatever the topics take"),
    );
    all
}

fn weakened(hop: &Hop, name: &str, say: &mut impl FnMut(String, &str)) {
    let cluster = &hop.to.cluster;
    if cluster.guarantee == Guarantee::Accepted {
        say(
            format!("clusters.{}.durability: replicated", cluster.name),
            "with `accepted` a message counts as stored before the cluster has stored it as safely as it is configured to",
        );
    }
    if hop.placement == Placement::RoundRobin {
        say(format!("routes.{name}.partitioning: key"), "with `round_robin` messages of one key may pass each other");
    } else if hop.policies.set_aside.order != Order::Partition {
        say(
            format!("routes.{name}.order: partition"),
            "as it is, messages pass one that fails, and a stop repeats what passed it while it waits",
        );
    }
    if hop.policies.commit_interval.as_secs() >= 5 {
        say(format!("routes.{name}.commit_interval"), "a crash repeats what was delivered in that time");
    }
}
