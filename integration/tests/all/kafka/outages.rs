//! A broker that dies, freezes and comes back, under a source and a sink.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::time::timeout;
use trestle_core::{Event, FaultKind, Outcome, PartitionId, Position, Sent, Why};
use trestle_integration::{Kafka, until};

use super::rig::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_says_that_its_broker_is_dead_or_frozen_and_goes_on_in_order_when_it_is_back() -> Result<()> {
    let kafka = Kafka::start().await?;
    let (topic, group) = (unique("outage"), unique("group"));
    create_topic(&kafka.servers, &topic, 1, &[]).await?;
    let connector = connector(&kafka.servers, &[])?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    let mut to = lane(&sink, 0).await?;
    let mut number = 0u32;
    for frozen in [false, true] {
        ensure!(said(&to.send(unit(next(&mut number))).await) == ["100 stored"]);
        if frozen {
            kafka.broker.pause().await?
        } else {
            kafka.broker.kill().await?
        }
        let begin = Instant::now();
        let mut left = next(&mut number);
        let sent = to.send(unit(left.clone())).await;
        ensure!(begin.elapsed() < Duration::from_secs(8), "it took {:?}", begin.elapsed());
        for (_, outcome) in &sent.runs {
            match outcome {
                Outcome::Refused(fault) | Outcome::Unknown(fault) => {
                    let kind = &fault.kind;
                    let down = *kind == FaultKind::Unavailable(Why::Down) || *kind == FaultKind::Timeout;
                    ensure!(down, "frozen: {frozen}: {fault}");
                }
                Outcome::NotSent => {}
                Outcome::Stored => anyhow::bail!("stored by nobody"),
            }
        }
        eprintln!("frozen: {frozen}: {:?} in {:?}", said(&sent), begin.elapsed());
        let begin = Instant::now();
        ensure!(sink.probe(PartitionId(0)).await.is_err());
        ensure!(begin.elapsed() < Duration::from_secs(4), "the probe took {:?}", begin.elapsed());
        if frozen {
            kafka.broker.unpause().await?
        } else {
            kafka.broker.start().await?
        }
        let deadline = Instant::now() + SOON;
        while let Err(fault) = sink.probe(PartitionId(0)).await {
            ensure!(Instant::now() < deadline, "{fault}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while !left.is_empty() {
            let sent = to.send(unit(left.clone())).await;
            left.drain(..stored(&sent));
            ensure!(Instant::now() < deadline, "{:?}", said(&sent));
        }
    }
    // First deliveries are in order; what was unknown may be there twice.
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    member.assigned(None).await?;
    let (mut seen, mut repeats) = (BTreeSet::new(), 0);
    while seen.len() < number as usize {
        for (_, message) in member.read(1).await? {
            let value = message.value.unwrap_or_default();
            if seen.insert(value.clone()) {
                ensure!(value[..] == (seen.len() as u32 - 1).to_be_bytes(), "out of order: {value:?}");
            } else {
                repeats += 1;
            }
        }
    }
    eprintln!("{repeats} repeats");
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_broker_was_killed_says_so_once_and_reads_on() -> Result<()> {
    let kafka = Kafka::start().await?;
    let (topic, group) = (unique("outage"), unique("group"));
    create_topic(&kafka.servers, &topic, 2, &[]).await?;
    fill(&kafka.servers, &topic, 2, 10_000, 100)?;
    let connector = connector(&kafka.servers, &[])?;
    let mut member = Member::join(&connector, source_spec(&topic, &group)).await?;
    member.assigned(None).await?;
    let mut seen: BTreeSet<(PartitionId, Position)> =
        member.read(5_000).await?.into_iter().map(|(p, m)| (p, m.position)).collect();
    kafka.broker.kill().await?;
    while member.faults.is_empty() {
        if let Some(Event::Batch(batch)) = member.next(Duration::from_millis(500)).await? {
            seen.extend(batch.messages.iter().map(|m| (batch.partition, m.position)));
            batch.ack.settle(0..batch.messages.len() as u32);
        }
    }
    let quiet = Instant::now() + Duration::from_secs(5);
    while Instant::now() < quiet {
        if let Some(Event::Batch(batch)) = member.next(Duration::from_millis(500)).await? {
            seen.extend(batch.messages.iter().map(|m| (batch.partition, m.position)));
            batch.ack.settle(0..batch.messages.len() as u32);
        }
    }
    ensure!(member.faults.len() == 1, "{:?}", member.faults);
    kafka.broker.start().await?;
    fill(&kafka.servers, &topic, 2, 2_000, 100)?;
    let deadline = Instant::now() + 2 * SOON;
    while seen.len() < 12_000 {
        ensure!(Instant::now() < deadline, "{} of 12000; {:?}", seen.len(), member.faults);
        match member.next(Duration::from_secs(1)).await? {
            Some(Event::Batch(batch)) => {
                seen.extend(batch.messages.iter().map(|m| (batch.partition, m.position)));
                batch.ack.settle(0..batch.messages.len() as u32);
            }
            Some(Event::Assigned(trackers)) => trackers.iter().for_each(|t| {
                member.control.start(t.partition(), None);
                member.control.credit(t.partition(), PLENTY);
            }),
            _ => {}
        }
    }
    let partitions = member.trackers.keys().copied().collect();
    member.control.commit(partitions).await?;
    ensure!(committed(&kafka.servers, &group, &topic, 2).await?.values().all(|offset| *offset == 6_000));
    // A close while the broker is dead ends as well.
    kafka.broker.kill().await?;
    let begin = Instant::now();
    member.control.close().await;
    ensure!(begin.elapsed() < Duration::from_secs(16), "{:?}", begin.elapsed());
    Ok(())
}

fn next(number: &mut u32) -> Vec<trestle_core::Message> {
    let from = *number;
    *number += 100;
    (from..*number).map(|number| message(number.to_be_bytes().to_vec())).collect()
}

fn stored(sent: &Sent) -> usize {
    sent.runs.iter().take_while(|(_, o)| matches!(o, Outcome::Stored)).map(|(count, _)| count).sum()
}

/// librdkafka can connect thousands of times a second then. Whoever listens in the dead broker's place counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_brokers_are_all_gone_connects_no_more_often_than_its_back_off_allows() -> Result<()> {
    const WATCHED: Duration = Duration::from_secs(20);
    let kafka = Kafka::start().await?;
    let (topic, group) = (unique("storm"), unique("group"));
    create_topic(&kafka.servers, &topic, 1, &[]).await?;
    fill(&kafka.servers, &topic, 1, 100, 10)?;
    let mut member = Member::join(&connector(&kafka.servers, &[])?, source_spec(&topic, &group)).await?;
    member.assigned(None).await?;
    member.read(100).await?;
    kafka.broker.kill().await?;
    let listener = until("the broker's port is free", SOON, || async {
        Ok(tokio::net::TcpListener::bind(kafka.servers.as_str()).await.ok())
    })
    .await?;
    let (begin, mut connections) = (Instant::now(), 0);
    while begin.elapsed() < WATCHED {
        if let Ok(accepted) = timeout(Duration::from_secs(1), listener.accept()).await {
            drop(accepted?);
            connections += 1;
        }
    }
    eprintln!("{connections} connections in {WATCHED:?}");
    ensure!((1..2_000).contains(&connections), "{connections} connections in {WATCHED:?}");
    member.control.close().await;
    Ok(())
}
