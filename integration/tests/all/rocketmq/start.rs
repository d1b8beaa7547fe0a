//! Where a group without a position begins.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use trestle_core::{Connector, PartitionId, SourceSpec, Start};
use trestle_integration::until;

use super::rig::*;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// A time that lies between all that was stored before and all that is stored later.
async fn between() -> Result<i64> {
    let passed =
        |after: i64| until("the clock goes on", SOON, move || async move { Ok((now() > after).then_some(now())) });
    passed(passed(now()).await?).await?;
    let time = now();
    passed(time).await?;
    Ok(time)
}

#[tokio::test]
async fn a_group_begins_at_a_time_or_at_offsets_and_has_its_position_at_once() -> Result<()> {
    let (rocketmq, connector) = (broker().await?, connector(&namesrv().await?)?);
    let topic = topic(&connector, "starts", 2).await?;
    let before = between().await?;
    fill(&connector, &topic, 0..20).await?;
    let time = between().await?;
    fill(&connector, &topic, 20..40).await?;
    let later = now() + 3_600_000;
    let offsets = |list: &[(u32, u64)]| Start::Offsets(list.iter().map(|(p, at)| (PartitionId(*p), *at)).collect());
    for (start, first, second) in [
        (Start::Time(time), 10, 10),
        (Start::Time(before), 0, 0),
        (Start::Time(0), 0, 0),
        (Start::Time(later), 20, 20),
        (offsets(&[(0, 5), (1, 20)]), 5, 20),
        (offsets(&[(1, 7)]), 0, 7),
    ] {
        let group = unique("group");
        let spec = SourceSpec { start: start.clone(), ..quick_spec(&topic, &group) };
        let mut member = Member::join(&connector, spec).await?;
        let mut unsettled = Vec::new();
        let mut committed = BTreeMap::new();
        let begin = std::time::Instant::now();
        while committed.len() < 2 {
            ensure!(begin.elapsed() < SOON, "{start:?}: no position but {committed:?}; faults: {:?}", member.faults);
            unsettled.extend(member.next(std::time::Duration::from_millis(100)).await?);
            for queue in [0, 1] {
                let position = rocketmq.committed(&group, &topic, queue).await?;
                committed.extend(position.map(|position| (queue, position)));
            }
        }
        ensure!(committed == [(0, first), (1, second)].into(), "{start:?}: {committed:?}");
        drop(unsettled);
        member.control.close().await;
        // Whoever starts again begins there, whatever the start says now.
        let mut again = Member::join(&connector, quick_spec(&topic, &group)).await?;
        let left = 40 - first - second;
        let read = again.read(left as usize).await?;
        let at = |partition: u32| read.iter().filter(move |(p, _)| p.0 == partition).count() as u64;
        ensure!((at(0), at(1)) == (20 - first, 20 - second), "{start:?}");
        again.control.close().await;
    }
    Ok(())
}

/// A broker loses one of two first positions that come together; not often, so that many groups begin here.
#[tokio::test]
async fn every_queue_of_a_new_group_has_its_position() -> Result<()> {
    const GROUPS: usize = 40;
    const QUEUES: u32 = 4;
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "firsts", QUEUES).await?;
    fill(&connector, &topic, 0..u64::from(QUEUES)).await?;
    let groups = (0..GROUPS).map(|_| begins(&connector, &topic, QUEUES));
    join_all(groups).await.into_iter().collect()
}

async fn begins(connector: &Arc<dyn Connector>, topic: &str, queues: u32) -> Result<()> {
    let group = unique("first");
    let spec = SourceSpec { start: Start::Latest, ..quick_spec(topic, &group) };
    let mut member = Member::join(connector, spec).await?;
    while member.held.len() < queues as usize {
        member.next(SOON).await?.with_context(|| format!("not every queue is there: {:?}", member.faults))?;
    }
    let rocketmq = broker().await?;
    for queue in 0..queues {
        let (group, what) = (&group, format!("{group} has its position in queue {queue}"));
        let position = || async { Ok((rocketmq.committed(group, topic, queue).await? == Some(1)).then_some(())) };
        until(&what, SOON, position).await?;
    }
    member.control.close().await;
    Ok(())
}
