use tokio::time::{Duration, Instant};
use trestle_core::Why;
use trestle_memory::{Cluster, Freeze, Poison};

use super::rig::{HOUR, OUT, rig};
use crate::policy::gate::GatePolicy;

#[tokio::test(start_paused = true)]
async fn an_outage_of_an_hour_dead_letters_nothing() {
    let outages: [fn(&Cluster); 3] =
        [|c| c.down(OUT, 0, Why::Down), |c| c.freeze(OUT, 0, Freeze::Everything), |c| c.freeze(OUT, 0, Freeze::Writes)];
    for outage in outages {
        let mut rig = rig(1);
        let bridge = rig.start().await;
        rig.produce(0, 100);
        rig.finish(0).await;
        outage(&rig.cluster);
        rig.produce(0, 1000);
        rig.during(HOUR, "nothing is delivered or dead-lettered", || {
            rig.delivered(0).len() == 100 && rig.dead().is_empty()
        })
        .await;
        rig.cluster.heal();
        rig.produce(0, 1);
        rig.finish(0).await;
        assert_eq!(rig.delivered(0), (0..1101).collect::<Vec<_>>());
        assert!(rig.dead().is_empty());
        bridge.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_partition_holds_back_only_its_own() {
    let mut rig = rig(4);
    let bridge = rig.start().await;
    rig.cluster.down(OUT, 2, Why::Down);
    for partition in 0..4 {
        rig.produce(partition, 1000);
    }
    for free in [0, 1, 3] {
        rig.finish(free).await;
        assert_eq!(rig.delivered(free).len(), 1000);
    }
    rig.during(HOUR, "the blocked one waits", || rig.delivered(2).is_empty() && rig.committed(2) == 0).await;
    for free in [0, 1, 3] {
        rig.produce(free, 1000);
        rig.finish(free).await;
    }
    rig.cluster.up(OUT, 2);
    rig.finish(2).await;
    assert_eq!(rig.delivered(2), (2000..3000).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_stuck_partition_gives_its_memory_back() {
    let mut rig = rig(1);
    let bridge = rig.start().await;
    rig.cluster.down(OUT, 0, Why::Down);
    rig.produce(0, 1000);
    rig.until("messages wait at the gate", || rig.budget.used() > 10_000).await;
    rig.until("they are given back", || rig.budget.used() == 0).await;
    rig.during(HOUR, "nothing is held while the gate is closed", || rig.budget.used() == 0).await;
    rig.cluster.up(OUT, 0);
    rig.finish(0).await;
    assert_eq!(rig.delivered(0), (0..1000).collect::<Vec<_>>());
    rig.until("nothing is held at rest", || rig.budget.used() == 0).await;
    rig.during(Duration::from_secs(1), "nothing is held at rest", || rig.budget.used() == 0).await;
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_closes_after_as_many_failures_and_is_probed_as_often_as_it_is_told() {
    let mut took = Vec::new();
    for failures in [2, 4] {
        let (initial, max) = (Duration::from_secs(100), Duration::from_secs(100));
        let mut rig = rig(1).gate(GatePolicy { failures, initial, max, ..GatePolicy::default() });
        // Alone, it is never dead-lettered: every failure counts, and none is an outage.
        rig.cluster.poison(OUT, Poison::Timeout, |_| true);
        let bridge = rig.start().await;
        let begin = Instant::now();
        rig.produce(0, 1);
        let status = bridge.status.clone();
        let closed = || status.reasons().iter().any(|(name, _)| name == "partition 0");
        rig.until("the gate is closed", closed).await;
        took.push(begin.elapsed());
        // From three quarters of the delay on, which is up to chance, it is half open.
        rig.during(Duration::from_secs(74), "it stays closed", closed).await;
        bridge.drain().await;
    }
    assert!(took[0] * 3 / 2 < took[1], "{took:?}");
}
