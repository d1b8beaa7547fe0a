//! Written through the gRPC proxy, read from the broker.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use trestle_conformance::{Features, Subject, promises};
use trestle_core::{
    BoxFuture, Connector, Ensure, Fault, FaultKind, Message, Outcome, PartitionId, Reader, ReaderSpec, Scope, Sink,
    SinkSpec, SourcePair, SourceSpec, Start, TopicInfo, Why,
};
use trestle_integration::{Bridge, Brokers, RocketMq, oracle::Load, until};

use super::{
    super::rig::{self, *},
    fault, through,
};
use crate::main_job::rig::{Job, Site};

/// Writes through the proxy and does all else at the name servers.
struct Split {
    written: Arc<dyn Connector>,
    other: Arc<dyn Connector>,
}

impl Connector for Split {
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<SourcePair, Fault>> {
        self.other.source(spec)
    }

    fn sink(&self, spec: SinkSpec) -> BoxFuture<'_, Result<Arc<dyn Sink>, Fault>> {
        self.written.sink(spec)
    }

    fn reader(&self, spec: ReaderSpec) -> BoxFuture<'_, Result<Box<dyn Reader>, Fault>> {
        self.other.reader(spec)
    }

    fn describe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        self.other.describe(topic)
    }

    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        self.other.ensure(topic, ensure)
    }
}

struct Proxied(Arc<Split>);

impl Subject for Proxied {
    fn connector(&self) -> Arc<dyn Connector> {
        self.0.clone()
    }

    fn features(&self) -> Features {
        Features { revokes_before: false, ..Features::default() }
    }
}

async fn proxied() -> Result<Proxied> {
    let rocketmq = &Brokers::shared().await?.rocketmq;
    Ok(Proxied(Arc::new(Split { written: through(&rocketmq.grpc)?, other: rig::connector(&rocketmq.namesrv)? })))
}

/// Those of the promises that speak of a lane, on a topic of one queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_through_the_proxy_keeps_its_promises() -> Result<()> {
    let subject = proxied().await?;
    promises::every_message_comes_back_byte_for_byte(&subject).await;
    promises::a_message_without_a_time_comes_back_without_one(&subject).await;
    promises::order_holds_over_several_windows_of_sends(&subject).await;
    promises::a_message_too_large_is_refused_alone_and_its_neighbours_are_stored_in_order(&subject).await;
    promises::a_lane_can_be_closed_and_opened_again(&subject).await;
    Ok(())
}

#[tokio::test]
async fn a_fifo_topic_is_written_with_message_groups_and_keeps_each_in_order() -> Result<()> {
    let rocketmq = &Brokers::shared().await?.rocketmq;
    let (connector, proxy) = (rig::connector(&rocketmq.namesrv)?, through(&rocketmq.grpc)?);
    let topic = unique("fifo");
    rocketmq.create_topic_of(&topic, 4, "FIFO").await?;
    let grouped = SinkSpec { options: options([("messageGroup", "key")]), ..sink_spec(&topic) };
    let sink =
        until("the proxy knows the topic", SOON, || async { Ok(Some(proxy.sink(grouped.clone()).await?)) }).await?;
    let sent: Vec<Message> = (0..200_u64)
        .map(|n| Message { key: (n % 10 != 0).then(|| format!("key {}", n % 10).into()), ..message(n.to_string()) })
        .collect();
    let mut lane = lane(&sink, 0).await?;
    for unit_of in sent.chunks(64) {
        store(&mut *lane, unit_of.to_vec()).await?;
    }
    let mut member = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    let read = member.read(200).await?;
    member.control.close().await;
    for digit in 0..10 {
        let of_group: Vec<_> = read.iter().filter(|(_, m)| number(m).is_ok_and(|n| n % 10 == digit)).collect();
        let numbers = of_group.iter().map(|(_, m)| number(m)).collect::<Result<Vec<_>>>()?;
        ensure!(numbers == (0..20).map(|n| n * 10 + digit).collect::<Vec<_>>(), "group {digit}: {numbers:?}");
        ensure!(of_group.iter().all(|(queue, _)| *queue == of_group[0].0), "group {digit} is in one queue");
    }

    // Without groups the topic takes nothing, which a person has to mend.
    let plain = proxy.sink(sink_spec(&topic)).await?;
    let sent = crate::parts::lane(&plain, 0).await?.send(unit(vec![message("v")])).await;
    let Some((_, Outcome::Refused(fault))) = sent.runs.first() else { anyhow::bail!("{sent:?}") };
    ensure!(fault.kind == FaultKind::Unavailable(Why::Permission) && fault.scope == Scope::Partition, "{fault}");
    ensure!(fault.detail.contains("messageGroup"), "{fault}");
    Ok(())
}

