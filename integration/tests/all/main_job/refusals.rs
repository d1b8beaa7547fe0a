//! Something is missing or forbidden until somebody mends it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;
use trestle_integration::{
    Bridge, Brokers, Pulsar, Settings,
    oracle::{Ledger, Load, Row, Shape, Target, Verdict},
    until,
};

use super::rig::{Job, PARTITIONS, SOON, Site, says, short_or_soak, written};

/// How long something stays broken although the bridge has said so.
const BROKEN: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(120));

#[tokio::test]
async fn a_topic_missing_at_the_source_and_then_at_the_target_is_said_and_waited_for() -> Result<()> {
    let shared = Brokers::shared().await?;
    let site = Site::of(&shared.kafka, &shared.pulsar, &shared.rocketmq);
    let job = Job::plan(site, "missing", Load::new("", 400_000))?;
    let mut bridge = job.start().await?;
    says(&bridge, &["/stage", &job.name, "unknown topic"]).await?;
    shared.kafka.create_topic(&job.name, PARTITIONS).await?;
    bridge.ready(SOON).await?;

    // Before anything is in it: the oracle has to find all that was ever delivered.
    shared.rocketmq.delete_topic(&job.name).await?;
    let writer = job.write(500)?;
    says(&bridge, &["/deliver", "TOPIC_NOT_EXIST"]).await?;
    sleep(short_or_soak(BROKEN.0, BROKEN.1)).await;
    ensure!(bridge.metrics().await?.hop("deliver", "messages_delivered_total") == 0, "delivered to no topic");
    shared.rocketmq.create_topic(&job.name, PARTITIONS as u32).await?;
    let mut target = job.target().await?;
    let recovered = job.flows_again(&writer, &mut target, "the target topic").await.with_context(|| bridge.about())?;
    bridge.ready(SOON).await?;
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    verdict.sound()?;
    ensure!(verdict.dead.is_empty() && verdict.repeated.is_empty(), "{verdict}");
    let fault = "source topic missing at start, target topic deleted".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}

