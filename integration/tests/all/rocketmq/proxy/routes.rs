//! Routes that the program itself runs, from a proxy to Kafka.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use trestle_core::{Header, Headers, Message};
use trestle_integration::{Bridge, Brokers, Kafka, Native, RocketMq, until};

use super::{
    super::rig::{self, *},
    reading::Filled,
};
use crate::pairs::{
    nasty::Nasty,
    site::{Protocol, Site},
};

/// From a topic to one of the same name; what was lost comes again after 10 s.
fn table(proxy: &str, kafka: &str, topic: &str, group: &str) -> String {
    table_with(proxy, kafka, topic, group, "")
}

/// `more`: lines of the route.
fn table_with(proxy: &str, kafka: &str, topic: &str, group: &str, more: &str) -> String {
    format!(
        r#"clusters:
  proxied: {{ type: rocketmq, proxy: "{proxy}" }}
  kafka: {{ type: kafka, servers: "{kafka}" }}
routes:
  {topic}:
    from: {{ cluster: proxied, topic: {topic}, group: {group}, options: {{ invisibleDuration: "10000" }} }}
    to: {{ cluster: kafka, topic: {topic} }}
    dead_letter: {{ cluster: kafka, topic: {topic}-letters }}
    {more}"#
    )
}

async fn settled(bridge: &Bridge, count: u64) -> Result<()> {
    until(&format!("{count} messages are settled"), SOON * 2, || async {
        let metrics = bridge.metrics().await?;
        let counts = ["messages_received_total", "messages_delivered_total", "messages_dead_lettered_total"];
        let counts = counts.map(|name| metrics.hop("deliver", name));
        ensure!(counts == [count, count, 0], "received, delivered, dead-lettered: {counts:?} of {count}");
        Ok(Some(()))
    })
    .await
    .with_context(|| bridge.about())
}

/// Counts of the numbers that are in a Kafka topic.
async fn arrived(kafka: &str, topic: &str) -> Result<BTreeMap<u64, usize>> {
    let settings = trestle_kafka::Settings { servers: kafka.to_owned(), options: BTreeMap::new() };
    let connector = trestle_kafka::connector("target", settings).map_err(anyhow::Error::msg)?;
    let spec = trestle_core::ReaderSpec {
        topic: topic.to_owned(),
        from: trestle_core::ReadFrom::Earliest,
        follow: false,
        buffer_bytes: 8 << 20,
        largest_message: 8 << 20,
        options: BTreeMap::new(),
    };
    let mut reader = connector.reader(spec).await?;
    let mut counts = BTreeMap::new();
    while let Some(excerpt) = reader.next().await? {
        for message in &excerpt.messages {
            *counts.entry(number(message)?).or_default() += 1;
        }
    }
    Ok(counts)
}

async fn until_arrived(kafka: &str, topic: &str, count: usize, limit: Duration) -> Result<BTreeMap<u64, usize>> {
    until(&format!("{count} numbers have arrived"), limit, || async {
        let counts = arrived(kafka, topic).await?;
        ensure!(counts.len() >= count, "{} of {count}", counts.len());
        Ok(Some(counts))
    })
    .await
}

fn repeats(counts: &BTreeMap<u64, usize>) -> usize {
    counts.values().map(|count| count - 1).sum()
}

/// Without an order, of messages and of headers: neither is promised through a proxy.
fn comparable(messages: BTreeMap<u32, Vec<Message>>) -> Vec<String> {
    let comparable = |mut message: Message| {
        let mut headers: Vec<Header> = message.headers.into_iter().collect();
        headers.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        message.headers = headers.into_iter().collect::<Headers>();
        message.position = trestle_core::Position::Offset(0);
        format!("{message:?}")
    };
    let mut all: Vec<String> = messages.into_values().flatten().map(comparable).collect();
    all.sort();
    all
}

