//! The target stores, but not as surely as it promises to.

use anyhow::{Context, Result, ensure};
use trestle_integration::{
    Brokers, RocketMq,
    oracle::{Load, Row},
};

use super::rig::{Job, SOON, Site, at_rest, says, short_or_soak};

#[tokio::test]
async fn what_was_stored_without_its_flush_is_settled_only_where_the_cluster_says_so() -> Result<()> {
    let shared = Brokers::shared().await?;
    let rocketmq = RocketMq::start().await?;
    let site = || Site::of(&shared.kafka, &shared.pulsar, &rocketmq);
    let count = short_or_soak(2_000, 20_000);
    let replicated = Job::prepare(site(), "replicated", Load::new("", 400_000)).await?;
    let mut accepted = Job::prepare(site(), "accepted", Load::new("", count)).await?;
    accepted.extra.billing = ", durability: accepted".into();
    let (sure, content) = tokio::try_join!(replicated.ready(), accepted.ready())?;
    let mut target = replicated.target().await?;
    let writer = replicated.write(300)?;
    replicated.arrived(&mut target, 300, SOON).await?;

    // Every flush is late from now on: the broker answers FLUSH_DISK_TIMEOUT to what it has stored.
    rocketmq.reconfigure("syncFlushTimeout=0").await?;
    says(&sure, &["/deliver", "FLUSH_DISK_TIMEOUT"]).await?;
    let ledger = accepted.write(500)?.finish().await?;
    let mut accepted_target = accepted.target().await?;
    let verdict = accepted.judged(&mut accepted_target, &ledger).await.with_context(|| content.about())?;
    println!("accepted: {verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty() && verdict.repeated.is_empty(), "{verdict}");
    at_rest(&content, "deliver", count).await?;
    let metrics = sure.metrics().await?;
    target.read_on(&replicated.load).await?;
    let (stored, settled) = (target.numbers().len() as u64, metrics.hop("deliver", "messages_delivered_total"));
    ensure!(settled < stored, "{settled} are settled of {stored} that were stored, and some of them not for sure");

    rocketmq.reconfigure("syncFlushTimeout=5000").await?;
    let recovered = replicated.flows_again(&writer, &mut target, "the flush").await.with_context(|| sure.about())?;
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = replicated.judged(&mut target, &ledger).await.with_context(|| sure.about())?;
    println!("replicated: {verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    at_rest(&sure, "deliver", ledger.confirmed.len() as u64).await?;
    let fault = "FLUSH_DISK_TIMEOUT on every write".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &sure }.record()?;
    sure.fine();
    content.fine();
    Ok(())
}
