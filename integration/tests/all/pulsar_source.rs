//! The source of the Pulsar connector, on real brokers: what the suite of promises does not reach.

mod java;
mod rig;
mod starting;
mod types;

use std::{
    collections::HashSet,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures::try_join;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use trestle_core::{Batch, Cause, PartitionId, Position, SinkSpec, SourceSpec, Start};
use trestle_integration::{Brokers, Pulsar};

use self::rig::{Judge, Reader, acknowledged, fill, filled, numbers, settle_all, spec};
use crate::{
    parts::SOON,
    pulsar_sink::rig::{Owner, connector, message, numbered, spec as sink_spec},
};

/// A 4.2.4 broker that is asked to redeliver while it reads leaves entries out, one time in five in this test.
#[tokio::test]
async fn whatever_is_dropped_comes_again_in_order_and_nothing_is_acknowledged_in_front_of_it() -> Result<()> {
    const EACH: u64 = 25_000;
    let (pulsar, connector) = filled("dropped", 4, EACH).await?;
    let mut reader = Reader::open(&connector, spec("dropped"), 100_000).await?;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut judge, mut held, mut drops) = (Judge::default(), Vec::<Batch>::new(), 0);
    while judge.all() < 4 * EACH as usize {
        // What is held keeps its partition from going back, so without news it has to go.
        let limit = if held.is_empty() { SOON } else { Duration::from_millis(100) };
        let Some(batch) = reader.batch(limit).await? else {
            ensure!(!held.is_empty(), "stalled with {} settled", judge.all());
            held.drain(..).for_each(|batch| judge.settle_all(&batch));
            continue;
        };
        judge.hear(&batch)?;
        let partition = batch.partition;
        match random.random_range(0..10) {
            0 => {
                drops += 1;
                let some = (0..batch.messages.len() as u32).filter(|_| random.random_bool(0.5)).collect();
                judge.settle(&batch, some);
            }
            1 | 2 => held.push(batch),
            _ => judge.settle_all(&batch),
        }
        if held.len() > 8 {
            let oldest = &held[0];
            reader.control.commit(vec![oldest.partition]).await?;
            let Some(Position::Entry { ledger, entry, .. }) = oldest.messages.first().map(|m| m.position) else {
                bail!("a position of another protocol");
            };
            let reached = acknowledged(pulsar, "dropped", oldest.partition.0).await?;
            ensure!(reached < (ledger, entry as i64), "{reached:?} is acknowledged, {ledger}:{entry} is not settled");
            held.drain(..).for_each(|batch| judge.settle_all(&batch));
        }
        let credit = if random.random_bool(0.1) { 1 } else { random.random_range(1..400_000) };
        reader.control.credit(partition, credit);
    }
    println!("{drops} drops");
    reader.control.commit((0..4).map(PartitionId).collect()).await?;
    for partition in 0..4 {
        let path = format!("persistent/public/default/dropped-partition-{partition}/subscription/readers/backlog");
        let stats = pulsar.rest("GET", &path.replace("/subscription/readers/backlog", "/stats"), "").await?;
        let stats: serde_json::Value = serde_json::from_str(&stats)?;
        ensure!(stats["subscriptions"]["readers"]["msgBacklog"] == 0, "{partition}: {stats}");
    }
    reader.control.close().await;
    Ok(())
}

/// A lane whose gate closes ends the epoch, and all that came may be settled by then.
#[tokio::test]
async fn an_epoch_that_ends_with_everything_settled_leaves_nothing_out() -> Result<()> {
    const EACH: u64 = 50_000;
    let (_, connector) = filled("epochs", 2, EACH).await?;
    let mut reader = Reader::open(&connector, spec("epochs"), 1 << 40).await?;
    let (mut judge, mut batches) = (Judge::default(), 0);
    while judge.all() < 2 * EACH as usize {
        let batch = reader.next().await.with_context(|| format!("{} of {} came", judge.all(), 2 * EACH))?;
        judge.hear(&batch)?;
        judge.settle_all(&batch);
        let partition = batch.partition;
        drop(batch);
        reader.control.credit(partition, 1 << 40);
        batches += 1;
        if batches % 3 == 0 {
            reader.trackers.get(&partition).context("no tracker")?.end_epoch();
        }
    }
    reader.control.close().await;
    Ok(())
}