/// Compressed in every way there is, in batches and alone, with keys, tags and properties, and what nobody else can say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_remoting_clients_wrote_arrives_through_a_proxy_as_it_does_without_one() -> Result<()> {
    let site = Site::shared().await?;
    let Brokers { kafka, rocketmq, .. } = site.brokers;
    let (name, group) = (unique("whole"), unique("group"));
    let (from, to) = (Protocol::RocketMq.topic(&name), Protocol::Kafka.topic(&name).of_any_time());
    site.make(&from, 1).await?;
    site.make(&to, 1).await?;
    rocketmq.create_group(&group).await?;
    let inside = rocketmq.broker.exec(&["printenv", "NAMESRV"]).await?;
    let native = Native::compile(&rocketmq.broker, "RocketMqMessages", "/opt/rocketmq/lib").await?;
    let written = native.run(&["write", &inside, &name]).await?.len();
    ensure!(written > 50, "only {written} messages were written");
    let nasty: Vec<Message> = Nasty::new(5).messages(60).into_iter().filter(|m| from.takes(m) && to.takes(m)).collect();
    site.write(&from, 0, &nasty).await?;
    let bridge = Bridge::start(&table(&rocketmq.grpc, &kafka.servers, &name, &group)).await?;
    settled(&bridge, (written + nasty.len()) as u64).await?;
    let (wanted, got) = (comparable(site.read(&from).await?), comparable(site.read(&to).await?));
    ensure!(wanted.len() == written + nasty.len() && got.len() == wanted.len(), "{} of {}", got.len(), wanted.len());
    for (wanted, got) in wanted.iter().zip(&got) {
        ensure!(wanted == got, "{wanted:.3000}\narrived as\n{got:.3000}");
    }
    bridge.fine();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_proxy_is_killed_in_the_middle() -> Result<()> {
    let shared = Brokers::shared().await?;
    let (kafka, rocketmq) = (&shared.kafka.servers, RocketMq::start().await?);
    let filled = Filled::make(&rocketmq, "proxy-killed", 4, 20_000).await?;
    shared.kafka.create_topic(&filled.topic, 4).await?;
    let mut bridge = Bridge::start(&table(&rocketmq.grpc, kafka, &filled.topic, &filled.group)).await?;
    until_arrived(kafka, &filled.topic, 1_000, SOON).await?;
    rocketmq.broker.kill().await?;
    let before = arrived(kafka, &filled.topic).await?.len();
    rocketmq.broker.start().await?;
    let begin = Instant::now();
    until_arrived(kafka, &filled.topic, (before + 1).min(20_000), SOON).await.with_context(|| bridge.about())?;
    let flows = begin.elapsed();
    let counts = until_arrived(kafka, &filled.topic, 20_000, SOON * 3).await.with_context(|| bridge.about())?;
    println!(
        "proxy killed at {before} of 20,000: flow after {:.1} s, all after {:.1} s, {} repeated",
        flows.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        repeats(&counts)
    );
    ensure!(before < 20_000, "the proxy was killed when all was over");
    ensure!(bridge.terminate(SOON).await? == Some(0), "{}", bridge.about());
    bridge.fine();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_bridge_is_killed_in_the_middle() -> Result<()> {
    let Brokers { kafka, rocketmq, .. } = Brokers::shared().await?;
    let filled = Filled::make(rocketmq, "bridge-killed", 4, 20_000).await?;
    kafka.create_topic(&filled.topic, 4).await?;
    let table = table(&rocketmq.grpc, &kafka.servers, &filled.topic, &filled.group);
    let mut bridge = Bridge::start(&table).await?;
    until_arrived(&kafka.servers, &filled.topic, 1_000, SOON).await?;
    bridge.kill().await?;
    bridge.fine();
    let before = arrived(&kafka.servers, &filled.topic).await?.len();
    ensure!(before < 20_000, "the bridge was killed when all was over");
    let bridge = Bridge::start(&table).await?;
    let counts =
        until_arrived(&kafka.servers, &filled.topic, 20_000, SOON * 3).await.with_context(|| bridge.about())?;
    println!("bridge killed at {before} of 20,000: {} repeated", repeats(&counts));
    // What it held, and what was settled and not yet acknowledged.
    ensure!(repeats(&counts) < 5_000, "{} repeated", repeats(&counts));
    bridge.fine();
    Ok(())
}

/// Its gate closes, and what is held is given back and handed out again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_blocked_for_longer_than_messages_are_invisible_gets_each_once() -> Result<()> {
    blocked("blocked", "").await
}

/// Its gate stays open: the pipeline has in hand what it began to send, and all is kept invisible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_blocked_for_less_than_a_send_may_take_gets_each_once() -> Result<()> {
    blocked("patient", "send_timeout: 120s").await
}

async fn blocked(name: &str, more: &str) -> Result<()> {
    const ALL: u64 = 400;
    let (kafka, rocketmq) = (Kafka::start().await?, &Brokers::shared().await?.rocketmq);
    let filled = Filled::make(rocketmq, name, 2, 10).await?;
    kafka.create_topic(&filled.topic, 1).await?;
    let table = table_with(&rocketmq.grpc, &kafka.servers, &filled.topic, &filled.group, more);
    let bridge = Bridge::start(&table).await?;
    until_arrived(&kafka.servers, &filled.topic, 10, SOON).await.with_context(|| bridge.about())?;
    kafka.broker.pause().await?;
    fill(&rig::connector(&rocketmq.namesrv)?, &filled.topic, 10..ALL).await?;
    passed(Instant::now(), Duration::from_secs(33), "three times the invisibility").await?;
    kafka.broker.unpause().await?;
    until_arrived(&kafka.servers, &filled.topic, ALL as usize, SOON * 2).await.with_context(|| bridge.about())?;
    // Nothing waits at the broker to come again.
    passed(Instant::now(), Duration::from_secs(13), "once more the invisibility").await?;
    let counts = arrived(&kafka.servers, &filled.topic).await?;
    println!("blocked for 33 s: {} of {ALL} repeated", repeats(&counts));
    ensure!(counts.len() as u64 == ALL);
    // What was on its way to Kafka when the gate closed is sent again, and nothing else.
    ensure!(repeats(&counts) < 50, "{} repeated; {}", repeats(&counts), bridge.about());
    bridge.fine();
    Ok(())
}

async fn passed(begin: Instant, time: Duration, what: &str) -> Result<()> {
    until(&format!("{what} is over"), time * 2, || async { Ok((begin.elapsed() > time).then_some(())) }).await
}
