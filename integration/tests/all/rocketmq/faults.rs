//! Brokers and name servers that freeze, die and come back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::join;
use tokio::time::sleep;
use trestle_core::{FaultKind, Outcome, PartitionId, SourceSpec};
use trestle_integration::{Mode, RocketMq, Settings};

use super::rig::*;

/// First deliveries in order, none missing; how many came more than once.
async fn judge(connector: &std::sync::Arc<dyn trestle_core::Connector>, topic: &str, count: u64) -> Result<usize> {
    let mut member = Member::join(connector, quick_spec(topic, &unique("judge"))).await?;
    let mut numbers = Vec::new();
    while numbers.iter().max() != Some(&(count - 1)) {
        numbers.extend(member.read(1).await?.iter().map(|(_, m)| number(m)).collect::<Result<Vec<_>>>()?);
    }
    member.control.close().await;
    let mut seen = std::collections::BTreeSet::new();
    let firsts: Vec<u64> = numbers.iter().copied().filter(|n| seen.insert(*n)).collect();
    ensure!(firsts == (0..count).collect::<Vec<_>>(), "lost or out of order: {} of {count}", firsts.len());
    Ok(numbers.len() - firsts.len())
}

#[tokio::test]
async fn a_frozen_broker_costs_time_outs_and_nothing_else() -> Result<()> {
    let rocketmq = RocketMq::start().await?;
    let connector = connector(&rocketmq.namesrv)?;
    let topic = topic(&connector, "frozen", 1).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    let mut lane = lane(&sink, 0).await?;
    send_until_stored(&sink, &mut lane, 0, numbered(0..10)).await?;
    rocketmq.broker.pause().await?;
    for _ in 0..2 {
        let begin = Instant::now();
        let sent = lane.send(unit(numbered(10..20))).await;
        ensure!(
            matches!(&sent.runs[..], [(10, Outcome::Unknown(fault))] if fault.kind == FaultKind::Timeout),
            "{sent:?}"
        );
        ensure!(begin.elapsed() < SEND_TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
        ensure!(sink.probe(PartitionId(0)).await.is_err(), "a frozen broker answers a probe");
        ensure!(begin.elapsed() < 2 * SEND_TIMEOUT + Duration::from_secs(1), "{:?}", begin.elapsed());
    }
    rocketmq.broker.unpause().await?;
    let begin = Instant::now();
    send_until_stored(&sink, &mut lane, 0, numbered(10..20)).await?;
    ensure!(begin.elapsed() < Duration::from_secs(10), "flow again only after {:?}", begin.elapsed());
    judge(&connector, &topic, 20).await?;
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_closed_while_the_broker_is_cut_off_commits_its_last_position_all_the_same() -> Result<()> {
    let rocketmq = RocketMq::start_with(Settings::default().proxied()).await?;
    let proxy = rocketmq.proxy.as_ref().context("no proxy")?;
    let connector = connector(&rocketmq.namesrv)?;
    let (topic, group) = (topic(&connector, "closing", 1).await?, unique("group"));
    fill(&connector, &topic, 0..10).await?;
    // Nothing is committed before it closes.
    let spec = SourceSpec { commit_interval: Duration::from_secs(3600), ..source_spec(&topic, &group) };
    let mut member = Member::join(&connector, spec.clone()).await?;
    member.read(10).await?;
    proxy.set(Mode::Cut);
    let mend = async {
        sleep(Duration::from_secs(1)).await;
        proxy.set(Mode::Pass);
    };
    join!(member.control.close(), mend);
    fill(&connector, &topic, 10..20).await?;
    let mut again = Member::join(&connector, spec).await?;
    let numbers: Vec<u64> = again.read(10).await?.iter().map(|(_, m)| number(m)).collect::<Result<_>>()?;
    ensure!(numbers == (10..20).collect::<Vec<_>>(), "{numbers:?}");
    again.control.close().await;
    Ok(())
}

#[tokio::test]
async fn a_killed_broker_is_used_again_as_soon_as_it_is_back() -> Result<()> {
    let rocketmq = RocketMq::start_with(Settings::default().conf("flushDiskType=SYNC_FLUSH")).await?;
    let connector = connector(&rocketmq.namesrv)?;
    let topic = topic(&connector, "killed", 1).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    let mut lane = lane(&sink, 0).await?;
    let mut reader = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    send_until_stored(&sink, &mut lane, 0, numbered(0..100)).await?;
    reader.read(100).await?;
    rocketmq.broker.kill().await?;
    let sent = lane.send(unit(numbered(100..110))).await;
    ensure!(!all_stored(&sent), "{sent:?}");
    rocketmq.broker.start().await?;
    let begin = Instant::now();
    send_until_stored(&sink, &mut lane, 0, numbered(100..200)).await?;
    ensure!(begin.elapsed() < Duration::from_secs(5), "flow again only after {:?}", begin.elapsed());
    // The source goes on where it was.
    let mut numbers = Vec::new();
    while numbers.last() != Some(&199) {
        numbers.extend(reader.read(1).await?.iter().map(|(_, m)| number(m)).collect::<Result<Vec<_>>>()?);
    }
    reader.control.close().await;
    judge(&connector, &topic, 200).await?;
    Ok(())
}

#[tokio::test]
async fn without_its_name_servers_what_is_open_goes_on() -> Result<()> {
    let rocketmq = RocketMq::start_with(Settings::default().name_servers(2)).await?;
    let connector = connector(&rocketmq.namesrv)?;
    let topic = topic(&connector, "nameless", 1).await?;
    rocketmq.name_servers[0].kill().await?;
    let sink = connector.sink(sink_spec(&topic)).await.context("the first name server is dead, the second is not")?;
    let mut lane = lane(&sink, 0).await?;
    let mut reader = Member::join(&connector, quick_spec(&topic, &unique("group"))).await?;
    send_until_stored(&sink, &mut lane, 0, numbered(0..10)).await?;
    reader.read(10).await?;
    rocketmq.name_servers[1].kill().await?;
    sleep(Duration::from_secs(5)).await;
    let sent = lane.send(unit(numbered(10..20))).await;
    ensure!(all_stored(&sent), "{sent:?}");
    sink.probe(PartitionId(0)).await?;
    let read: Vec<u64> = reader.read(10).await?.iter().map(|(_, m)| number(m)).collect::<Result<_>>()?;
    ensure!(read == (10..20).collect::<Vec<_>>(), "{read:?}");
    ensure!(connector.describe(&topic).await.is_err());
    reader.control.close().await;
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_is_doubt_and_repeats_only_what_was_in_doubt() -> Result<()> {
    let rocketmq = RocketMq::start_with(Settings::default().proxied()).await?;
    let proxy = rocketmq.proxy.as_ref().context("no proxy")?;
    let connector = connector(&rocketmq.namesrv)?;
    let topic = topic(&connector, "doubt", 1).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    let mut lane = lane(&sink, 0).await?;
    send_until_stored(&sink, &mut lane, 0, numbered(0..10)).await?;
    proxy.set(Mode::StallAnswers);
    let sent = lane.send(unit(numbered(10..20))).await;
    ensure!(matches!(&sent.runs[..], [(10, Outcome::Unknown(fault))] if fault.kind == FaultKind::Timeout), "{sent:?}");
    proxy.set(Mode::Pass);
    send_until_stored(&sink, &mut lane, 0, numbered(10..20)).await?;
    proxy.reset_connections();
    send_until_stored(&sink, &mut lane, 0, numbered(20..30)).await?;
    let repeats = judge(&connector, &topic, 30).await?;
    ensure!(repeats <= 20, "{repeats} came more than once");
    Ok(())
}