#[tokio::test]
async fn what_a_proxy_cannot_do_is_said_and_what_to_do_instead() -> Result<()> {
    let rocketmq = &Brokers::shared().await?.rocketmq;
    let proxy = through(&rocketmq.grpc)?;
    let (missing, topic) = (unique("missing"), unique("there"));
    let fault_of_missing = fault(proxy.describe(&missing).await)?;
    ensure!(fault_of_missing.kind == FaultKind::Unavailable(Why::UnknownTopic), "{fault_of_missing}");
    let made = fault(proxy.ensure(&missing, Ensure { partitions: 4, durable: None }).await)?;
    ensure!(made.kind == FaultKind::Unavailable(Why::UnknownTopic) && made.detail.contains("mqadmin"), "{made}");
    ensure!(fault(proxy.sink(sink_spec(&missing)).await)?.kind == FaultKind::Unavailable(Why::UnknownTopic));

    rocketmq.create_topic(&topic, 4).await?;
    let info = until("the proxy knows the topic", SOON, || async { Ok(Some(proxy.describe(&topic).await?)) }).await?;
    ensure!(info.partitions == 1 && !info.grows && info.warnings.len() == 1, "{info:?}");
    let delayed = SinkSpec { options: options([("delayLevel", "constant:1")]), ..sink_spec(&topic) };
    for refused in [
        fault(proxy.source(SourceSpec { start: Start::Latest, ..source_spec(&topic, "group") }).await)?,
        fault(proxy.topics("*").await)?,
        fault(proxy.sink(delayed).await)?,
    ] {
        ensure!(refused.detail.contains("gRPC proxy"), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_proxy_is_a_timeout_and_is_written_again_when_it_thaws() -> Result<()> {
    let rocketmq = RocketMq::start().await?;
    let (proxy, topic) = (through(&rocketmq.grpc)?, unique("frozen"));
    rocketmq.create_topic(&topic, 1).await?;
    let sink =
        until("the proxy knows the topic", SOON, || async { Ok(Some(proxy.sink(sink_spec(&topic)).await?)) }).await?;
    let mut lane = lane(&sink, 0).await?;
    store(&mut *lane, numbered(0..10)).await?;
    rocketmq.broker.pause().await?;
    let begin = Instant::now();
    let sent = lane.send(unit(numbered(10..20))).await;
    let took = begin.elapsed();
    let probed = sink.probe(PartitionId(0)).await;
    rocketmq.broker.unpause().await?;
    ensure!(runs(&sent) == [(1, "unknown"), (9, "not sent")], "{sent:?}");
    let Some((_, Outcome::Unknown(fault))) = sent.runs.first() else { anyhow::bail!("{sent:?}") };
    ensure!(
        fault.kind == FaultKind::Timeout && took < SEND_TIMEOUT * 2 + Duration::from_secs(2),
        "{fault} in {took:?}"
    );
    ensure!(probed.is_err(), "a frozen proxy answers no probe");
    send_until_stored(&sink, &mut lane, 0, numbered(10..20)).await?;
    lane.close().await;
    Ok(())
}

/// The main job with a proxy at its end, which is killed under load.
#[tokio::test]
async fn everything_arrives_through_a_proxy_that_is_killed() -> Result<()> {
    let shared = Brokers::shared().await?;
    let rocketmq = RocketMq::start().await?;
    let site = Site::of(&shared.kafka, &shared.pulsar, &rocketmq);
    let job = Job::prepare(site, "proxied", Load::new("", 3_000)).await?;
    rocketmq.create_topic_of(&job.name, 4, "FIFO").await?;
    let table = job.route_table();
    let table = table.replace(&format!("namesrv: \"{}\"", rocketmq.namesrv), &format!("proxy: \"{}\"", rocketmq.grpc));
    let to = format!("to: {{ cluster: billing, topic: {} }}", job.name);
    let table = table.replace(&to, &to.replace(" }", ", options: { messageGroup: key } }"));
    ensure!(table.contains("proxy:") && table.contains("messageGroup"), "{table}");
    let mut bridge = Bridge::start(&table).await?;
    bridge.ready(SOON).await?;
    let mut target = job.target().await?;
    let writer = job.write(100)?;
    job.arrived(&mut target, 500, SOON).await?;
    rocketmq.broker.kill().await?;
    rocketmq.broker.start().await?;
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("through a proxy that was killed: {verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    bridge.fine();
    Ok(())
}
