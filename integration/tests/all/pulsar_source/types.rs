//! What each type of subscription promises.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::timeout;
use trestle_core::{FaultKind, PartitionId, SourceSpec};
use trestle_integration::{Brokers, Pulsar};

use super::{
    java::produce,
    rig::{Reader, filled, numbers, settle_all, spec},
};
use crate::{
    parts::{PLENTY, SOON},
    pulsar_sink::rig::connector,
};

pub fn of_type(topic: &str, subscription_type: &str) -> SourceSpec {
    let options = [("subscriptionType".to_owned(), subscription_type.to_owned())].into();
    SourceSpec { options, ..spec(topic) }
}

/// What the broker still has for the group `readers`, in entries.
async fn backlog(pulsar: &Pulsar, topic: &str) -> Result<u64> {
    let stats = pulsar.rest("GET", &format!("persistent/public/default/{topic}-partition-0/stats"), "").await?;
    let stats: serde_json::Value = serde_json::from_str(&stats)?;
    stats["subscriptions"]["readers"]["msgBacklog"].as_u64().with_context(|| format!("no backlog: {stats}"))
}

#[tokio::test]
async fn an_exclusive_subscription_refuses_a_second_member_until_the_first_leaves() -> Result<()> {
    let (_, connector) = filled("exclusive", 1, 1000).await?;
    let mut first = Reader::open(&connector, of_type("exclusive", "Exclusive"), 1 << 20).await?;
    let mut come = Vec::new();
    while come.len() < 500 {
        let batch = first.next().await?;
        settle_all(&batch);
        come.extend(numbers(&batch));
    }
    let mut second = Reader::open(&connector, of_type("exclusive", "exclusive"), PLENTY).await?;
    for _ in 0..2 {
        let event = timeout(SOON, second.source.next()).await?;
        let fault = event.err().context("an event for a member that has no partition")?;
        ensure!(matches!(fault.kind, FaultKind::Unavailable(_)), "{fault}");
        for said in ["`readers`", "Exclusive", "Failover"] {
            ensure!(fault.detail.contains(said), "nothing of {said}: {fault}");
        }
    }
    first.control.close().await;
    while come.len() < 1000 {
        let batch = second.next().await?;
        settle_all(&batch);
        come.extend(numbers(&batch));
    }
    ensure!(come == (0..1000).collect::<Vec<_>>(), "each once and in order");
    // It goes back as others do.
    let tracker = second.trackers.values().next().context("assigned")?;
    tracker.end_epoch();
    second.control.close().await;
    Ok(())
}

#[tokio::test]
async fn an_exclusive_reader_goes_back_and_leaves_nothing_out() -> Result<()> {
    let (_, connector) = filled("exclusive-back", 1, 5000).await?;
    let mut reader = Reader::open(&connector, of_type("exclusive-back", "Exclusive"), PLENTY).await?;
    let (mut come, mut batches) = (Vec::new(), 0);
    while come.len() < 5000 {
        let batch = reader.next().await?;
        batches += 1;
        // Every third is dropped.
        if batches % 3 != 0 {
            settle_all(&batch);
            come.extend(numbers(&batch));
        }
    }
    ensure!(reader.assigned == 1, "{} assigned", reader.assigned);
    let distinct: HashSet<_> = come.iter().collect();
    ensure!(distinct.len() == 5000, "what was settled came again");
    reader.control.close().await;
    Ok(())
}

