//! Without a fault.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trestle_integration::{
    Bridge,
    oracle::{Load, Row, Shape, commit_breaks},
    until,
};

use super::rig::{Job, PARTITIONS, Site, at_rest, short_or_soak, written};

/// Every kind of message, and now and then one.
fn shape(number: u64) -> Shape {
    match number {
        3_333 => Shape::Large(5 << 20),
        n if n % 1_000 == 1 => Shape::NoKey,
        n if n % 1_000 == 2 => Shape::BinaryKey,
        n if n % 1_000 == 3 => Shape::Tombstone,
        n if n % 1_000 == 4 => Shape::Empty,
        n if n % 1_000 == 5 => Shape::OddHeaders,
        n if n % 1_000 == 6 => Shape::Large(200_000),
        _ => Shape::Plain,
    }
}

#[tokio::test]
async fn everything_arrives_once_in_order_and_unchanged_and_the_metrics_add_up() -> Result<()> {
    let count = short_or_soak(10_000, 200_000);
    let job = Job::prepare(Site::shared().await?, "clean", Load { shape, ..Load::new("", count) }).await?;
    let bridge = job.ready().await?;
    let mut warnings = bridge.log_lines("\"WARN\"")?;
    // Kafka's own retention is.
    warnings.retain(|line| !line.contains("read or not"));
    ensure!(warnings.is_empty(), "a first start is nothing to warn of: {warnings:#?}");
    dead_letters_are_kept(&job).await?;
    let mut target = job.target().await?;
    let commits = job.commits()?;
    let ledger = job.write(1_500)?.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    let samples = commits.stop().await?;
    verdict.sound()?;
    ensure!(verdict.repeated.is_empty(), "{verdict}");
    let dead: Vec<u64> = verdict.dead.iter().copied().collect();
    ensure!(dead == [3_333], "more or less than the one too large is dead-lettered: {dead:?}");
    ensure!(job.dead().await?[0].1 == "too_large", "{:?}", job.dead().await?);

    at_rest(&bridge, "stage", count).await?;
    let staged = count - bridge.metrics().await?.hop("stage", "messages_dead_lettered_total");
    at_rest(&bridge, "deliver", staged).await?;
    let (status, body) = bridge.readiness().await?;
    ensure!(status == 200, "{body}");

    ensure!(samples.len() > 10, "only {} samples of committed positions", samples.len());
    let staging = job.site.log().staged(&job.staging(), PARTITIONS, &ledger).await?;
    let breaks = commit_breaks(&samples, &ledger, &staging, &verdict.dead);
    ensure!(breaks.is_empty(), "COMMIT: {breaks:#?}");
    let all = Some(ledger.ends(PARTITIONS));
    ensure!(samples.last().map(|sample| sample.committed.clone()) == all, "{:?} instead of {all:?}", samples.last());
    Row { fault: "none".into(), ledger: &ledger, verdict: &verdict, recovered: None, bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}

/// Before the first dead letter.
async fn dead_letters_are_kept(job: &Job) -> Result<()> {
    let path = format!("/admin/v2/persistent/public/dlq-pulsar-bridge/{}/subscriptions", job.name);
    until("the dead letters' subscription", Duration::from_secs(5), || async {
        let (status, body) = job.site.pulsar_rest("GET", &path, "").await?;
        ensure!(status == 200 && body.contains("\"trestle-dlq\""), "{status}: {body}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_drain_under_load_exits_with_0_and_the_next_start_repeats_nothing() -> Result<()> {
    let count = short_or_soak(9_000, 100_000);
    let job = Job::prepare(Site::shared().await?, "drained", Load::new("", count)).await?;
    let mut lives = vec![job.ready().await?];
    let mut target = job.target().await?;
    let writer = job.write(1_000)?;
    for stop in [count / 3, count / 3 * 2] {
        written(&writer, stop).await?;
        let bridge = lives.last_mut().context("none was started")?;
        let code = bridge.terminate(Duration::from_secs(35)).await?;
        ensure!(code == Some(0), "exit code {code:?}; {}", bridge.about());
        lives.push(job.start().await?);
    }
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    verdict.sound()?;
    ensure!(verdict.repeated.is_empty() && verdict.dead.is_empty(), "{verdict}");
    let bridge = lives.last().context("none was started")?;
    Row { fault: "drained 2 times".into(), ledger: &ledger, verdict: &verdict, recovered: None, bridge }.record()?;
    lives.into_iter().for_each(Bridge::fine);
    Ok(())
}
