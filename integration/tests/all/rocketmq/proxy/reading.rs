//! Read through the gRPC proxy by the connector alone.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use trestle_core::{Batch, Event, FaultKind, Message, Position, SourceSpec, Why};
use trestle_integration::{RocketMq, until};

use super::{
    super::rig::{self, *},
    fault, through,
};

/// A topic with a group of its own, filled with numbers by remoting.
pub struct Filled {
    pub topic: String,
    pub group: String,
    pub count: u64,
}

impl Filled {
    pub async fn make(rocketmq: &RocketMq, what: &str, queues: u32, count: u64) -> Result<Filled> {
        let connector = rig::connector(&rocketmq.namesrv)?;
        let (topic, group) = (topic(&connector, what, queues).await?, unique("group"));
        rocketmq.create_group(&group).await?;
        fill(&connector, &topic, 0..count).await?;
        Ok(Filled { topic, group, count })
    }

    /// Messages come again 10 s after they were lost, the least that a proxy allows.
    pub fn spec(&self) -> SourceSpec {
        let options = options([("invisibleDuration", "10000")]);
        SourceSpec { options, ..source_spec(&self.topic, &self.group) }
    }

    pub fn all(&self) -> Vec<u64> {
        (0..self.count).collect()
    }
}

pub async fn join(rocketmq: &RocketMq, spec: SourceSpec) -> Result<Member> {
    Member::join(&through(&rocketmq.grpc)?, spec).await
}

