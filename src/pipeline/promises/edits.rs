//! What a route changes on purpose, or leaves out.

use bytes::Bytes;
use trestle_core::{Message, Position};

use super::rig::{IN, OUT, rig};
use crate::{
    pipeline::{Edits, Placement},
    policy::{
        stamp::Stamp,
        transform::{Is, Of, Test, Transform},
    },
};

fn drops(key: &'static str) -> Edits {
    let test = Test { of: Of::Key, is: Is::Prefixed(key.into()) };
    Edits { transforms: vec![Transform::Drop(test)], stamp: None }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_acknowledged_and_the_rest_arrives_in_order() {
    let mut rig = rig(1);
    rig.edits = drops("odd");
    let bridge = rig.start().await;
    for number in 0..1_000 {
        rig.produce_keyed(if number % 2 == 1 { "odd" } else { "even" });
    }
    // Nothing of what comes last goes on.
    (0..200).for_each(|_| rig.produce_keyed("odd"));
    rig.finish(0).await;
    assert_eq!(rig.delivered(0), (0..1_000).step_by(2).collect::<Vec<_>>());
    assert!(rig.dead().is_empty());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_left_out_again_when_it_is_read_again() {
    let mut rig = rig(1);
    rig.edits = drops("odd");
    let bridge = rig.start().await;
    rig.cluster.configure(|settings| settings.limits.unit_messages = 10);
    (0..500).for_each(|number| rig.produce_keyed(if number % 3 == 0 { "odd" } else { "even" }));
    rig.until("some have arrived", || rig.delivered(0).len() > 50).await;
    bridge.drain().await;
    let again = rig.start().await;
    rig.finish(0).await;
    let mut delivered = rig.delivered(0);
    delivered.dedup();
    assert_eq!(delivered, (0..500).filter(|number| number % 3 != 0).collect::<Vec<_>>());
    again.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_from_a_header_decides_where_a_message_goes() {
    let mut rig = rig(1).by_key(4);
    rig.edits = Edits { transforms: vec![Transform::Rekey { header: "customer".into() }], stamp: None };
    let bridge = rig.start().await;
    for number in 0..400_u64 {
        let mut message = Message { key: Some(number.to_string().into()), ..Message::at(Position::Offset(0)) };
        message.headers.push("customer", Some(Bytes::from(format!("c{}", number % 7))));
        message.value = Some(number.to_string().into());
        rig.cluster.produce(IN, 0, message);
    }
    rig.finish(0).await;
    let homes = |customer: u64| (0..4).filter(|p| rig.delivered(*p).iter().any(|n| n % 7 == customer)).count();
    assert!((0..7).all(|customer| homes(customer) == 1), "each customer has one partition");
    assert!((0..4).filter(|p| !rig.delivered(*p).is_empty()).count() > 1, "and not all the same");
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_round_is_left_out_and_one_that_never_ends_is_a_dead_letter() {
    let mut rig = rig(1);
    let stamp = Stamp { from: "a/in".into(), to: "b/out".into() };
    rig.edits = Edits { transforms: Vec::new(), stamp: Some(stamp) };
    let bridge = rig.start().await;
    let been = |hops: &str| {
        let mut message = Message { value: Some("7".into()), ..Message::at(Position::Offset(0)) };
        message.headers.push("trestle-hops", Some(Bytes::copy_from_slice(hops.as_bytes())));
        message
    };
    for hops in ["b/out,c/x", "c/x", &vec!["c/x"; 16].join(",")] {
        rig.cluster.produce(IN, 0, been(hops));
    }
    rig.finish(0).await;
    let stored = rig.cluster.stored(OUT, 0);
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].message.headers.get("trestle-hops").unwrap(), "c/x,a/in");
    assert_eq!(stored[0].message.headers.get("trestle-origin").unwrap(), "a/in/0/1");
    assert_eq!(rig.dead(), [(7, "loop".to_owned())]);
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn round_robin_uses_every_partition_whatever_the_key() {
    let mut rig = rig(1).by_key(4);
    rig.placement(Placement::RoundRobin);
    let bridge = rig.start().await;
    for _ in 0..40 {
        (0..10).for_each(|_| rig.produce_keyed("same"));
        rig.finish(0).await;
    }
    let mut all: Vec<u64> = (0..4).flat_map(|partition| rig.delivered(partition)).collect();
    assert!((0..4).all(|partition| rig.delivered(partition).len() >= 50), "as even as batches are");
    all.sort_unstable();
    assert_eq!(all, (0..400).collect::<Vec<_>>());
    bridge.drain().await;
}
