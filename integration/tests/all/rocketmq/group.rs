//! Members share the queues and lose nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use trestle_core::{Batch, Ensure, Event, PartitionId, Position};
use trestle_integration::Brokers;

use super::rig::*;

const QUIET: Duration = Duration::from_secs(3);

#[tokio::test]
async fn queues_change_hands_without_loss_and_without_repeats_when_nobody_dies() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "hands", 4).await?;
    let group = unique("group");
    let mut numbers = Vec::new();
    let mut first = Member::join(&connector, quick_spec(&topic, &group)).await?;
    fill(&connector, &topic, 0..1_000).await?;
    first.drain(QUIET, &mut numbers).await?;
    ensure!(first.held.len() == 4, "{:?}", first.held);
    let mut second = Member::join(&connector, quick_spec(&topic, &group)).await?;
    fill(&connector, &topic, 1_000..2_000).await?;
    while second.held.len() < 2 {
        let (a, b) = (
            first.drain(Duration::from_millis(200), &mut numbers).await,
            second.next(Duration::from_millis(200)).await?,
        );
        a?;
        if let Some(Event::Batch(batch)) = b {
            numbers.extend(batch.messages.iter().map(number).collect::<Result<Vec<_>>>()?);
            batch.ack.settle(0..batch.messages.len() as u32);
        }
    }
    first.drain(QUIET, &mut numbers).await?;
    second.drain(QUIET, &mut numbers).await?;
    ensure!(first.held.len() == 2 && second.held.len() == 2, "{:?} {:?}", first.held, second.held);
    first.control.close().await;
    fill(&connector, &topic, 2_000..3_000).await?;
    while second.held.len() < 4 {
        second.drain(Duration::from_millis(200), &mut numbers).await?;
    }
    second.drain(QUIET, &mut numbers).await?;
    second.control.close().await;
    numbers.sort_unstable();
    ensure!(numbers == (0..3_000).collect::<Vec<_>>(), "{} came, of them {} different", numbers.len(), {
        numbers.dedup();
        numbers.len()
    });
    Ok(())
}

#[tokio::test]
async fn a_member_that_vanishes_is_replaced_and_loses_nothing() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "vanish", 4).await?;
    let group = unique("group");
    let mut second = Member::join(&connector, quick_spec(&topic, &group)).await?;
    let mut first = Member::join(&connector, quick_spec(&topic, &group)).await?;
    while first.held.len() != 2 || second.held.len() != 2 {
        first.next(Duration::from_millis(100)).await?;
        second.next(Duration::from_millis(100)).await?;
    }
    fill(&connector, &topic, 0..1_000).await?;
    // Reads and settles nothing.
    let Some(Event::Batch(unsettled)) = first.next(SOON).await? else { anyhow::bail!("no batch") };
    drop((unsettled, first));
    let gone = std::time::Instant::now();
    let mut numbers = Vec::new();
    while second.held.len() < 4 {
        second.drain(Duration::from_millis(100), &mut numbers).await?;
        ensure!(gone.elapsed() < Duration::from_secs(10), "not taken over after {:?}", gone.elapsed());
    }
    second.drain(QUIET, &mut numbers).await?;
    second.control.close().await;
    let different: BTreeSet<u64> = numbers.iter().copied().collect();
    ensure!(different.len() == 1_000, "{} came", different.len());
    Ok(())
}

