//! The source lost what was not read; topics grow and move.

use anyhow::{Context, Result, ensure};
use trestle_integration::{
    Bridge, Brokers, delete_kafka_records,
    oracle::{Load, Row, judge},
};

use super::rig::{Job, SOON, Site, says, short_or_soak, written};

/// The partition that loses messages.
const GAP: i32 = 0;
/// Of those that are left in it.
const LEFT: i64 = 100;

#[tokio::test]
async fn what_retention_deleted_unread_is_a_loud_gap_and_costs_only_what_it_deleted() -> Result<()> {
    let mut job = Job::prepare(Site::shared().await?, "gap", Load::new("", 1_000_000)).await?;
    let mut first = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(1_000)?;
    job.arrived(&mut target, 500, SOON).await?;
    first.terminate(SOON).await?;
    let unread = writer.confirmed() + short_or_soak(3_000, 60_000);
    written(&writer, unread).await?;
    writer.stop();
    let ledger = writer.finish().await?;
    let ends = ledger.ends(GAP + 1);
    let cut = ends[0].context("nothing was written")? - LEFT;
    delete_kafka_records(&job.site.kafka, &job.name, GAP, cut).await?;

    let mut second = job.start().await?;
    says(&second, &["/stage", "partition 0", "gone at the source"]).await?;
    gap_is_told(&second, "stands still").await?;
    let letters = job.all_there(&mut target, &ledger, |partition| partition != GAP).await?;
    let verdict = judge(&ledger, &target.seen, &letters);
    let held = |number: &u64| ledger.confirmed[number].offset >= cut;
    ensure!(verdict.lost.iter().filter(|number| held(number)).count() as i64 == LEFT, "it went on: {verdict}");
    second.terminate(SOON).await?;

    job.extra.from = ", on_gap: earliest".into();
    let third = job.ready().await?;
    let before = target.numbers().len();
    job.arrived(&mut target, before + LEFT as usize, SOON).await.with_context(|| third.about())?;
    gap_is_told(&third, "going on behind the gap").await?;
    target.read_on(&job.load).await?;
    let verdict = judge(&ledger, &target.seen, &letters);
    println!("{verdict}");
    let deleted = |number: &u64| {
        let at = ledger.confirmed[number];
        at.partition == GAP && at.offset < cut
    };
    ensure!(!verdict.lost.is_empty() && verdict.lost.iter().all(deleted), "{verdict}");
    ensure!(verdict.corrupt.is_empty() && verdict.reordered.is_empty() && verdict.phantoms.is_empty(), "{verdict}");
    ensure!(verdict.dead.is_empty() && verdict.repeated.is_empty(), "{verdict}");
    for bridge in [first, second, third] {
        bridge.fine();
    }
    Ok(())
}

async fn gap_is_told(bridge: &Bridge, what_follows: &str) -> Result<()> {
    let gaps = bridge.metrics().await?.hop("stage", "gaps_total");
    ensure!(gaps == 1, "trestle_gaps_total is {gaps}");
    let lines = bridge.log_lines(what_follows)?;
    ensure!(lines.len() == 1 && lines[0].contains("ERROR"), "the log says {lines:?}");
    Ok(())
}

#[tokio::test]
async fn topics_that_grow_and_move_under_load_lose_and_reorder_nothing() -> Result<()> {
    const GROWN: u32 = 8;
    let shared = Brokers::shared().await?;
    let site = Site::of(&shared.kafka, &shared.pulsar, &shared.rocketmq);
    let mut job = Job::prepare(site, "grown", Load::new("", 1_000_000)).await?;
    // Its bundles are split, and nobody else's are touched.
    job.namespace = format!("public/{}", job.name);
    job.options.push(("topic.metadata.refresh.interval.ms", "2000"));
    let bridge = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(500)?;
    job.arrived(&mut target, 500, SOON).await?;

    for round in 0..short_or_soak(1, 10) {
        for partition in 0..4 {
            let path = format!("persistent/{}/{}-partition-{partition}/unload", job.namespace, job.name);
            shared.pulsar.rest("PUT", &path, "").await?;
        }
        job.flows_again(&writer, &mut target, &format!("the staging topic, unloaded {} times,", round + 1)).await?;
    }
    let bundles = shared.pulsar.rest("GET", &format!("namespaces/{}/bundles", job.namespace), "").await?;
    let bundles: serde_json::Value = serde_json::from_str(&bundles)?;
    let bounds = bundles["boundaries"].as_array().context("no boundaries")?;
    for bundle in bounds.windows(2) {
        let range = format!("{}_{}", bundle[0].as_str().context("no text")?, bundle[1].as_str().context("no text")?);
        let path = format!("namespaces/{}/{range}/split?unload=true", job.namespace);
        shared.pulsar.rest("PUT", &path, "").await?;
    }
    job.flows_again(&writer, &mut target, "the staging topic, its bundles split,").await?;

    shared.kafka.add_partitions(&job.name, GROWN as usize).await?;
    let more = || async {
        let staged = bridge.metrics().await?;
        let lagged = staged.sum("trestle_route_up", &[("hop", "stage")]);
        Ok((lagged == 1.0 && job.site.log().last(&format!("{}-partition-7", job.staging())).await?.is_some())
            .then_some(()))
    };
    trestle_integration::until("a new partition is staged", SOON, more).await.with_context(|| bridge.about())?;
    shared.rocketmq.create_topic(&job.name, GROWN).await?;
    let confirmed = writer.confirmed();
    written(&writer, confirmed + short_or_soak(15_000, 60_000)).await?;
    writer.stop();
    let ledger = writer.finish().await?;
    let mut target = job.target().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    // A key goes elsewhere once there are more partitions; that is what `scattered` counts.
    ensure!(verdict.lost.is_empty() && verdict.reordered.is_empty() && verdict.corrupt.is_empty(), "{verdict}");
    ensure!(verdict.phantoms.is_empty() && verdict.dead.is_empty(), "{verdict}");
    ensure!(ledger.confirmed.values().any(|at| at.partition >= 4), "no new partition was written");
    ensure!(target.seen.iter().any(|seen| seen.partition >= 4), "no new queue was used");
    let fault = "unloaded, bundles split, 4 partitions and queues to 8".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}
