//! Where a group begins that has no position, and which topics there are.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use trestle_core::{PartitionId, Start};

use crate::{Subject, readers::pass, rig::*};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

pub async fn a_group_without_a_position_begins_at_a_time(subject: &dyn Subject) {
    let mut rig = Rig::new(subject, 1).await;
    rig.write(0, 0..10).await;
    // Of a second's precision where a cluster dates by seconds.
    pass(Duration::from_secs(2));
    let between = now();
    pass(Duration::from_secs(1));
    rig.write(0, 10..20).await;
    let mut member = rig.member_from(Start::Time(between), Some(PLENTY)).await;
    assert_eq!(member.numbers(10).await, (10..20).collect::<Vec<_>>());
    member.close().await;
    let mut member = rig.member_from(Start::Time(0), Some(PLENTY)).await;
    member.is_quiet("a group with a position goes on there, wherever it was to begin").await;
    member.close().await;
    rig.group = format!("{}-later", rig.group);
    subject.prepare_group(&rig.topic, &rig.group).await;
    let mut member = rig.member_from(Start::Time(now() + 3_600_000), Some(PLENTY)).await;
    member.owns(1).await;
    member.is_quiet("nothing is of that time yet").await;
    rig.write(0, 20..22).await;
    assert_eq!(member.numbers(2).await, [20, 21], "what comes is not left out for its date");
    member.close().await;
}

pub async fn a_group_without_a_position_begins_at_offsets(subject: &dyn Subject) {
    if !subject.features().offsets {
        return;
    }
    let rig = Rig::new(subject, 2).await;
    rig.write(0, 0..10).await;
    rig.write(1, 10..20).await;
    let offsets = Start::Offsets(BTreeMap::from([(PartitionId(0), 4)]));
    let mut member = rig.member_from(offsets.clone(), Some(PLENTY)).await;
    let mut come = member.numbers(16).await;
    come.sort();
    assert_eq!(come, (4..20).collect::<Vec<_>>(), "a partition that is not named begins at its first message");
    member.close().await;
    let mut member = rig.member_from(offsets, Some(PLENTY)).await;
    member.is_quiet("the group has positions now").await;
    member.close().await;
}

pub async fn the_topics_that_there_are_are_listed(subject: &dyn Subject) {
    let rig = Rig::new(subject, 3).await;
    let (unknown, topic) = (Rig::without_topic(subject).topic, rig.topic.clone());
    let listed = rig.in_time("the list has a new topic", async {
        loop {
            let topics = rig.patient("topics", || rig.connector.topics(&topic)).await;
            if topics.contains(&topic) {
                return topics;
            }
            tokio::time::sleep(BUSY).await;
        }
    });
    let listed = listed.await;
    assert_eq!(
        listed.iter().filter(|listed| listed.contains(topic.as_str())).count(),
        1,
        "once, whatever its partitions"
    );
    assert!(!listed.contains(&unknown));
    let internal = |name: &&String| {
        ["__consumer_offsets", "%RETRY%", "rmq_sys_", "__change_events"].iter().any(|i| name.contains(i))
    };
    assert_eq!(listed.iter().find(internal), None, "what the brokers keep for themselves is none");
}
