use std::time::Duration;

use tokio::time::Instant;
use trestle_core::{Cause, Fault, FaultKind, LaneKey, Outcome, PartitionId, Scope, Sent, Why};

use crate::{Cluster, FaultSpec, Freeze, Poison, testing::*};

fn cluster(window: usize) -> Cluster {
    let cluster = Cluster::new(7);
    cluster.create("t", 1);
    cluster.configure(|s| s.window = window);
    cluster
}

fn fault(sent: &Sent) -> Fault {
    let fault = |outcome: &Outcome| match outcome {
        Outcome::Refused(fault) | Outcome::Unknown(fault) => Some(fault.clone()),
        _ => None,
    };
    sent.runs.iter().find_map(|(_, outcome)| fault(outcome)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn sends_in_flight_are_stored_in_the_order_of_the_calls_whatever_is_polled_first() {
    let cluster = cluster(3);
    cluster.configure(|s| s.latency = Duration::ZERO..=Duration::from_secs(1));
    let mut lane = lane(&cluster).await;
    let (a, b, c) = (lane.send(unit(0..2)), lane.send(unit(2..4)), lane.send(unit(4..6)));
    let (c, b, a) = tokio::join!(c, b, a);
    assert_eq!([letters(&a), letters(&b), letters(&c)], ["SS", "SS", "SS"]);
    assert_eq!(stored(&cluster), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_what_is_in_flight_is_not_stored_and_the_next_send_is() {
    let cluster = cluster(3);
    cluster.inject("t", 0, FaultSpec::RefuseAt { stored: 1, fault: Fault::down("test") });
    let mut lane = lane(&cluster).await;
    let (a, b, c) = (lane.send(unit(0..3)), lane.send(unit(3..5)), lane.send(unit(5..6)));
    let (a, b, c) = tokio::join!(a, b, c);
    assert_eq!([letters(&a), letters(&b), letters(&c)], ["SRN", "NN", "N"]);
    assert_eq!(letters(&lane.send(unit(1..6)).await), "SSSSS");
    assert_eq!(stored(&cluster), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn an_order_break_is_made_only_on_command() {
    let cluster = cluster(2);
    cluster.inject("t", 0, FaultSpec::OrderBreak(Fault::down("test")));
    let mut lane = lane(&cluster).await;
    let (a, b) = (lane.send(unit(0..1)), lane.send(unit(1..2)));
    let (a, b) = tokio::join!(a, b);
    assert_eq!([letters(&a), letters(&b)], ["R", "S"]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_comes_when_send_timeout_is_over_and_only_a_lost_response_stored_something() {
    for (spec, all) in [(FaultSpec::timeout(), vec![]), (FaultSpec::lost_response(), vec![0, 1])] {
        let cluster = cluster(1);
        cluster.inject("t", 0, spec);
        let mut lane = lane(&cluster).await;
        let called = Instant::now();
        let sent = lane.send(unit(0..2)).await;
        assert_eq!((letters(&sent).as_str(), fault(&sent).kind), ("UU", FaultKind::Timeout));
        assert_eq!(called.elapsed(), SEND_TIMEOUT);
        assert_eq!(stored(&cluster), all);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_partition_answers_nothing_until_it_thaws() {
    let cluster = cluster(1);
    let sink = sink(&cluster, false).await;
    let mut lane = lane(&cluster).await;
    cluster.freeze("t", 0, Freeze::Everything);
    assert_eq!(fault(&lane.send(unit(0..1)).await).kind, FaultKind::Timeout);
    assert_eq!(sink.probe(PartitionId(0)).await.unwrap_err().kind, FaultKind::Timeout);
    let thaw = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.thaw("t", 0);
    };
    let (sent, ()) = tokio::join!(lane.send(unit(0..1)), thaw);
    assert_eq!(letters(&sent), "S");
    cluster.freeze("t", 0, Freeze::Writes);
    sink.probe(PartitionId(0)).await.unwrap();
    assert_eq!(fault(&lane.send(unit(1..2)).await).kind, FaultKind::Timeout);
    assert_eq!(stored(&cluster), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_down_says_why_and_heals() {
    let cluster = cluster(1);
    let sink = sink(&cluster, false).await;
    let mut lane = lane(&cluster).await;
    cluster.down("t", 0, Why::Permission);
    assert_eq!(fault(&lane.send(unit(0..1)).await).kind, FaultKind::Unavailable(Why::Permission));
    assert!(sink.probe(PartitionId(0)).await.is_err());
    assert!(sink.lane(LaneKey { target: PartitionId(0), source: None }).await.is_err());
    cluster.heal();
    assert_eq!(letters(&lane.send(unit(0..1)).await), "S");
}

#[tokio::test(start_paused = true)]
async fn poison_is_refused_alone_or_takes_its_send_with_it() {
    for (poison, outcomes, scope, left) in [
        (Poison::Message, "SRN", Scope::Message, vec![0]),
        (Poison::Batch, "RRR", Scope::Batch, vec![]),
        (Poison::Timeout, "UUU", Scope::Partition, vec![]),
    ] {
        let cluster = cluster(1);
        cluster.poison("t", poison, |m| number(m) == 1);
        let mut lane = lane(&cluster).await;
        let sent = lane.send(unit(0..3)).await;
        assert_eq!((letters(&sent).as_str(), fault(&sent).scope), (outcomes, scope));
        assert_eq!(stored(&cluster), left);
        assert_eq!(letters(&lane.send(unit(2..4)).await), "SS", "without it all is well");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_limit_is_rejected_alone() {
    let cluster = cluster(1);
    cluster.configure(|s| s.max_message = 1);
    let sent = lane(&cluster).await.send(unit(8..12)).await;
    assert_eq!(letters(&sent), "SSRN");
    assert_eq!(fault(&sent).kind, FaultKind::Rejected(Cause::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_newer_fenced_lane_ends_the_older_one_and_a_commanded_fence_every_one() {
    let cluster = cluster(1);
    let sink = sink(&cluster, true).await;
    let key = LaneKey { target: PartitionId(0), source: Some(PartitionId(0)) };
    let (mut old, mut new) = (sink.lane(key).await.unwrap(), sink.lane(key).await.unwrap());
    assert_eq!(fault(&old.send(unit(0..1)).await).kind, FaultKind::Fenced);
    assert_eq!(letters(&new.send(unit(0..1)).await), "S");
    cluster.inject("t", 0, FaultSpec::Fence);
    assert_eq!(fault(&new.send(unit(1..2)).await).kind, FaultKind::Fenced);
    assert_eq!(letters(&sink.lane(key).await.unwrap().send(unit(1..2)).await), "S");
    assert_eq!(stored(&cluster), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_send_left_behind_is_a_prefix_and_the_same_for_the_same_seed() {
    let crash = |seed| async move {
        let cluster = Cluster::new(seed);
        cluster.create("t", 1);
        cluster.configure(|s| (s.window, s.latency) = (3, Duration::from_secs(1)..=Duration::from_secs(1)));
        let mut lane = lane(&cluster).await;
        let mut sends = vec![lane.send(unit(0..3)), lane.send(unit(3..6)), lane.send(unit(6..9))];
        // Dropped in different orders, some of them polled.
        let at = (seed % 3) as usize;
        let _ = tokio::time::timeout(Duration::from_millis(500), &mut sends[at]).await;
        drop(sends.swap_remove(at));
        drop(sends);
        assert_eq!(letters(&lane.send(unit(9..10)).await), "S", "the lane goes on");
        stored(&cluster)
    };
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut left = crash(seed).await;
        assert_eq!(left, crash(seed).await, "seed {seed}");
        assert_eq!(left.pop(), Some(9));
        assert_eq!(left, (0..left.len() as u64).collect::<Vec<_>>(), "seed {seed}");
        seen.insert(left.len());
    }
    assert!(seen.len() > 5 && seen.contains(&0) && seen.contains(&9), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_send_still_waited_for_is_told_the_truth_when_one_before_it_was_dropped() {
    for seed in 0..50 {
        let cluster = Cluster::new(seed);
        cluster.create("t", 1);
        cluster.configure(|s| s.window = 2);
        let mut lane = lane(&cluster).await;
        let (dropped, waited) = (lane.send(unit(0..3)), lane.send(unit(3..6)));
        drop(dropped);
        let outcomes = letters(&waited.await);
        assert_eq!(outcomes == "SSS", stored(&cluster) == [0, 1, 2, 3, 4, 5], "seed {seed}: {outcomes}");
        assert_eq!(outcomes == "NNN", stored(&cluster).len() < 3, "seed {seed}: {outcomes}");
    }
}