/// What the role `nobody` may do in the tenant `public`: everything or nothing.
async fn permit(pulsar: &Pulsar, everything: bool) -> Result<()> {
    let roles = if everything { r#"["nobody"]"# } else { "[]" };
    let tenant = format!(r#"{{"adminRoles":{roles},"allowedClusters":["standalone"]}}"#);
    pulsar.rest("POST", "tenants/public", &tenant).await.map(drop)
}

#[tokio::test]
async fn a_permission_missing_at_start_and_withdrawn_later_is_said_and_waited_for() -> Result<()> {
    let shared = Brokers::shared().await?;
    // The test itself has no token.
    let pulsar = Pulsar::start_with(Settings::default().secured().conf("anonymousUserRole=trestle")).await?;
    let site = Site::of(&shared.kafka, &pulsar, &shared.rocketmq);
    let mut job = Job::prepare(site, "forbidden", Load::new("", 400_000)).await?;
    job.extra.staging = format!(", token: \"{}\"", Settings::NOBODY);
    let mut bridge = job.start().await?;
    says(&bridge, &["/stage", "nobody"]).await?;
    permit(&pulsar, true).await?;
    bridge.ready(SOON).await?;
    let mut target = job.target().await?;
    let writer = job.write(500)?;
    job.arrived(&mut target, 500, SOON).await?;
    let members = job.members().await?;

    permit(&pulsar, false).await?;
    // What is connected stays so; who comes again is asked.
    pulsar.rest("PUT", "namespaces/public/bridge/unload", "").await?;
    for hop in ["/stage", "/deliver"] {
        says(&bridge, &[hop, "not authorized"]).await?;
    }
    sleep(short_or_soak(BROKEN.0, BROKEN.1)).await;
    permit(&pulsar, true).await?;
    let recovered = job.flows_again(&writer, &mut target, "the permission").await.with_context(|| bridge.about())?;
    bridge.ready(SOON).await?;
    ensure!(job.members().await? == members, "the group was rebalanced");
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    let fault = "permission missing at start, withdrawn later".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}

/// Fits into Pulsar, and not into RocketMQ.
const POISON: u64 = 300;

/// Everything is written, one poison message among it, and the cluster of the dead letters is down, as the bridge has said.
struct Poisoned {
    job: Job,
    bridge: Bridge,
    target: Target,
    letters: Pulsar,
    ledger: Ledger,
}

async fn poisoned(name: &str, count: u64, route: &str) -> Result<Poisoned> {
    let shared = Brokers::shared().await?;
    let letters = Pulsar::start().await?;
    let shape = |number| if number == POISON { Shape::Large((5 << 20) - 4_096) } else { Shape::Plain };
    let load = Load { shape, ..Load::new("", count) };
    let mut job = Job::prepare(Site::of(&shared.kafka, &shared.pulsar, &shared.rocketmq), name, load).await?;
    job.extra.route = route.into();
    job.letters_at = Some((letters.url.clone(), letters.admin.clone()));
    let bridge = job.ready().await?;
    let target = job.target().await?;
    letters.broker.kill().await?;
    let writer = job.write(500)?;
    written(&writer, POISON + 1).await?;
    says(&bridge, &["/deliver", "dead"]).await?;
    let ledger = writer.finish().await?;
    Ok(Poisoned { job, bridge, target, letters, ledger })
}

#[tokio::test]
async fn while_the_dead_letter_topic_is_down_a_poisoned_partition_waits_and_the_others_flow() -> Result<()> {
    // By key, each target queue holds messages of every partition, and all wait for the poisoned one.
    let count = short_or_soak(3_000, 60_000);
    let Poisoned { job, mut bridge, mut target, letters, ledger } =
        poisoned("poisoned", count, "partitioning: same").await?;
    let poisoned = ledger.confirmed.get(&POISON).context("the poison was not written")?.partition;
    // Dead letters cannot be asked for now.
    let others = ledger.confirmed.values().filter(|at| at.partition != poisoned).count();
    job.arrived(&mut target, others, SOON).await.with_context(|| bridge.about())?;

    let staged = format!("{}-partition-{poisoned}", job.staging());
    let log = job.site.log().read(&staged).await?;
    let poison = log.iter().find(|entry| entry.number(&job.load) == Some(POISON)).context("never staged")?.id;
    let acknowledged = acknowledged(&job, &staged).await?;
    ensure!(acknowledged < poison, "acknowledged up to {acknowledged:?}, past the poison at {poison:?}");

    letters.broker.start().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    bridge.ready(SOON).await?;
    let dead = job.dead().await?;
    ensure!(dead.len() == 1 && verdict.dead.iter().eq([&POISON]), "{} dead letters; {verdict}", dead.len());
    let past = || async { Ok((acknowledged_all(&job, &staged).await?).then_some(())) };
    until("all is acknowledged", SOON, past).await?;
    let fault = "dead-letter topic down, a poison message".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}

#[tokio::test]
async fn with_order_key_only_the_key_of_a_poison_message_waits_while_the_dead_letter_topic_is_down() -> Result<()> {
    let Poisoned { job, mut bridge, mut target, letters, ledger } =
        poisoned("waits-apart", 3_000, "order: key").await?;
    let load = job.load.clone();
    let key = |number: &u64| load.message(*number).key;
    let waits = |number: &u64| *number >= POISON && key(number) == key(&POISON);
    let others = ledger.confirmed.keys().filter(|number| !waits(number)).count();
    ensure!(others < ledger.confirmed.len() - 1, "nothing but the poison itself has to wait");
    job.arrived(&mut target, others, SOON).await.with_context(|| bridge.about())?;
    ensure!(!target.numbers().iter().any(waits), "something of the poisoned key has passed it");

    letters.broker.start().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    // What was set aside is delivered behind messages of other keys, as was asked for.
    Verdict { reordered: Vec::new(), ..verdict.clone() }.sound()?;
    ensure!(verdict.dead.iter().eq([&POISON]), "{verdict}");
    let mut seen: Vec<_> =
        target.seen.iter().filter_map(|seen| Some((seen.partition, seen.offset, seen.number?))).collect();
    seen.sort_unstable();
    let mut newest = BTreeMap::new();
    let mut first = BTreeSet::new();
    for (_, _, number) in seen.into_iter().filter(|(_, _, number)| first.insert(*number)) {
        let before = newest.insert(key(&number), number);
        ensure!(before < Some(number), "{number} came behind {before:?} of its key");
    }
    bridge.ready(SOON).await?;
    bridge.fine();
    Ok(())
}

async fn cursor(job: &Job, partition: &str) -> Result<Value> {
    let path = format!("/admin/v2/{}/internalStats", partition.replace("://", "/"));
    let (status, body) = job.site.pulsar_rest("GET", &path, "").await?;
    ensure!(status == 200, "{status}: {body}");
    let stats: Value = serde_json::from_str(&body)?;
    Ok(stats["cursors"][format!("{}-deliver", job.group())].clone())
}

/// Up to where the deliver hop has acknowledged everything in a partition of the staging topic.
async fn acknowledged(job: &Job, partition: &str) -> Result<(u64, u64)> {
    let cursor = cursor(job, partition).await?;
    let position = cursor["markDeletePosition"].as_str().with_context(|| format!("no position in {cursor}"))?;
    let (ledger, entry) = position.split_once(':').context("no ledger")?;
    // Before the first entry it is -1.
    Ok((ledger.parse()?, entry.parse().unwrap_or(0)))
}

async fn acknowledged_all(job: &Job, partition: &str) -> Result<bool> {
    let last = job.site.log().last(partition).await?.context("nothing is staged")?;
    Ok(acknowledged(job, partition).await? >= last)
}
