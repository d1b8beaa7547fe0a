//! A target that takes what it is given, slowly.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;
use trestle_integration::{
    Brokers, Mode, RocketMq, Settings,
    oracle::{Load, Row},
    until,
};

use super::rig::{Job, SOON, Site, short_or_soak};

const LIMIT: u64 = 128 << 20;
const VALUE_BYTES: usize = 20_000;

#[tokio::test]
async fn a_slow_target_costs_neither_memory_nor_membership() -> Result<()> {
    let shared = Brokers::shared().await?;
    let rocketmq = RocketMq::start_with(Settings::default().proxied()).await?;
    let proxy = rocketmq.proxy.as_ref().context("no proxy")?;
    let site = Site::of(&shared.kafka, &shared.pulsar, &rocketmq);
    let mut job = Job::prepare(site, "slow", Load { value_bytes: VALUE_BYTES, ..Load::new("", 400_000) }).await?;
    // Staging would take all of it, and the source would never have to wait.
    job.direct = true;
    job.options.push(("max.poll.interval.ms", "10000"));
    job.table = "memory: { limit: 128MiB }".into();
    let bridge = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(100)?;
    job.arrived(&mut target, 100, SOON).await?;
    let members = job.members().await?;
    ensure!(members.len() == 1, "{members:?}");

    // Ten messages a second.
    proxy.set(Mode::Slow(10 * VALUE_BYTES as u32));
    let (begin, time) = (Instant::now(), Duration::from_secs(short_or_soak(30, 600)));
    let before = delivered(&bridge).await?;
    let mut paused = 0;
    while begin.elapsed() < time {
        sleep(Duration::from_millis(500)).await;
        let metrics = bridge.metrics().await?;
        paused += usize::from(metrics.sum("trestle_paused_partitions", &[]) > 0.0);
        ensure!(job.members().await? == members, "the group was rebalanced");
    }
    let slowly = delivered(&bridge).await? - before;
    let memory = bridge.memory()?;
    proxy.set(Mode::Pass);
    println!(
        "{slowly} delivered in {time:?}, paused in {paused} of {} looks, {} MiB",
        time.as_secs() * 2,
        memory.peak >> 20
    );
    ensure!(memory.peak < LIMIT, "{} MiB at its highest", memory.peak >> 20);
    ensure!(slowly > 0, "nothing was delivered in {time:?}");
    ensure!(paused > 0, "the source never had to wait: the target was not slow");
    let (begin, so_far) = (Instant::now(), delivered(&bridge).await?);
    let faster = || async { Ok((delivered(&bridge).await? > so_far + 500).then_some(())) };
    until("it delivers faster", SOON, faster).await.with_context(|| bridge.about())?;
    let recovered = begin.elapsed();
    let mut target = job.target().await?;
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    ensure!(job.members().await? == members, "the group was rebalanced");
    let fault = format!("target slow for {} s", time.as_secs());
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}

async fn delivered(bridge: &trestle_integration::Bridge) -> Result<u64> {
    Ok(bridge.metrics().await?.sum("trestle_messages_delivered_total", &[]) as u64)
}
