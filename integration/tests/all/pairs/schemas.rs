//! Typed messages of Pulsar: what their own client sees of them behind the bridge.

use anyhow::{Result, ensure};
use serde_json::Value;
use trestle_integration::{Bridge, Brokers, Native};

use super::{
    routes::{Route, start},
    site::{Protocol, Site, Topic},
};
use crate::parts::unique;

/// Messages that `PulsarTyped orders` writes: all but one of two versions of a schema.
const ORDERS: usize = 41;

struct Typed {
    site: Site,
    program: Native<'static>,
    run: String,
}

impl Typed {
    async fn new() -> Result<Typed> {
        let program =
            Native::compile(&Brokers::shared().await?.pulsar.broker, "PulsarTyped", "/opt/pulsar/lib").await?;
        Ok(Typed { site: Site::shared().await?, program, run: unique("typed") })
    }

    async fn topic(&self, protocol: Protocol, name: &str) -> Result<Topic> {
        let topic = protocol.topic(&format!("{}-{name}", self.run));
        self.site.make(&topic, 1).await?;
        Ok(topic)
    }

    fn route(&self, name: &str, from: &Topic, to: &Topic) -> Route {
        let name = format!("{}-{name}", self.run);
        Route { name, from: from.clone(), via: None, to: to.clone(), same_partitions: true }
    }

    async fn run(&self, what: &str, topic: &Topic) -> Result<Vec<Value>> {
        self.program.run(&[what, &self.site.brokers.pulsar.url, &topic.name]).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_messages_are_of_their_schema_behind_every_way_to_pulsar() -> Result<()> {
    use Protocol::{Kafka, Pulsar, RocketMq};
    let typed = Typed::new().await?;
    for what in ["orders", "pairs"] {
        let from = typed.topic(Pulsar, &format!("{what}-from")).await?;
        let (direct, staged) = (
            typed.topic(Pulsar, &format!("{what}-direct")).await?,
            typed.topic(Pulsar, &format!("{what}-staged")).await?,
        );
        let (kafka, rocketmq) = (
            typed.topic(Kafka, &format!("{what}-kafka")).await?,
            typed.topic(RocketMq, &format!("{what}-rocketmq")).await?,
        );
        let back = typed.topic(Pulsar, &format!("{what}-back")).await?;
        let via = Pulsar.topic(&format!("{}-{what}-via", typed.run));
        let mut routes = vec![
            typed.route(&format!("{what}-direct"), &from, &direct),
            typed.route(&format!("{what}-out"), &from, &kafka),
            typed.route(&format!("{what}-on"), &kafka, &rocketmq),
            typed.route(&format!("{what}-back"), &rocketmq, &back),
        ];
        routes.push(Route { via: Some(via), ..typed.route(&format!("{what}-staged"), &from, &staged) });
        let bridge = start(&typed.site, &routes).await?;
        typed.run(what, &from).await?;
        let seen = typed.run("read", &from).await?;
        let shown = seen.iter().filter(|line| line["definition"].is_string()).count();
        ensure!(shown == if what == "orders" { ORDERS - 1 } else { seen.len() }, "{shown} of {} are typed", seen.len());
        for route in &routes {
            route.settled(&bridge, seen.len(), 0).await?;
        }
        for topic in [&direct, &staged, &back] {
            let there = typed.run("read", topic).await?;
            ensure!(there == seen, "{}: {there:#?}\nwas {seen:#?}", topic.name);
        }
        // A second reader of the kind compares what two topics hold.
        let (was, is) = (typed.site.read(&from).await?, typed.site.read(&direct).await?);
        ensure!(was[&0].iter().zip(&is[&0]).all(|(was, is)| was.headers == is.headers), "{was:?}\n{is:?}");
        bridge.fine();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_the_target_refuses_refuses_its_messages_unless_it_is_left_a_header() -> Result<()> {
    let typed = Typed::new().await?;
    let from = typed.topic(Protocol::Pulsar, "from").await?;
    let (strict, lax) = (typed.topic(Protocol::Pulsar, "strict").await?, typed.topic(Protocol::Pulsar, "lax").await?);
    let untyped = typed.topic(Protocol::Kafka, "untyped").await?;
    for topic in [&strict, &lax] {
        typed.run("texts", topic).await?;
    }
    typed.run("orders", &from).await?;
    let clusters = typed.site.clusters();
    let (run, from) = (&typed.run, from.name);
    let route = |name: &str, from_options: &str, to: &Topic, to_options: &str| {
        let entry = to.entry();
        format!(
            "  {run}-{name}:
    from: {{ cluster: pulsar, topic: \"{from}\"{from_options} }}
    to: {{ {entry}{to_options} }}
    dead_letter: {{ cluster: pulsar }}
"
        )
    };
    let leave = ", options: { trestle.schema: leave }";
    let routes =
        [route("strict", "", &strict, ""), route("lax", "", &lax, leave), route("untyped", leave, &untyped, "")];
    let mut bridge = Bridge::start(&format!("{clusters}routes:\n{}", routes.concat())).await?;
    bridge.ready(crate::parts::SOON).await?;
    let settled = |name: &str, to: &Topic| {
        let from = Topic { protocol: Protocol::Pulsar, name: from.clone(), any_time: false };
        typed.route(name, &from, to)
    };
    settled("strict", &strict).settled(&bridge, ORDERS, ORDERS - 1).await?;
    settled("lax", &lax).settled(&bridge, ORDERS, 0).await?;
    settled("untyped", &untyped).settled(&bridge, ORDERS, 0).await?;
    let headers = |messages: &[trestle_core::Message]| {
        messages.iter().filter(|message| message.headers.get("trestle-pulsar-schema").is_some()).count()
    };
    // The texts are typed as well.
    let (strict, lax) = (typed.site.read(&strict).await?, typed.site.read(&lax).await?);
    ensure!((strict[&0].len(), headers(&strict[&0])) == (4, 3), "{strict:?}");
    ensure!((lax[&0].len(), headers(&lax[&0])) == (3 + ORDERS, 3 + ORDERS - 1), "{lax:?}");
    let untyped = typed.site.read(&untyped).await?;
    ensure!(headers(&untyped[&0]) == 0, "{untyped:?}");
    Ok(())
}
