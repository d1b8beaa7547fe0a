//! Topics: made, grown, described.

use trestle_core::{Durable, Ensure, FaultKind, Why};

use crate::{Subject, rig::*};

pub async fn ensure_creates_grows_and_never_takes_away(subject: &dyn Subject) {
    let rig = Rig::new(subject, 2).await;
    rig.write(1, 0..3).await;
    for (asked, there) in [(2, 2), (4, 4), (1, 4)] {
        let ensure = Ensure { partitions: asked, durable: None };
        let info = rig.patient("ensure", || rig.connector.ensure(&rig.topic, ensure.clone())).await;
        assert_eq!(info.partitions, there, "asked for {asked}");
    }
    let told = rig.in_time("describe", async {
        while rig.connector.describe(&rig.topic).await.map_or(0, |info| info.partitions) != 4 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    told.await;
    rig.write(3, 3..5).await;
    let mut member = rig.member().await;
    let mut come = member.numbers(5).await;
    come.sort();
    assert_eq!(come, upto(5), "what was there is there");
    member.close().await;
}

pub async fn an_unknown_topic_is_said_to_be_unknown(subject: &dyn Subject) {
    let rig = Rig::without_topic(subject);
    for _ in 0..2 {
        let fault = rig.in_time("describe", rig.connector.describe(&rig.topic)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unavailable(Why::UnknownTopic), "and asking makes none: {fault}");
    }
}

pub async fn a_durable_subscription_keeps_what_came_before_its_first_reader(subject: &dyn Subject) {
    if !subject.features().durable {
        return;
    }
    let rig = Rig::without_topic(subject);
    let durable = Some(Durable { subscription: rig.group.clone() });
    for _ in 0..2 {
        let ensure = Ensure { partitions: 2, durable: durable.clone() };
        rig.patient("ensure", || rig.connector.ensure(&rig.topic, ensure.clone())).await;
    }
    rig.write(0, 0..5).await;
    rig.write(1, 5..10).await;
    let mut member = rig.member().await;
    let mut come = member.numbers(10).await;
    come.sort();
    assert_eq!(come, upto(10), "nothing of it is gone");
    member.close().await;
}
