//! The source as a member of a group: hand-overs, patience, positions that are gone.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
};
use trestle_core::{Event, FaultKind, Position, Start, Why};

use trestle_integration::delete_kafka_records;

use super::rig::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_is_handed_over_only_when_it_is_let_go_and_what_settled_is_committed() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("hand-over"), unique("group"));
    create_topic(&servers, &topic, 4, &[]).await?;
    fill(&servers, &topic, 4, 4000, 50)?;
    let connector = connector(&servers, &[])?;
    let mut first = Member::join(&connector, source_spec(&topic, &group)).await?;
    ensure!(first.assigned(None).await?.len() == 4);
    let read = first.read(4000).await?;
    ensure!(read.len() == 4000);
    fill(&servers, &topic, 4, 400, 50)?;
    let mut held = Vec::new();
    while held.iter().map(|b: &trestle_core::Batch| b.messages.len()).sum::<usize>() < 400 {
        held.push(first.batch().await?);
    }

    let mut second = Member::join(&connector, source_spec(&topic, &group)).await?;
    let revoked = loop {
        // Both are polled, as their owners would.
        if let Some(Event::Batch(_)) = second.next(Duration::from_millis(10)).await? {
            bail!("a batch for the second before the first let go")
        }
        match first.next(Duration::from_secs(1)).await? {
            Some(Event::Revoked { partitions, lost, done }) => break (partitions, lost, done),
            Some(Event::Assigned(_)) | None => {}
            Some(other) => bail!("{}", what(&other)),
        }
    };
    let (partitions, lost, done) = revoked;
    ensure!(!lost && partitions.len() == 2, "{partitions:?}, lost: {lost}");
    // Not let go: the second gets nothing.
    let wait = Instant::now() + Duration::from_secs(3);
    while Instant::now() < wait {
        match second.next(Duration::from_millis(100)).await? {
            Some(Event::Assigned(trackers)) if !trackers.is_empty() => bail!("assigned before the first let go"),
            _ => {}
        }
        if let Some(event) = first.next(Duration::from_millis(10)).await? {
            ensure!(!matches!(event, Event::Batch(_)), "{}", what(&event));
        }
    }
    // Half of what is in flight settles meanwhile.
    for batch in held.drain(..) {
        let half = batch.messages.len() as u32 / 2;
        batch.ack.settle(0..half);
    }
    drop(done);
    let taken = loop {
        drop(first.next(Duration::from_millis(10)).await?);
        if let Some(Event::Assigned(trackers)) = second.next(Duration::from_millis(100)).await?
            && !trackers.is_empty()
        {
            break trackers;
        }
    };
    let taken: BTreeSet<_> = taken.iter().map(|t| t.partition()).collect();
    ensure!(taken == partitions.iter().copied().collect(), "{taken:?}");
    for partition in &taken {
        second.control.start(*partition, None);
        second.control.credit(*partition, PLENTY);
    }
    // 1000 of each partition were settled before, and half of the 100 after, give or take where batches were cut.
    let mut again = 0;
    while let Some(event) = second.next(Duration::from_secs(2)).await? {
        let Event::Batch(batch) = event else { continue };
        let first = batch.messages.first().context("an empty batch")?.position;
        ensure!(first >= Position::Offset(1000), "{first} comes again although it was settled");
        again += batch.messages.len();
        batch.ack.settle(0..batch.messages.len() as u32);
    }
    ensure!(again > 0 && again < 200, "{again} messages came again");
    first.control.close().await;
    second.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credit_for_three_times_the_longest_poll_interval_it_is_still_a_member() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("patience"), unique("group"));
    create_topic(&servers, &topic, 2, &[]).await?;
    fill(&servers, &topic, 2, 2000, 1000)?;
    let options = [("max.poll.interval.ms", "10000"), ("session.timeout.ms", "6000")];
    let connector = connector(&servers, &options)?;
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    let partitions = member.assigned(None).await?;
    let batch = member.batch().await?;
    partitions.iter().for_each(|p| member.control.credit(*p, 0));
    let end = Instant::now() + Duration::from_secs(30);
    let mut early = Vec::new();
    while Instant::now() < end {
        match member.next(Duration::from_secs(1)).await? {
            None => {}
            // Handed out before the credit was taken back.
            Some(Event::Batch(batch)) if end - Instant::now() > Duration::from_secs(29) => early.push(batch),
            Some(other) => bail!("{}", what(&other)),
        }
    }
    ensure!(batch.is_current() && member.faults.is_empty(), "{:?}", member.faults);
    let mut count = 0;
    for batch in early.into_iter().chain([batch]) {
        count += batch.messages.len();
        batch.ack.settle(0..batch.messages.len() as u32);
    }
    partitions.iter().for_each(|p| member.control.credit(*p, PLENTY));
    count += member.read(2000 - count).await?.len();
    ensure!(count == 2000);
    member.control.commit(partitions).await?;
    ensure!(committed(&servers, &group, &topic, 2).await?.values().all(|offset| *offset == 1000));
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_missing_is_waited_for_and_said_once() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("missing"), unique("group"));
    let connector = connector(&servers, &[("topic.metadata.refresh.interval.ms", "1000")])?;
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    ensure!(member.next(Duration::from_secs(5)).await?.is_none());
    ensure!(member.faults.len() == 1, "{:?}", member.faults);
    ensure!(member.faults[0].kind == FaultKind::Unavailable(Why::UnknownTopic), "{:?}", member.faults);
    create_topic(&servers, &topic, 1, &[]).await?;
    member.assigned(None).await?;
    fill(&servers, &topic, 1, 10, 10)?;
    ensure!(member.read(10).await?.len() == 10);
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_retention_took_is_a_gap_and_not_a_silent_skip() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("gap"), unique("group"));
    create_topic(&servers, &topic, 1, &[]).await?;
    fill(&servers, &topic, 1, 1000, 10)?;
    let connector = connector(&servers, &[])?;
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    let partitions = member.assigned(None).await?;
    member.control.credit(partitions[0], 1);
    let one = member.batch().await?;
    one.ack.settle(0..one.messages.len() as u32);
    drop(one);
    member.control.commit(partitions.clone()).await?;
    member.control.close().await;

    delete_kafka_records(&servers, &topic, 0, 600).await?;
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    let partitions = member.assigned(None).await?;
    match member.next(SOON).await?.context("nothing")? {
        Event::Gap { from, to, .. } => {
            ensure!(from == Position::Offset(1) && to == Position::Offset(600), "{from} to {to}");
            ensure!(member.next(Duration::from_secs(2)).await?.is_none(), "the partition stands");
            member.control.start(partitions[0], Some(to));
            member.control.credit(partitions[0], PLENTY);
        }
        other => bail!("{}", what(&other)),
    }
    let read = member.read(400).await?;
    ensure!(read[0].1.position == Position::Offset(600));
    // And while it reads: what is fetched is handed out, what is gone is a gap.
    member.control.credit(partitions[0], 0);
    fill(&servers, &topic, 1, 1000, 10)?;
    let mut last = 999;
    member.control.credit(partitions[0], 1);
    while let Some(event) = member.next(Duration::from_secs(1)).await? {
        let Event::Batch(batch) = event else { bail!("{}", what(&event)) };
        if let Some(Position::Offset(offset)) = batch.messages.last().map(|m| m.position) {
            last = offset;
        }
        batch.ack.settle(0..batch.messages.len() as u32);
    }
    delete_kafka_records(&servers, &topic, 0, 1900).await?;
    member.control.credit(partitions[0], PLENTY);
    loop {
        match member.next(SOON).await?.context("nothing after the deletion")? {
            Event::Batch(batch) => {
                let Some(Position::Offset(offset)) = batch.messages.first().map(|m| m.position) else { bail!("empty") };
                ensure!(offset == last + 1, "{offset} after {last} and no gap");
                last = offset + batch.messages.len() as u64 - 1;
                batch.ack.settle(0..batch.messages.len() as u32);
                if last == 1999 {
                    // All of it had been fetched already.
                    break;
                }
            }
            Event::Gap { from, to, .. } => {
                ensure!(from == Position::Offset(last + 1) && to == Position::Offset(1900), "{from} to {to}");
                member.control.start(partitions[0], Some(to));
                member.control.credit(partitions[0], PLENTY);
                ensure!(member.read(100).await?[0].1.position == Position::Offset(1900));
                break;
            }
            other => bail!("{}", what(&other)),
        }
    }
    member.control.commit(partitions).await?;
    ensure!(committed(&servers, &group, &topic, 1).await?[&0] == 2000);
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_is_read_from_its_start_and_never_in_silence() -> Result<()> {
    for (before, after) in [(1000, 300), (300, 1000)] {
        let servers = servers().await?;
        let (topic, group) = (unique("anew"), unique("group"));
        create_topic(&servers, &topic, 1, &[]).await?;
        fill(&servers, &topic, 1, before, 10)?;
        let connector = connector(&servers, &[("topic.metadata.refresh.interval.ms", "1000")])?;
        let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
        let partitions = member.assigned(None).await?;
        member.read(before as usize).await?;
        member.control.commit(partitions).await?;
        let admin = admin(&servers)?;
        admin.delete_topics(&[&topic], &AdminOptions::new()).await?;
        let deadline = Instant::now() + SOON;
        while create_topic(&servers, &topic, 1, &[]).await.is_err() {
            ensure!(Instant::now() < deadline, "the topic cannot be made again");
        }
        fill(&servers, &topic, 1, after, 10)?;
        let (mut read, mut news) = (BTreeSet::new(), Vec::new());
        while read.len() < after as usize {
            let event = member.next(SOON).await?;
            let event = event.with_context(|| {
                format!("{before}/{after}: only {} of {after}; news: {news:?}; faults: {:?}", read.len(), member.faults)
            })?;
            match event {
                Event::Assigned(trackers) => trackers.iter().for_each(|t| {
                    news.push("assigned".into());
                    member.control.start(t.partition(), None);
                    member.control.credit(t.partition(), PLENTY);
                }),
                Event::Gap { partition, from, to } => {
                    news.push(format!("gap {from} {to}"));
                    member.control.start(partition, Some(to));
                    member.control.credit(partition, PLENTY);
                }
                Event::Batch(batch) => {
                    read.extend(batch.messages.iter().map(|m| m.position));
                    batch.ack.settle(0..batch.messages.len() as u32);
                }
                other => news.push(what(&other)),
            }
        }
        eprintln!("{before}/{after}: {news:?}");
        ensure!(read.len() == after as usize && read.first() == Some(&Position::Offset(0)), "{before}/{after}");
        ensure!(!news.is_empty(), "in silence");
        member.control.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_added_is_read_from_its_start_also_by_a_group_that_began_at_the_end() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("grows"), unique("group"));
    create_topic(&servers, &topic, 2, &[]).await?;
    fill(&servers, &topic, 2, 100, 10)?;
    let connector = connector(&servers, &[("topic.metadata.refresh.interval.ms", "2000")])?;
    let spec = || trestle_core::SourceSpec { start: Start::Latest, ..source_spec(&topic, &group) };
    let mut member = Member::join(&connector, spec()).await?;
    member.assigned(None).await?;
    ensure!(member.next(Duration::from_secs(3)).await?.is_none(), "it began at the end");
    let pinned = committed(&servers, &group, &topic, 2).await?;
    ensure!(pinned.values().all(|offset| *offset == 50) && pinned.len() == 2, "the end is committed: {pinned:?}");
    admin(&servers)?.create_partitions([&NewPartitions::new(&topic, 3)], &AdminOptions::new()).await?;
    let deadline = Instant::now() + SOON;
    while fill_one(&servers, &topic, 2, 20).is_err() {
        ensure!(Instant::now() < deadline, "the new partition cannot be written");
    }
    let mut read = 0;
    while read < 20 {
        match member.next(SOON).await?.with_context(|| format!("{read} of 20"))? {
            Event::Assigned(trackers) => trackers.iter().for_each(|t| {
                member.control.start(t.partition(), None);
                member.control.credit(t.partition(), PLENTY);
            }),
            Event::Batch(batch) => {
                ensure!(batch.partition.0 == 2, "{} of {}", batch.messages.len(), batch.partition);
                read += batch.messages.len();
                batch.ack.settle(0..batch.messages.len() as u32);
            }
            _ => {}
        }
    }
    member.control.close().await;
    Ok(())
}

fn admin(servers: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", servers).create()?)
}
