//! A source that wants some tags only, and the topics of a cluster.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use trestle_core::{Event, Message, SourceSpec};
use trestle_integration::until;

use super::rig::*;

fn tagged(value: String, tag: &str) -> Message {
    Message { headers: headers(&[(b"TAGS", Some(tag.as_bytes()))]), ..message(value) }
}

fn spec(topic: &str, group: &str, tags: &str) -> SourceSpec {
    let mut spec = quick_spec(topic, group);
    spec.options.extend(options([("tags", tags), ("brokerSuspendMaxTimeMillis", "500")]));
    spec
}

/// `Aa` and `BB` have one hash, so that the broker hands out both.
#[tokio::test]
async fn tags_choose_messages_and_the_position_steps_over_the_rest() -> Result<()> {
    let begin = Instant::now();
    let (rocketmq, connector) = (broker().await?, connector(&namesrv().await?)?);
    let (topic, group) = (topic(&connector, "tags", 1).await?, unique("group"));
    let sink = connector.sink(sink_spec(&topic)).await?;
    let mut lane = lane(&sink, 0).await?;
    let tags = ["Aa", "BB", "red", "blue"];
    let mut messages: Vec<Message> = (0..2_000).map(|n| tagged(n.to_string(), tags[n % 4])).collect();
    messages.extend((2_000..4_000).map(|n| tagged(n.to_string(), "blue")));
    messages.push(message("no tag"));
    for messages in messages.chunks(500) {
        store(&mut *lane, messages.to_vec()).await?;
    }
    let mut member = Member::join(&connector, spec(&topic, &group, "Aa || red")).await?;
    let numbers: Vec<u64> = member.read(1_000).await?.iter().map(|(_, m)| number(m)).collect::<Result<_>>()?;
    ensure!(numbers == (0..2_000).filter(|n| n % 2 == 0).collect::<Vec<_>>(), "{numbers:?}");
    let committed = |at: u64| {
        let (topic, group) = (&topic, &group);
        until("the position is behind what is not wanted", SOON, move || async move {
            Ok((rocketmq.committed(group, topic, 0).await? == Some(at)).then_some(()))
        })
    };
    committed(4_001).await?;
    until("nothing is behind", SOON, || async {
        Ok(member.control.lag().iter().all(|lag| lag.behind == 0).then_some(()))
    })
    .await?;
    // What comes while it waits at the end, too.
    store(&mut *lane, vec![tagged("x".into(), "blue"), tagged("y".into(), "BB")]).await?;
    committed(4_003).await?;
    store(&mut *lane, vec![tagged("4003".into(), "red")]).await?;
    ensure!(number(&member.read(1).await?[0].1)? == 4_003);
    committed(4_004).await?;
    ensure!(member.faults.is_empty(), "{:?}", member.faults);
    member.control.close().await;

    let group = unique("nothing");
    let mut nothing = Member::join(&connector, spec(&topic, &group, "green")).await?;
    while rocketmq.committed(&group, &topic, 0).await? != Some(4_004) {
        let event = nothing.next(Duration::from_millis(100)).await?;
        ensure!(!matches!(event, Some(Event::Batch(_) | Event::Gap { .. })), "it was not wanted");
        ensure!(begin.elapsed() < SOON * 2, "nothing is wanted, and the position stays");
    }
    nothing.control.close().await;
    Ok(())
}

#[tokio::test]
async fn what_is_on_its_way_is_not_stepped_over() -> Result<()> {
    let (rocketmq, connector) = (broker().await?, connector(&namesrv().await?)?);
    let (topic, group) = (topic(&connector, "held", 1).await?, unique("group"));
    let sink = connector.sink(sink_spec(&topic)).await?;
    let mut messages = vec![tagged("0".into(), "blue"), tagged("1".into(), "red"), tagged("2".into(), "red")];
    messages.extend((3..100).map(|n| tagged(n.to_string(), "blue")));
    store(&mut *lane(&sink, 0).await?, messages).await?;
    let mut member = Member::join(&connector, spec(&topic, &group, "red")).await?;
    let batch = loop {
        match member.next(SOON).await? {
            Some(Event::Batch(batch)) => break batch,
            Some(_) => {}
            None => anyhow::bail!("nothing came: {:?}", member.faults),
        }
    };
    ensure!(batch.messages.len() == 2, "{:?}", batch.messages);
    batch.ack.settle(std::iter::once(0));
    let position = || async { rocketmq.committed(&group, &topic, 0).await };
    until("the first is committed", SOON, || async { Ok(position().await?.filter(|at| *at > 1)) }).await?;
    // Four times as long as the broker holds a pull at the end: all that is not wanted was passed by then.
    for _ in 0..20 {
        let _ = member.next(Duration::from_millis(100)).await?;
        ensure!(position().await? == Some(2), "{:?}", position().await?);
    }
    batch.ack.settle(std::iter::once(1));
    until("all is stepped over", SOON, || async { Ok(position().await?.filter(|at| *at == 100)) }).await?;
    member.control.close().await;
    Ok(())
}

#[tokio::test]
async fn topics_are_those_of_users() -> Result<()> {
    let connector = connector(&namesrv().await?)?;
    let topic = topic(&connector, "listed", 1).await?;
    // A group of ours makes no topic; RocketMQ's own client makes %RETRY% ones.
    native(&topic, 0, "*").await?;
    let topics = connector.topics("").await?;
    ensure!(topics.contains(&topic), "{topics:?}");
    let own = ["DefaultCluster", "broker-a", "TBW102", "SELF_TEST_TOPIC", "DefaultCluster_REPLY_TOPIC"];
    let odd: Vec<&String> = topics
        .iter()
        .filter(|t| {
            own.contains(&t.as_str()) || t.starts_with("rmq_sys") || t.starts_with("RMQ_SYS") || t.starts_with('%')
        })
        .collect();
    ensure!(odd.is_empty(), "{odd:?}");
    ensure!(topics.is_sorted(), "{topics:?}");
    Ok(())
}
