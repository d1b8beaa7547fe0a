//! A broker freezes, dies or stays away, and comes back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;
use trestle_integration::{
    Brokers, Kafka, Pulsar, RocketMq, Settings,
    oracle::{Load, Row, Shape},
};

use super::rig::{Job, SOON, Site, short_or_soak, written};

/// Above what the bridge had in its working set, while it cannot deliver.
const FLAT: u64 = 64 << 20;

#[tokio::test]
async fn a_frozen_and_then_a_dead_target_costs_no_dead_letter_no_memory_and_no_membership() -> Result<()> {
    let shared = Brokers::shared().await?;
    let rocketmq = RocketMq::start().await?;
    let site = Site::of(&shared.kafka, &shared.pulsar, &rocketmq);
    let frozen = short_or_soak(Duration::from_secs(20), Duration::from_secs(60));
    // More than is written in the time: messages go on through both outages.
    let mut job = Job::prepare(site, "frozen", Load::new("", 400_000)).await?;
    job.options.push(("max.poll.interval.ms", "10000"));
    let bridge = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(500)?;
    written(&writer, 1_000).await?;
    job.arrived(&mut target, 1, SOON).await?;
    let (members, before) = (job.members().await?, bridge.memory()?);
    ensure!(members.len() == 1, "{members:?}");

    rocketmq.broker.pause().await?;
    sleep(frozen).await;
    let during = bridge.memory()?;
    rocketmq.broker.unpause().await?;
    let mut recovered = job.flows_again(&writer, &mut target, "frozen").await?;
    ensure!(
        during.now < before.now + FLAT,
        "memory grew from {} to {} while RocketMQ was frozen",
        before.now,
        during.now
    );

    rocketmq.broker.kill().await?;
    // Three times max.poll.interval.ms.
    sleep(Duration::from_secs(30)).await;
    let (after, during) = (job.members().await?, bridge.memory()?);
    let (status, body) = bridge.readiness().await?;
    ensure!(status == 503, "readiness says {status} while RocketMQ is dead: {body}");
    rocketmq.broker.start().await?;
    // The reader's connection died with the broker.
    let mut target = job.target().await?;
    recovered = recovered.max(job.flows_again(&writer, &mut target, "dead").await?);
    ensure!(after == members, "the group's members were {members:?} and are {after:?}");
    ensure!(
        during.now < before.now + FLAT,
        "memory grew from {} to {} while RocketMQ was dead",
        before.now,
        during.now
    );

    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "an outage made dead letters: {verdict}");
    let fault = format!("RocketMQ frozen {} s, dead 30 s", frozen.as_secs());
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    println!("{verdict}");
    bridge.fine();
    Ok(())
}

#[tokio::test]
async fn pulsar_and_then_kafka_are_killed_and_come_back_and_dead_letters_stay() -> Result<()> {
    let shared = Brokers::shared().await?;
    let collection = Settings::default()
        .conf("brokerDeleteInactiveTopicsFrequencySeconds=3")
        .conf("brokerDeleteInactiveTopicsMaxInactiveDurationSeconds=3");
    let (kafka, pulsar) = tokio::try_join!(Kafka::start(), Pulsar::start_with(collection))?;
    let site = Site::of(&kafka, &pulsar, &shared.rocketmq);
    let shape = |n| if n == 700 { Shape::Large(5 << 20) } else { Shape::Plain };
    let job = Job::prepare(site, "restarted", Load { shape, ..Load::new("", 100_000) }).await?;
    let mut bridge = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(500)?;
    written(&writer, 2_000).await?;

    pulsar.broker.kill().await?;
    pulsar.broker.start().await?;
    let recovered = job.flows_again(&writer, &mut target, "Pulsar").await.with_context(|| bridge.about())?;
    kafka.broker.kill().await?;
    kafka.broker.start().await?;
    let confirmed = writer.confirmed();
    written(&writer, confirmed + 1_000).await?;
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    verdict.sound()?;
    ensure!(verdict.dead.iter().eq([&700]), "{verdict}");
    let fault = "Pulsar, then Kafka killed".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    println!("{verdict}");

    let code = bridge.terminate(Duration::from_secs(35)).await?;
    ensure!(code == Some(0), "exit code {code:?}");
    // Nobody is connected now, and the broker collects what nobody uses.
    sleep(Duration::from_secs(short_or_soak(12, 300))).await;
    let dead = job.dead().await?;
    ensure!(dead.len() == 1 && dead[0].0.differs.is_empty(), "the dead letter is gone or changed: {dead:?}");
    bridge.fine();
    Ok(())
}
