//! The source: credit, rewinds, commits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use trestle_core::{Batch, Epoch, Event, Message, PartitionId, Position, SourceSpec};
use trestle_integration::Kafka;

use super::rig::*;

/// Batches are dropped at random, whole or half settled, and the rest is settled; credit comes in small portions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_handed_out_until_it_is_settled_and_no_commit_passes_an_unsettled_one() -> Result<()> {
    const PARTITIONS: i32 = 4;
    const COUNT: u64 = 200_000;
    let servers = servers().await?;
    let (topic, group) = (unique("rewinds"), unique("group"));
    create_topic(&servers, &topic, PARTITIONS, &[]).await?;
    let (to, name) = (servers.clone(), topic.clone());
    tokio::task::spawn_blocking(move || fill(&to, &name, PARTITIONS, COUNT, 100)).await??;

    let connector = connector(&servers, &[])?;
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    let partitions = member.assigned(None).await?;
    ensure!(partitions.len() == PARTITIONS as usize);
    let mut random = SmallRng::seed_from_u64(7);
    let mut settled: Settled = BTreeMap::new();
    let mut newest: BTreeMap<PartitionId, (Epoch, u64)> = BTreeMap::new();
    let mut granted: BTreeMap<PartitionId, i64> = BTreeMap::new();
    let (mut drops, mut batches) = (0, 0);
    for partition in &partitions {
        member.control.credit(*partition, 1);
        granted.insert(*partition, 1);
    }
    let mut kept = Vec::new();
    let total = |settled: &Settled| settled.values().map(|s| s.len() as u64).sum::<u64>();
    while total(&settled) < COUNT {
        // What is kept holds a rewind back: nothing may come until it is settled.
        let wait = if kept.is_empty() { SOON } else { Duration::from_millis(50) };
        let Some(event) = member.next(wait).await? else {
            ensure!(!kept.is_empty(), "stuck at {} of {COUNT}, faults: {:?}", total(&settled), member.faults);
            kept.drain(..).for_each(|batch| settle(batch, &mut settled));
            continue;
        };
        let Event::Batch(batch) = event else { anyhow::bail!("{}", what(&event)) };
        batches += 1;
        let partition = batch.partition;
        let done = settled.entry(partition).or_default();
        for message in &batch.messages {
            let offset = offset(message);
            let last = newest.entry(partition).or_insert((batch.epoch, 0));
            let again = last.0 == batch.epoch && offset <= last.1 && last.1 > 0;
            ensure!(!again, "offset {offset} of {partition} was handed out twice in epoch {:?}", batch.epoch);
            *last = (batch.epoch, offset);
            ensure!(!done.contains(&offset), "offset {offset} of {partition} was settled before");
        }
        let credit = granted.entry(partition).or_default();
        // The last message may cross the line.
        let last = batch.messages.last().map_or(0, |m| m.size());
        ensure!(*credit > 0 && (batch.bytes - last) as i64 <= *credit, "{} bytes on a credit of {credit}", batch.bytes);
        *credit -= batch.bytes as i64;
        let count = batch.messages.len() as u32;
        match random.random_range(0..20) {
            0 => drops += 1,
            1 => {
                let half: Vec<u32> = (0..count).filter(|_| random.random_bool(0.5)).collect();
                done.extend(half.iter().map(|at| offset(&batch.messages[*at as usize])));
                batch.ack.settle(half.into_iter());
                drops += 1;
            }
            2..5 => kept.push(batch),
            _ => settle(batch, &mut settled),
        }
        if kept.len() > 6 || random.random_bool(0.1) {
            kept.drain(..).for_each(|batch| settle(batch, &mut settled));
        }
        for partition in &partitions {
            let credit = granted.entry(*partition).or_default();
            if *credit <= 0 {
                *credit = random.random_range(1..60_000);
                member.control.credit(*partition, *credit as u64);
            }
        }
        if batches % 200 == 0 {
            for (partition, offset) in committed(&servers, &group, &topic, PARTITIONS).await? {
                let done = settled.get(&PartitionId(partition)).context("a commit of nothing settled")?;
                let first = (0..).find(|offset| !done.contains(offset)).unwrap_or(0);
                ensure!(offset as u64 <= first, "{offset} is committed, and {first} is not settled");
            }
        }
    }
    drop(kept);
    ensure!(drops > 10, "only {drops} drops");
    member.control.commit(partitions).await?;
    let committed = committed(&servers, &group, &topic, PARTITIONS).await?;
    ensure!(committed.values().all(|offset| *offset as u64 == COUNT / 4), "{committed:?}");
    member.control.close().await;
    eprintln!("{batches} batches, {drops} drops");
    Ok(())
}

type Settled = BTreeMap<PartitionId, BTreeSet<u64>>;

fn settle(batch: Batch, settled: &mut Settled) {
    settled.entry(batch.partition).or_default().extend(batch.messages.iter().map(offset));
    batch.ack.settle(0..batch.messages.len() as u32);
}

fn offset(message: &Message) -> u64 {
    match message.position {
        Position::Offset(offset) => offset,
        Position::Entry { .. } => unreachable!("Kafka has offsets"),
    }
}

/// Bytes that the broker's container has sent.
async fn sent_by(kafka: &Kafka) -> Result<u64> {
    let said = kafka.broker.exec(&["cat", "/sys/class/net/eth0/statistics/tx_bytes"]).await?;
    Ok(said.trim().parse()?)
}

/// librdkafka throws away what it has fetched of a partition that is paused, and fetches it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_to_wait_for_credit_is_fetched_once() -> Result<()> {
    const COUNT: usize = 20_000;
    const CREDIT: u64 = 20_000;
    let kafka = Kafka::start().await?;
    let (topic, group) = (unique("once"), unique("group"));
    create_topic(&kafka.servers, &topic, 4, &[]).await?;
    fill(&kafka.servers, &topic, 4, COUNT as u64, 1_000)?;
    let connector = connector(&kafka.servers, &[])?;
    connector.describe(&topic).await?;
    let spec = SourceSpec { buffer_bytes: 16 << 20, ..source_spec(&topic, &group) };
    let before = sent_by(&kafka).await?;
    let mut member = Member::join(&connector, spec).await?;
    let Some(Event::Assigned(trackers)) = member.next(SOON).await? else { bail!("not assigned: {:?}", member.faults) };
    for partition in trackers.iter().map(|tracker| tracker.partition()) {
        member.control.start(partition, None);
        member.control.credit(partition, CREDIT);
    }
    let mut read = 0;
    while read < COUNT {
        let batch = member.batch().await.with_context(|| format!("after {read} of {COUNT}"))?;
        read += batch.messages.len();
        batch.ack.settle(0..batch.messages.len() as u32);
        member.control.credit(batch.partition, CREDIT);
    }
    let fetched = sent_by(&kafka).await? - before;
    eprintln!("{fetched} bytes for {COUNT} messages of 1,000");
    ensure!(fetched < COUNT as u64 * 1_500, "{fetched} bytes were fetched for {COUNT} messages of 1,000");
    member.control.close().await;
    Ok(())
}
