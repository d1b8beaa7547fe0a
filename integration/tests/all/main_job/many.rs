//! Many messages in one batch, one of them bad; many routes in one process.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use trestle_integration::{
    Bridge, Brokers, create_kafka_topic,
    oracle::{Load, Row, Shape},
};

use super::rig::{Job, Site, at_rest, short_or_soak};

/// Too large for Pulsar.
const BAD_FOR_STAGING: u64 = 300;
/// Its header is too long for RocketMQ.
const BAD_FOR_TARGET: u64 = 700;

fn shape(number: u64) -> Shape {
    match number {
        BAD_FOR_STAGING => Shape::Large(5 << 20),
        BAD_FOR_TARGET => Shape::LongHeader,
        _ => Shape::Plain,
    }
}

#[tokio::test]
async fn a_bad_message_among_a_thousand_is_one_dead_letter_on_either_hop() -> Result<()> {
    const COUNT: u64 = 1_000;
    // One key, so that all are in one partition; and all are there before anything is read.
    let load = Load { shape, keys: 1, ..Load::new("", COUNT) };
    let mut job = Job::prepare(Site::shared().await?, "bad", load).await?;
    // So that the bridge itself takes what Pulsar will not.
    job.table = "memory: { largest_message: 6MiB }".into();
    let ledger = job.write(1_000_000)?.finish().await?;
    let bridge = job.ready().await?;
    let mut target = job.target().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.repeated.is_empty() && verdict.delivered as u64 == COUNT - 2, "{verdict}");
    let letters = job.dead().await?;
    let dead: Vec<_> = letters.iter().map(|(seen, cause)| (seen.number, cause.as_str())).collect();
    ensure!(dead == [(Some(BAD_FOR_STAGING), "too_large"), (Some(BAD_FOR_TARGET), "illegal_property")], "{dead:?}");
    at_rest(&bridge, "stage", COUNT).await?;
    at_rest(&bridge, "deliver", COUNT - 1).await?;
    let fault = "a bad message among a thousand, either hop".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}

const LIMIT: u64 = 256 << 20;

#[tokio::test]
async fn many_routes_with_many_partitions_start_in_time_and_stay_within_memory() -> Result<()> {
    const PARTITIONS: i32 = 10;
    // Stage and deliver: a thousand partitions on each side of the staging topics.
    let routes = short_or_soak(10, 100);
    let shared = Brokers::shared().await?;
    let site = || Site::of(&shared.kafka, &shared.pulsar, &shared.rocketmq);
    let mut jobs = Vec::new();
    for _ in 0..routes {
        let job = Job::plan(site(), "many", Load::new("", 200))?;
        create_kafka_topic(&job.site.kafka, &job.name, PARTITIONS, &[]).await?;
        jobs.push(job);
    }
    let all: Vec<String> = jobs.iter().map(Job::route).collect();
    let table = format!("{}\nroutes:\n{}\nmemory: {{ limit: 256MiB }}", jobs[0].clusters(), all.join("\n"));
    // The first one makes the topics.
    let mut first = Bridge::start(&table).await?;
    first.ready(Duration::from_secs(30 + 6 * routes)).await?;
    let code = first.terminate(Duration::from_secs(60)).await?;
    ensure!(code == Some(0), "exit code {code:?}; {}", first.about());
    let mut bridge = Bridge::start(&table).await?;
    let begin = std::time::Instant::now();
    // The promise of 30 s is of 100 routes on a quiet machine; the table of the long form says what it took.
    bridge.ready(Duration::from_secs(60)).await?;
    let started = begin.elapsed();
    let last = jobs.last().context("no route")?;
    let ledgers = try_join_all([&jobs[0], last].map(|job| async move { job.write(1_000)?.finish().await })).await?;
    for (job, ledger) in [&jobs[0], last].into_iter().zip(&ledgers) {
        let mut target = job.target().await?;
        let verdict = job.judged(&mut target, ledger).await?;
        verdict.sound()?;
        ensure!(verdict.dead.is_empty() && verdict.repeated.is_empty(), "{verdict}");
        let fault = format!("{routes} routes with {PARTITIONS} partitions each");
        Row { fault, ledger, verdict: &verdict, recovered: Some(started), bridge: &bridge }.record()?;
    }
    let memory = bridge.memory()?;
    println!("{routes} routes started in {started:?}; {} MiB at its highest", memory.peak >> 20);
    ensure!(memory.peak < LIMIT, "{} MiB at its highest", memory.peak >> 20);
    first.fine();
    bridge.fine();
    Ok(())
}