pub fn sorted(messages: &[Message]) -> Result<Vec<u64>> {
    let mut numbers = messages.iter().map(number).collect::<Result<Vec<_>>>()?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Batches that hold `count` messages together, unsettled.
async fn hold(member: &mut Member, count: usize) -> Result<Vec<Batch>> {
    let mut batches: Vec<Batch> = Vec::new();
    while batches.iter().map(|batch| batch.messages.len()).sum::<usize>() < count {
        let next = member.next(SOON).await?;
        let about = || format!("{} batches came; faults: {:?}", batches.len(), member.faults);
        if let Event::Batch(batch) = next.with_context(about)? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

fn of(batches: &[Batch]) -> Vec<Message> {
    batches.iter().flat_map(|batch| batch.messages.iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_comes_once_and_what_is_committed_never_again() -> Result<()> {
    let rocketmq = broker().await?;
    let filled = Filled::make(rocketmq, "once", 4, 3_000).await?;
    let mut member = join(rocketmq, filled.spec()).await?;
    let begin = Instant::now();
    let read = member.read(3_000).await?;
    println!("3,000 messages read through the proxy in {:.1} s", begin.elapsed().as_secs_f64());
    let messages: Vec<Message> = read.into_iter().map(|(_, message)| message).collect();
    ensure!(sorted(&messages)? == filled.all());
    member.control.commit(member.held.clone()).await?;
    ensure!(member.faults.is_empty(), "{:?}", member.faults);
    member.control.close().await;
    // Longer than anything stays invisible.
    let mut next = join(rocketmq, filled.spec()).await?;
    let mut again = Vec::new();
    next.drain(Duration::from_secs(15), &mut again).await?;
    ensure!(again.is_empty(), "{again:?}");
    next.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_bounds_what_is_received() -> Result<()> {
    let rocketmq = broker().await?;
    let filled = Filled::make(rocketmq, "credit", 1, 500).await?;
    let mut member = join(rocketmq, filled.spec()).await?;
    let Some(Event::Assigned(trackers)) = member.next(SOON).await? else { anyhow::bail!("not assigned") };
    let partition = trackers[0].partition();
    member.control.credit(partition, 1);
    let first = hold(&mut member, 1).await?;
    // One crosses the line, and 32 may be on their way.
    ensure!(of(&first).len() == 1, "{} came", of(&first).len());
    ensure!(member.next(Duration::from_secs(3)).await?.is_none(), "without credit");
    member.control.credit(partition, PLENTY);
    let mut all = first;
    all.extend(hold(&mut member, 499).await?);
    ensure!(sorted(&of(&all))? == filled.all());
    member.control.close().await;
    Ok(())
}

/// Each time a broker gives a message out it counts, and after some times it moves it away: so it is not asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pipeline_gives_back_comes_again_at_once_and_in_the_same_positions() -> Result<()> {
    let rocketmq = broker().await?;
    let filled = Filled::make(rocketmq, "given-back", 2, 200).await?;
    let mut member = join(rocketmq, filled.spec()).await?;
    let first = hold(&mut member, 200).await?;
    let positions = |batches: &[Batch]| {
        let mut all: Vec<Position> = of(batches).iter().map(|message| message.position).collect();
        all.sort();
        all
    };
    let before = positions(&first);
    let begin = Instant::now();
    first[0].ack.settle(0..1);
    let settled = first[0].messages[0].position;
    drop(first);
    let second = hold(&mut member, 199).await?;
    ensure!(begin.elapsed() < Duration::from_secs(8), "sooner than the broker would: {:?}", begin.elapsed());
    let mut expected = before;
    expected.retain(|position| *position != settled);
    ensure!(positions(&second) == expected);
    for batch in &second {
        batch.ack.settle(0..batch.messages.len() as u32);
    }
    member.control.commit(member.held.clone()).await?;
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_had_when_it_left_another_gets_soon() -> Result<()> {
    let rocketmq = broker().await?;
    let filled = Filled::make(rocketmq, "left", 2, 100).await?;
    // Without an answer to its leaving they would stay invisible for an hour.
    let spec = SourceSpec { options: options([("invisibleDuration", "3600000")]), ..filled.spec() };
    let mut one = join(rocketmq, spec.clone()).await?;
    let held = hold(&mut one, 100).await?;
    held[0].ack.settle(0..1);
    let settled = number(&held[0].messages[0])?;
    one.control.close().await;
    drop(held);
    let mut other = join(rocketmq, spec).await?;
    let read: Vec<Message> = other.read(99).await?.into_iter().map(|(_, message)| message).collect();
    let expected: Vec<u64> = filled.all().into_iter().filter(|number| *number != settled).collect();
    ensure!(sorted(&read)? == expected);
    other.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_choose_messages() -> Result<()> {
    let rocketmq = broker().await?;
    let (connector, group) = (rig::connector(&rocketmq.namesrv)?, unique("group"));
    let topic = topic(&connector, "tagged", 1).await?;
    rocketmq.create_group(&group).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    // Two of one hash: brokers compare hashes.
    let tagged = |n: usize| Message {
        headers: headers(&[(b"TAGS", Some([&b"Aa"[..], b"BB", b"red"][n % 3]))]),
        ..message(n.to_string())
    };
    store(&mut *lane(&sink, 0).await?, (0..90).map(tagged).collect()).await?;
    let spec = SourceSpec { options: options([("tags", "Aa || red")]), ..source_spec(&topic, &group) };
    let mut member = join(rocketmq, spec).await?;
    let read: Vec<Message> = member.read(60).await?.into_iter().map(|(_, message)| message).collect();
    ensure!(sorted(&read)? == (0..90).filter(|n| n % 3 != 1).collect::<Vec<_>>());
    ensure!(member.next(Duration::from_secs(3)).await?.is_none(), "no other tags");
    member.control.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_or_group_that_is_not_there_is_said() -> Result<()> {
    let rocketmq = broker().await?;
    let proxy = through(&rocketmq.grpc)?;
    let missing = fault(proxy.source(source_spec(&unique("missing"), "group")).await)?;
    ensure!(missing.kind == FaultKind::Unavailable(Why::UnknownTopic), "{missing}");
    let filled = Filled::make(rocketmq, "no-group", 1, 1).await?;
    let group = unique("nobody-made");
    let mut member = join(rocketmq, source_spec(&filled.topic, &group)).await?;
    ensure!(member.next(Duration::from_secs(5)).await?.is_none(), "nothing is assigned");
    let said = member.faults.iter().find(|fault| fault.kind == FaultKind::Unavailable(Why::UnknownTopic));
    let said = said.with_context(|| format!("{:?}", member.faults))?;
    ensure!(said.detail.contains("updateSubGroup"), "{said}");
    // And is read once somebody made it.
    rocketmq.create_group(&group).await?;
    ensure!(member.read(1).await?.len() == 1);
    member.control.close().await;
    Ok(())
}

/// Apache's client stays silent for good after this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_was_frozen_or_restarted_is_read_again() -> Result<()> {
    let rocketmq = RocketMq::start().await?;
    let filled = Filled::make(&rocketmq, "restarted", 2, 100).await?;
    let connector = rig::connector(&rocketmq.namesrv)?;
    let mut member = join(&rocketmq, filled.spec()).await?;
    let mut read: BTreeSet<u64> = BTreeSet::new();
    read_up_to(&mut member, 100, &mut read).await?;
    rocketmq.broker.pause().await?;
    while member.faults.is_empty() {
        ensure!(member.next(Duration::from_secs(1)).await?.is_none());
    }
    let commit = Instant::now();
    member.control.commit(member.held.clone()).await.ok();
    ensure!(commit.elapsed() < Duration::from_secs(30), "a commit has an answer: {:?}", commit.elapsed());
    rocketmq.broker.unpause().await?;
    send_numbers(&connector, &filled.topic, 100..200).await?;
    read_up_to(&mut member, 200, &mut read).await?;
    rocketmq.broker.kill().await?;
    rocketmq.broker.start().await?;
    send_numbers(&connector, &filled.topic, 200..300).await?;
    read_up_to(&mut member, 300, &mut read).await?;
    member.control.close().await;
    Ok(())
}

async fn send_numbers(
    connector: &std::sync::Arc<dyn trestle_core::Connector>,
    topic: &str,
    numbers: std::ops::Range<u64>,
) -> Result<()> {
    let sink =
        until("the topic can be written", SOON * 2, || async { Ok(Some(connector.sink(sink_spec(topic)).await?)) })
            .await?;
    let mut lane = lane(&sink, 0).await?;
    send_until_stored(&sink, &mut lane, 0, numbered(numbers)).await
}

/// Until all numbers below `end` have come. What a broker had not flushed of its acknowledgements comes twice.
async fn read_up_to(member: &mut Member, end: u64, read: &mut BTreeSet<u64>) -> Result<()> {
    while read.len() < end as usize {
        let one = member.read(1).await.with_context(|| format!("{} of {end}", read.len()))?;
        for (_, message) in &one {
            read.insert(number(message)?);
        }
    }
    ensure!(*read == (0..end).collect::<BTreeSet<_>>());
    Ok(())
}
