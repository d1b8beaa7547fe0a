//! The network before the source, the staging or the target is bad, and gets well again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;
use trestle_integration::{
    Bridge, Brokers, Kafka, Mode, Pulsar, RocketMq, Settings, TcpProxy,
    oracle::{Load, Row, commit_breaks},
};

use super::rig::{Job, PARTITIONS, SOON, Site, short_or_soak, written};

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Connections are reset again and again.
    Cuts,
    /// 300 ms more, each way.
    Latency,
    /// What a lost packet costs: nothing for the time of a retransmission.
    Loss,
    /// Nothing goes through, and nobody is told.
    Silence,
    /// The connections that are open stay silent for good; new ones work.
    HalfOpen,
}

const FAULTS: [Fault; 5] = [Fault::Cuts, Fault::Latency, Fault::Loss, Fault::Silence, Fault::HalfOpen];

impl Fault {
    /// Holds all the proxies in this state for about so long.
    async fn inflict(self, proxies: &[&TcpProxy], time: Duration) {
        let set = |mode| proxies.iter().for_each(|proxy| proxy.set(mode));
        match self {
            Fault::Cuts => {
                for _ in 0..time.as_secs() {
                    set(Mode::Cut);
                    sleep(Duration::from_millis(300)).await;
                    set(Mode::Pass);
                    sleep(Duration::from_millis(700)).await;
                }
            }
            Fault::Latency => {
                set(Mode::Delay(Duration::from_millis(300)));
                sleep(time).await;
            }
            Fault::Loss => {
                // One packet in a hundred, and retransmissions after 200 ms and more.
                for nth in 0..time.as_secs() {
                    set(Mode::Stall);
                    sleep(Duration::from_millis(200 << (nth % 3))).await;
                    set(Mode::Pass);
                    sleep(Duration::from_millis(400)).await;
                }
            }
            Fault::Silence => {
                set(Mode::Stall);
                sleep(time * 2).await;
            }
            Fault::HalfOpen => proxies.iter().for_each(|proxy| proxy.forget_connections()),
        }
        set(Mode::Pass);
    }
}

#[tokio::test]
async fn a_bad_network_before_any_broker_loses_reorders_and_dead_letters_nothing() -> Result<()> {
    let proxied = || Settings::default().proxied();
    let (kafka, pulsar, rocketmq) =
        tokio::try_join!(Kafka::start_with(proxied()), Pulsar::start_with(proxied()), RocketMq::start_with(proxied()))?;
    let proxy = |proxy| Option::<&TcpProxy>::context(proxy, "no proxy");
    let all = [proxy(kafka.proxy.as_ref())?, proxy(pulsar.proxy.as_ref())?, proxy(rocketmq.proxy.as_ref())?];
    let job = Job::prepare(Site::of(&kafka, &pulsar, &rocketmq), "network", Load::new("", 1_000_000)).await?;
    let bridge = job.ready().await?;
    job.target().await?;
    let commits = job.commits()?;
    let writer = job.write(300)?;
    written(&writer, 300).await?;
    // One after the other where there is time, and always all at once.
    let rounds: Vec<Vec<&TcpProxy>> = short_or_soak(vec![], all.iter().map(|one| vec![*one]).collect());
    let time = Duration::from_secs(short_or_soak(4, 30));
    let mut recovered = Duration::ZERO;
    for proxies in rounds.into_iter().chain([all.to_vec()]) {
        for fault in FAULTS {
            fault.inflict(&proxies, time).await;
            let what = format!("the network to {} brokers, after {fault:?},", proxies.len());
            let mut target = job.target().await?;
            let flows = job.flows_again(&writer, &mut target, &what).await;
            recovered = recovered.max(flows.with_context(|| bridge.about())?);
        }
    }
    writer.stop();
    let ledger = writer.finish().await?;
    let mut target = job.target().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    let samples = commits.stop().await?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "the network made dead letters: {verdict}");
    let staging = job.site.log().staged(&job.staging(), PARTITIONS, &ledger).await?;
    let breaks = commit_breaks(&samples, &ledger, &staging, &verdict.dead);
    ensure!(breaks.is_empty(), "COMMIT: {breaks:#?}");
    let fault = "cut, slow, lossy, silent, half-open network".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}

/// Answers do not come, for longer than a send may take; then the connections break.
async fn lose_answers(bridge: &Bridge, hop: &str, proxy: &TcpProxy) -> Result<()> {
    let before = bridge.metrics().await?.hop(hop, "messages_delivered_total");
    proxy.set(Mode::StallAnswers);
    sleep(Duration::from_secs(short_or_soak(4, 20))).await;
    let during = bridge.metrics().await?.hop(hop, "messages_delivered_total");
    proxy.reset_connections();
    proxy.set(Mode::Pass);
    // What was on its way when the answers stopped.
    ensure!(during < before + 400, "{hop}: {} messages were confirmed without an answer", during - before);
    Ok(())
}

#[tokio::test]
async fn an_answer_lost_after_the_write_costs_repeats_and_nothing_else() -> Result<()> {
    let shared = Brokers::shared().await?;
    let proxied = || Settings::default().proxied();
    let (pulsar, rocketmq) = tokio::try_join!(Pulsar::start_with(proxied()), RocketMq::start_with(proxied()))?;
    let site = Site::of(&shared.kafka, &pulsar, &rocketmq);
    let job = Job::prepare(site, "answers", Load::new("", 1_000_000)).await?;
    let bridge = job.ready().await?;
    let writer = job.write(500)?;
    let mut target = job.target().await?;
    job.arrived(&mut target, 500, SOON).await?;
    let mut recovered = Duration::ZERO;
    for _ in 0..short_or_soak(1, 5) {
        for (hop, proxy) in [("stage", &pulsar.proxy), ("deliver", &rocketmq.proxy)] {
            lose_answers(&bridge, hop, proxy.as_ref().context("no proxy")?).await?;
            target = job.target().await?;
            recovered =
                recovered.max(job.flows_again(&writer, &mut target, hop).await.with_context(|| bridge.about())?);
        }
    }
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    // RocketMQ stored what the bridge then sent again; otherwise no answer was lost after a write.
    ensure!(!verdict.repeated.is_empty(), "no answer was lost: {verdict}");
    let fault = "answers of Pulsar and of RocketMQ lost after the write".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}