/// Batches are dropped at random, whole or half settled, and the rest is settled; credit comes in small portions.
#[tokio::test]
async fn every_message_is_handed_out_until_it_is_settled_and_none_after() -> Result<()> {
    const COUNT: u64 = 20_000;
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "rewinds", 3).await?;
    let group = unique("group");
    fill(&connector, &topic, 0..COUNT).await?;
    let mut member = Member::join(&connector, quick_spec(&topic, &group)).await?;
    let mut random = SmallRng::seed_from_u64(7);
    let mut settled = BTreeSet::new();
    let mut newest: BTreeMap<PartitionId, (u64, Position)> = BTreeMap::new();
    let mut kept: Vec<Batch> = Vec::new();
    let settle = |batch: Batch, settled: &mut BTreeSet<u64>| -> Result<()> {
        for message in &batch.messages {
            ensure!(settled.insert(number(message)?), "settled before");
        }
        batch.ack.settle(0..batch.messages.len() as u32);
        Ok(())
    };
    let mut drops = 0;
    while settled.len() < COUNT as usize {
        let wait = if kept.is_empty() { SOON } else { Duration::from_millis(20) };
        match member.next(wait).await? {
            None => {
                ensure!(!kept.is_empty(), "stuck at {} of {COUNT}; faults: {:?}", settled.len(), member.faults);
                kept.drain(..).try_for_each(|batch| settle(batch, &mut settled))?;
            }
            Some(Event::Batch(batch)) => {
                for message in &batch.messages {
                    ensure!(!settled.contains(&number(message)?), "handed out after it was settled");
                    let last = newest.insert(batch.partition, (batch.epoch.0, message.position));
                    ensure!(
                        last.is_none_or(|(epoch, at)| epoch < batch.epoch.0 || at < message.position),
                        "handed out twice in one epoch"
                    );
                }
                match random.random_range(0..10) {
                    0 => drops += 1,
                    1 => {
                        let half: Vec<u32> =
                            (0..batch.messages.len() as u32).filter(|_| random.random_bool(0.5)).collect();
                        for at in &half {
                            settled.insert(number(&batch.messages[*at as usize])?);
                        }
                        batch.ack.settle(half.into_iter());
                        drops += 1;
                    }
                    2..5 => kept.push(batch),
                    _ => settle(batch, &mut settled)?,
                }
                if kept.len() > 6 {
                    kept.drain(..).try_for_each(|batch| settle(batch, &mut settled))?;
                }
                for partition in &member.held {
                    member.control.credit(*partition, random.random_range(1..20_000));
                }
            }
            Some(_) => {}
        }
    }
    ensure!(drops > 10, "only {drops} drops");
    member.control.close().await;
    // All of it is committed: nothing is left for the next one.
    let mut next = Member::join(&connector, quick_spec(&topic, &group)).await?;
    let mut rest = Vec::new();
    next.drain(QUIET, &mut rest).await?;
    ensure!(next.held.len() == 3 && rest.is_empty(), "{} held, {} left", next.held.len(), rest.len());
    next.control.close().await;
    Ok(())
}

#[tokio::test]
async fn a_position_that_the_broker_does_not_have_is_a_gap_and_the_queue_stands_still() -> Result<()> {
    const UPDATE_CONSUMER_OFFSET: u32 = 15;
    let rocketmq = &Brokers::shared().await?.rocketmq;
    let connector = connector(&rocketmq.namesrv)?;
    let topic = topic(&connector, "gap", 1).await?;
    fill(&connector, &topic, 0..10).await?;
    let group = unique("group");
    // Makes the group known.
    let mut member = Member::join(&connector, quick_spec(&topic, &group)).await?;
    member.read(10).await?;
    member.control.close().await;
    let beyond = serde_json::json!({"consumerGroup": group, "topic": topic, "queueId": "0", "commitOffset": "1000"});
    rocketmq.request(UPDATE_CONSUMER_OFFSET, beyond, &[]).await?;
    let mut member = Member::join(&connector, quick_spec(&topic, &group)).await?;
    let (partition, from, to) = loop {
        match member.next(SOON).await?.context("no gap")? {
            Event::Gap { partition, from, to } => break (partition, from, to),
            Event::Batch(_) => anyhow::bail!("a batch over a gap"),
            _ => {}
        }
    };
    ensure!((from, to) == (Position::Offset(1_000), Position::Offset(10)), "{from} {to}");
    fill(&connector, &topic, 10..20).await?;
    ensure!(member.next(Duration::from_secs(1)).await?.is_none(), "read on over a gap");
    member.control.start(partition, Some(Position::Offset(5)));
    member.control.credit(partition, PLENTY);
    let read: Vec<u64> = member.read(15).await?.iter().map(|(_, m)| number(m)).collect::<Result<_>>()?;
    ensure!(read == (5..20).collect::<Vec<_>>(), "{read:?}");
    member.control.close().await;
    Ok(())
}

#[tokio::test]
async fn queues_that_are_added_are_written_and_read_from_their_start() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "growth", 1).await?;
    let spec = trestle_core::SourceSpec { start: trestle_core::Start::Latest, ..quick_spec(&topic, &unique("group")) };
    let mut member = Member::join(&connector, spec).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    while member.held.is_empty() {
        member.next(SOON).await?;
    }
    connector.ensure(&topic, Ensure { partitions: 3, durable: None }).await?;
    let writer = connector.sink(sink_spec(&topic)).await?;
    for queue in [1, 2] {
        let first = u64::from(queue) * 10;
        store(&mut *lane(&writer, queue).await?, numbered(first..first + 10)).await?;
    }
    let mut read: Vec<u64> = member.read(20).await?.iter().map(|(_, m)| number(m)).collect::<Result<_>>()?;
    read.sort_unstable();
    ensure!(read == (10..30).collect::<Vec<_>>(), "{read:?}");
    member.control.close().await;
    tokio::time::timeout(SOON, async {
        while sink.partitions() < 3 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .context("the sink did not grow")?;
    Ok(())
}