#[tokio::test]
async fn members_that_share_a_partition_lose_nothing_and_get_nothing_that_is_settled() -> Result<()> {
    const ALL: usize = 20_000;
    let (pulsar, connector) = filled("sharing", 1, ALL as u64).await?;
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(Reader::open(&connector, of_type("sharing", "Shared"), 300_000).await?);
    }
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut settled, mut each, mut drops) = (HashSet::new(), [0, 0], 0);
    let (mut held, mut since) = (Vec::new(), Instant::now());
    while settled.len() < ALL {
        for (which, member) in members.iter_mut().enumerate() {
            let Some(batch) = member.batch(Duration::from_millis(50)).await? else { continue };
            since = Instant::now();
            let numbers = numbers(&batch);
            each[which] += numbers.len();
            let again = numbers.iter().find(|number| settled.contains(*number));
            ensure!(again.is_none(), "{again:?} was settled and came again to {which}");
            let share = if random.random_range(0..8) == 0 { 0.5 } else { 1.0 };
            drops += usize::from(share < 1.0);
            let some = (0..numbers.len() as u32).filter(|_| random.random_bool(share)).collect::<Vec<_>>();
            settled.extend(some.iter().map(|index| numbers[*index as usize]));
            batch.ack.settle(some.into_iter());
            member.control.credit(PartitionId(0), random.random_range(1..600_000));
            if random.random_bool(0.3) {
                held.push(batch);
            }
        }
        if held.len() > 4 || since.elapsed() > Duration::from_millis(300) {
            held.clear();
        }
        ensure!(since.elapsed() < SOON, "stalled with {} settled", settled.len());
    }
    held.clear();
    println!("{each:?} handed out, {drops} drops");
    ensure!(each.iter().all(|messages| *messages > 0), "one of them was given nothing: {each:?}");
    for member in &members {
        member.control.commit(vec![PartitionId(0)]).await?;
    }
    ensure!(backlog(pulsar, "sharing").await? == 0, "not all is acknowledged");
    for member in &members {
        member.control.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_member_did_not_settle_comes_to_the_other_and_nothing_else_does() -> Result<()> {
    const ALL: usize = 3000;
    let (_, connector) = filled("dies", 1, ALL as u64).await?;
    let mut dies = Reader::open(&connector, of_type("dies", "Shared"), PLENTY).await?;
    let (mut kept, mut seen) = (Vec::new(), HashSet::new());
    while seen.len() < ALL / 2 {
        let batch = dies.next().await?;
        let numbers = numbers(&batch);
        let even = (0..numbers.len() as u32).filter(|index| numbers[*index as usize].is_multiple_of(2));
        batch.ack.settle(even.collect::<Vec<_>>().into_iter());
        seen.extend(numbers);
        kept.push(batch);
    }
    dies.control.commit(vec![PartitionId(0)]).await?;
    drop(dies);
    let mut other = Reader::open(&connector, of_type("dies", "Shared"), PLENTY).await?;
    let left = (0..ALL as u64).filter(|number| number % 2 == 1 || !seen.contains(number)).collect::<HashSet<_>>();
    let mut come = HashSet::new();
    while come.len() < left.len() {
        let batch = other.next().await.with_context(|| format!("{} of {} came", come.len(), left.len()))?;
        settle_all(&batch);
        for number in numbers(&batch) {
            ensure!(left.contains(&number), "{number} was settled and acknowledged");
            ensure!(come.insert(number), "{number} came twice");
        }
    }
    other.control.close().await;
    Ok(())
}

#[tokio::test]
async fn each_key_of_a_key_shared_subscription_goes_to_one_member_in_order() -> Result<()> {
    const ALL: usize = 4000;
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/key-shared", 1).await?;
    let connector = connector(pulsar);
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut member = Reader::open(&connector, of_type("key-shared", "Key_Shared"), PLENTY).await?;
        // Assigned, so the broker knows it before there is anything to divide.
        ensure!(member.batch(Duration::from_secs(1)).await?.is_none() && member.assigned == 1);
        members.push(member);
    }
    produce(pulsar, "key-shared", "keyed", ALL as u64, 100).await?;
    let (mut newest, mut owner, mut all) = (HashMap::new(), HashMap::new(), 0);
    let mut since = Instant::now();
    while all < ALL {
        for (which, member) in members.iter_mut().enumerate() {
            let Some(batch) = member.batch(Duration::from_millis(50)).await? else { continue };
            since = Instant::now();
            for (message, number) in batch.messages.iter().zip(numbers(&batch)) {
                let key = message.key.clone().context("no key")?;
                let before = newest.insert(key.clone(), number);
                ensure!(before.is_none_or(|before| before < number), "{number} came behind {before:?} of {key:?}");
                ensure!(*owner.entry(key.clone()).or_insert(which) == which, "{key:?} went to both");
                all += 1;
            }
            settle_all(&batch);
        }
        ensure!(since.elapsed() < SOON, "stalled with {all}");
    }
    let owners: HashSet<_> = owner.values().collect();
    ensure!(owners.len() == 2, "one of them was given no key: {owner:?}");
    for member in &members {
        member.control.close().await;
    }
    ensure!(backlog(pulsar, "key-shared").await? == 0, "not all is acknowledged");
    Ok(())
}
