//! A part that hangs ends the hop, so that it is set up anew; what is merely idle or shut out does not.

use tokio::time::{Duration, Instant, sleep};
use trestle_core::Why;
use trestle_memory::{FaultSpec, Freeze, Poison};

use super::rig::{DEAD, HUNG_AFTER, IN, OUT, number, rig};
#[tokio::test(start_paused = true)]
async fn a_source_that_hands_out_nothing_although_there_is_something_is_rebuilt() {
    let mut rig = rig(2);
    let bridge = rig.start().await;
    rig.produce(0, 100);
    rig.finish(0).await;
    rig.cluster.hang_sources(IN);
    rig.produce(0, 100);
    let begin = Instant::now();
    assert_eq!(bridge.failed().await, ("source", "hung"));
    let took = begin.elapsed();
    assert!(took >= HUNG_AFTER && took < HUNG_AFTER * 3, "after {took:?}");
    let bridge = rig.start().await;
    rig.finish_all().await;
    assert_eq!(rig.delivered(0), (0..200).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_go_back_to_what_was_given_back_is_rebuilt() {
    let mut rig = rig(1);
    let bridge = rig.start().await;
    rig.produce(0, 100);
    rig.finish(0).await;
    rig.cluster.down(OUT, 0, Why::Down);
    rig.produce(0, 100);
    rig.until("what waits is held", || rig.budget.used() > 0).await;
    rig.until("what waits was given back", || rig.budget.used() == 0).await;
    rig.cluster.hang_sources(IN);
    rig.cluster.up(OUT, 0);
    assert_eq!(bridge.failed().await, ("source", "hung"));
    let bridge = rig.start().await;
    rig.finish(0).await;
    assert_eq!(rig.delivered(0), (0..200).collect::<Vec<_>>());
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_send_never_ends_is_rebuilt() {
    let mut rig = rig(1);
    let bridge = rig.start().await;
    rig.produce(0, 100);
    rig.finish(0).await;
    rig.cluster.inject(OUT, 0, FaultSpec::Hang);
    rig.produce(0, 100);
    let begin = Instant::now();
    assert_eq!(bridge.failed().await, ("lane", "hung"));
    assert!(begin.elapsed() < HUNG_AFTER * 2, "after {:?}", begin.elapsed());
    let bridge = rig.start().await;
    rig.finish(0).await;
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_never_answered_ends_the_hop() {
    let mut rig = rig(1);
    rig.cluster.poison(OUT, Poison::Message, |m| number(m) == 5);
    rig.cluster.inject(DEAD, 0, FaultSpec::Hang);
    let bridge = rig.start().await;
    rig.produce(0, 10);
    assert_eq!(bridge.failed().await, ("dead-letter lane", "hung"));
    let bridge = rig.start().await;
    rig.finish(0).await;
    assert_eq!(rig.dead(), [(5, "refused".to_owned())]);
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_shut_out_or_slow_does_not_hang() {
    let mut rig = rig(4);
    rig.cluster.down(OUT, 1, Why::Down);
    rig.cluster.freeze(OUT, 2, Freeze::Writes);
    rig.cluster.configure(|s| s.latency = Duration::from_secs(1)..=Duration::from_secs(2));
    let bridge = rig.start().await;
    for _ in 0..60 {
        (0..3).for_each(|partition| rig.produce(partition, 1));
        sleep(Duration::from_secs(60)).await;
    }
    rig.finish(0).await;
    rig.cluster.heal();
    rig.finish_all().await;
    bridge.drain().await;
}
