use tokio::time::{Duration, Instant};
use trestle_core::{Outcome, PartitionId, Slice, Tracker, Why};
use trestle_memory::Freeze;

use super::rig::{GROUP, HOUR, IN, OUT, Rig, rig};
use crate::policy::gate::RELEASE_AFTER;

/// Sends take a second, several are in flight, and much waits behind them.
fn slow(partitions: u32) -> Rig {
    let rig = rig(partitions);
    rig.cluster.configure(|s| {
        s.window = 4;
        s.limits.unit_messages = 10;
        s.latency = Duration::from_secs(1)..=Duration::from_secs(1);
    });
    rig
}

#[tokio::test(start_paused = true)]
async fn a_drain_leaves_nothing_to_repeat() {
    let mut rig = slow(3);
    for partition in 0..3 {
        rig.produce(partition, 500);
    }
    let bridge = rig.start().await;
    rig.until("something is delivered", || rig.delivered(0).len() >= 50).await;
    bridge.drain().await;
    assert_eq!(rig.budget.used(), 0);
    rig.produce(0, 100);
    let bridge = rig.start().await;
    rig.finish_all().await;
    let expected = [(0..500).chain(1500..1600).collect::<Vec<_>>(), (500..1000).collect(), (1000..1500).collect()];
    for (partition, expected) in expected.into_iter().enumerate() {
        assert_eq!(rig.delivered(partition as u32), expected);
    }
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_what_stands_at_a_closed_gate() {
    let mut rig = rig(2);
    rig.cluster.down(OUT, 1, Why::Down);
    let bridge = rig.start().await;
    rig.produce(0, 100);
    rig.finish(0).await;
    rig.produce(1, 100);
    rig.until("messages wait at the gate", || rig.budget.used() > 0).await;
    let told = Instant::now();
    bridge.drain().await;
    assert!(told.elapsed() < RELEASE_AFTER / 2, "it waited {:?}", told.elapsed());
    rig.cluster.heal();
    let bridge = rig.start().await;
    rig.finish_all().await;
    assert_eq!(rig.delivered(0), (0..100).collect::<Vec<_>>());
    assert_eq!(rig.delivered(1), (100..200).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_revoke_commits_what_is_settled_before_it_lets_go() {
    let mut rig = slow(2).commits_every(2 * HOUR);
    for partition in 0..2 {
        rig.produce(partition, 500);
    }
    let first = rig.start().await;
    rig.until("something is delivered", || rig.delivered(0).len() >= 50).await;
    assert_eq!((rig.committed(0), rig.committed(1)), (0, 0), "else the revoke would show nothing");
    let [old] = rig.cluster.members(IN, GROUP)[..] else { panic!("one member") };
    let second = rig.start().await;
    let owner = |partition| rig.cluster.owner(IN, GROUP, partition);
    rig.until("a partition has moved", || (0..2).any(|p| owner(p) != Some(old))).await;
    let moved = (0..2).find(|p| owner(*p) != Some(old)).unwrap();
    // What was in flight was awaited, and is not sent again.
    assert_eq!(rig.committed(moved), rig.delivered(moved).len() as u64);
    assert!(rig.committed(moved) > 50);
    for bridge in [first, second] {
        rig.until("all is delivered", || (0..2).all(|p| rig.delivered(p).len() >= 500)).await;
        bridge.drain().await;
    }
    assert_eq!(rig.delivered(0), (0..500).collect::<Vec<_>>());
    assert_eq!(rig.delivered(1), (500..1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_fenced_lane_is_not_fought_over() {
    let mut rig = rig(2).fenced();
    let bridge = rig.start().await;
    rig.produce(0, 100);
    rig.finish(0).await;
    let mut other = rig.lane_of_another(0).await;
    rig.produce(0, 100);
    rig.produce(1, 100);
    rig.finish(1).await;
    rig.during(HOUR, "what is left is another's", || rig.delivered(0).len() == 100 && rig.committed(0) == 100).await;
    // The other instance still owns the lane: nobody has taken it back.
    let tracker = Tracker::new(PartitionId(0), || {});
    let foreign = tracker.admit(vec![rig.cluster.stored(IN, 0)[100].message.clone()]).unwrap();
    let sent = other.send(vec![Slice::whole(foreign.into())]).await;
    assert!(matches!(sent.runs[..], [(1, Outcome::Stored)]));
    // Until the group gives the partition out again.
    let [member] = rig.cluster.members(IN, GROUP)[..] else { panic!("one member") };
    rig.cluster.lose_session(IN, GROUP, member);
    rig.finish(0).await;
    assert_eq!(rig.delivered(0).len(), 201);
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_fenced_in_an_assignment_that_is_over_does_not_stop_the_next_one() {
    let mut rig = slow(2).fenced();
    let bridge = rig.start().await;
    rig.produce(0, 500);
    rig.until("something is delivered", || rig.delivered(0).len() >= 50).await;
    rig.cluster.freeze(OUT, 0, Freeze::Writes);
    let [member] = rig.cluster.members(IN, GROUP)[..] else { panic!("one member") };
    rig.cluster.lose_session(IN, GROUP, member);
    let _other = rig.lane_of_another(0).await;
    rig.cluster.thaw(OUT, 0);
    rig.finish(0).await;
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_opens_late_does_not_fence_its_successor() {
    let mut rig = rig(1).fenced();
    rig.cluster.freeze(OUT, 0, Freeze::Everything);
    let bridge = rig.start().await;
    for _ in 0..3 {
        rig.during(Duration::from_millis(1), "a lane is being opened", || true).await;
        let [member] = rig.cluster.members(IN, GROUP)[..] else { panic!("one member") };
        rig.cluster.lose_session(IN, GROUP, member);
    }
    rig.cluster.configure(|s| s.latency = Duration::ZERO..=Duration::from_secs(1));
    rig.cluster.thaw(OUT, 0);
    rig.produce(0, 10);
    rig.finish(0).await;
    bridge.drain().await;
}