/// Going back takes a new consumer, and the broker may give the partition to the other reader meanwhile.
#[tokio::test]
async fn two_readers_that_go_back_again_and_again_leave_nothing_out_and_find_no_gap() -> Result<()> {
    const EACH: u64 = 10_000;
    let (_, connector) = filled("two-readers", 2, EACH).await?;
    let settled = Mutex::new(HashSet::new());
    let read = || async {
        let mut reader = Reader::open(&connector, spec("two-readers"), 1 << 20).await?;
        reader.others = true;
        let (mut batches, mut since) = (0, Instant::now());
        loop {
            let all = settled.lock().unwrap().len();
            if all == 2 * EACH as usize {
                break;
            }
            let Some(batch) = reader.batch(Duration::from_millis(300)).await? else {
                ensure!(since.elapsed() < SOON, "stalled with {all} settled");
                continue;
            };
            since = Instant::now();
            batches += 1;
            // Every third one is dropped, and ends the epoch.
            if batches % 3 != 0 {
                settled.lock().unwrap().extend(numbers(&batch).into_iter().map(|number| (batch.partition, number)));
                settle_all(&batch);
            }
            reader.control.credit(batch.partition, 1 << 20);
        }
        reader.control.close().await;
        anyhow::Ok(reader.revoked)
    };
    println!("{:?} revoked", try_join!(read(), read())?);
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_inside_a_batch_holds_for_the_next_reader() -> Result<()> {
    let (_, connector) = filled("inside", 1, 300).await?;
    for begin in [0, 123, 124, 290] {
        let mut reader = Reader::open(&connector, spec("inside"), 10 << 20).await?;
        let mut settled = begin;
        let end = match begin {
            0 => 123,
            123 => 124,
            124 => 290,
            _ => 300,
        };
        while settled < end {
            let batch = reader.next().await?;
            let first = numbers(&batch)[0];
            ensure!(first == settled, "{first} instead of {settled}");
            let some = (end - settled).min(batch.messages.len() as u64) as u32;
            batch.ack.settle(0..some);
            settled += u64::from(some);
            reader.control.commit(vec![batch.partition]).await?;
        }
        reader.control.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_broker_ends_no_assignment_and_loses_and_repeats_nothing() -> Result<()> {
    const ALL: u64 = 20_000;
    let pulsar = Pulsar::start().await?;
    pulsar.create_topic("public/default/killed", 1).await?;
    let connector = connector(&pulsar);
    fill(&connector, "killed", 1, ALL).await?;
    let mut reader = Reader::open(&connector, spec("killed"), 100_000).await?;
    let (mut judge, mut killed) = (Judge::default(), false);
    while judge.all() < ALL as usize {
        let batch = reader.next().await?;
        judge.hear(&batch)?;
        if !killed && judge.all() > ALL as usize / 3 {
            killed = true;
            pulsar.broker.kill().await?;
            // What is in flight settles while there is nobody to acknowledge it to.
            judge.settle_all(&batch);
            ensure!(reader.control.commit(vec![batch.partition]).await.is_err(), "who answered?");
            pulsar.broker.start().await?;
        } else {
            judge.settle_all(&batch);
        }
        reader.control.credit(batch.partition, 100_000);
    }
    ensure!(reader.assigned == 1 && reader.faults > 0, "{} assigned, {} faults", reader.assigned, reader.faults);
    reader.control.commit(vec![PartitionId(0)]).await?;
    reader.control.close().await;
    Ok(())
}

#[tokio::test]
async fn a_chunked_message_comes_whole_and_what_lies_between_its_chunks_does_not_acknowledge_it() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/chunked", 1).await?;
    let connector = connector(pulsar);
    let sink = connector.sink(SinkSpec { split_large: true, ..sink_spec("chunked") }).await?;
    let mut owner = Owner::open(&sink, 0).await?;
    let value: Vec<u8> = (0..12u32 << 20).map(|at| (at * 7 + at / 251) as u8).collect();
    for (offset, value) in [(0, vec![1]), (1, value.clone()), (2, vec![2])] {
        owner.push(vec![message(offset, value)])?;
        owner.deliver().await?;
    }
    owner.lane.close().await;
    let large = || SourceSpec { largest_message: 16 << 20, ..spec("chunked") };
    // It is handed out and not settled: the next reader gets it again, whole.
    for _ in 0..2 {
        let mut reader = Reader::open(&connector, large(), 64 << 20).await?;
        // What is dropped unsettled is read again, so the batches are kept.
        let (mut values, mut kept) = (Vec::new(), Vec::new());
        while values.len() < 3 {
            let batch = reader.next().await?;
            ensure!(batch.messages.iter().all(|m| m.defect.is_none()), "{:?}", batch.messages[0].defect);
            values.extend(batch.messages.iter().filter_map(|m| m.value.clone()));
            reader.control.commit(vec![batch.partition]).await?;
            kept.push(batch);
        }
        ensure!(values[0][..] == [1] && values[1] == value && values[2][..] == [2]);
        reader.control.close().await;
    }
    // Too large for this reader: a defect with the whole value.
    let mut reader = Reader::open(&connector, spec("chunked"), 64 << 20).await?;
    let mut messages = Vec::new();
    while messages.len() < 3 {
        let batch = reader.next().await?;
        settle_all(&batch);
        messages.extend(batch.messages.iter().cloned());
    }
    ensure!(messages[1].defect.as_ref().is_some_and(|d| d.cause == Cause::TooLarge), "{:?}", messages[1].defect);
    ensure!(messages[1].value.as_ref().is_some_and(|v| *v == value));
    reader.control.close().await;
    Ok(())
}

#[tokio::test]
async fn a_partition_that_is_added_is_read_from_its_beginning() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/grows", 1).await?;
    let connector = connector(pulsar);
    let latest = SourceSpec { start: Start::Latest, ..spec("grows") };
    let mut reader = Reader::open(&connector, latest, 10 << 20).await?;
    pulsar.rest("POST", "persistent/public/default/grows/partitions", "2").await?;
    let sink = connector.sink(sink_spec("grows")).await?;
    let mut owner = Owner::open(&sink, 1).await?;
    owner.push(numbered(0..100, 100))?;
    owner.deliver().await?;
    let begin = Instant::now();
    let mut next = 0;
    while next < 100 {
        let batch = reader.next().await?;
        for number in numbers(&batch) {
            ensure!(batch.partition == PartitionId(1) && number == next, "{number} instead of {next}");
            next += 1;
        }
        settle_all(&batch);
    }
    ensure!(begin.elapsed() < Duration::from_secs(20));
    owner.lane.close().await;
    reader.control.close().await;
    Ok(())
}
