use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Duration;
use trestle_memory::Poison;

use super::rig::{HOUR, OUT, Rig, number, rig};
use crate::policy::dead_letter_limit::NackWindow;

const MINUTE: Duration = Duration::from_secs(60);

/// Every message below this number is refused until `true` is stored.
fn refuse_below(rig: &Rig, poison: Poison, first_good: u64) -> Arc<AtomicBool> {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = mended.clone();
    rig.cluster.poison(OUT, poison, move |m| number(m) < first_good && !seen.load(Ordering::Relaxed));
    mended
}

#[tokio::test(start_paused = true)]
async fn a_run_of_bad_messages_stops_the_route_at_the_limit_and_nothing_is_lost() {
    for (poison, restart) in
        [(Poison::Message, false), (Poison::Batch, false), (Poison::Message, true), (Poison::Batch, true)]
    {
        let mut rig = rig(2).dead_letter_limit(5, MINUTE);
        let mended = refuse_below(&rig, poison, 100);
        let mut bridge = rig.start().await;
        rig.produce(0, 100);
        rig.produce(1, 100);
        rig.until("the limit is reached", || rig.dead().len() == 5).await;
        rig.finish(1).await;
        assert_eq!(rig.delivered(1).len(), 100, "a partition without bad messages goes on");
        let status = bridge.status.clone();
        let says = || status.reasons().iter().any(|(name, why)| name == "dead letters" && why.contains("start again"));
        rig.until("readiness says why", says).await;
        rig.during(HOUR, "the bad partition waits", || {
            says() && rig.dead().len() == 5 && rig.committed(0) == 5 && rig.delivered(0).is_empty()
        })
        .await;
        assert_eq!(rig.budget.used(), 0, "a stopped lane holds no memory");
        mended.store(true, Ordering::Relaxed);
        rig.during(HOUR, "that it is mended is not enough", || says() && rig.delivered(0).is_empty()).await;
        if restart {
            bridge.drain().await;
            rig.nack_window = NackWindow::new(None);
            bridge = rig.start().await;
        } else {
            rig.nack_window.resume();
            rig.until("readiness says nothing more", || status.reasons().is_empty()).await;
        }
        rig.finish_all().await;
        assert_eq!(rig.dead().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4], "{poison:?}");
        assert_eq!(rig.delivered(0), (5..100).collect::<Vec<_>>(), "{poison:?}");
        bridge.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_one_for_all_lanes() {
    let mut rig = rig(8).dead_letter_limit(11, MINUTE);
    refuse_below(&rig, Poison::Message, u64::MAX);
    let bridge = rig.start().await;
    for partition in 0..8 {
        rig.produce(partition, 50);
    }
    rig.until("the limit is reached", || rig.dead().len() == 11).await;
    let acknowledged = || (0..8).map(|partition| rig.committed(partition)).sum::<u64>();
    rig.during(HOUR, "not one more is written", || rig.dead().len() == 11 && acknowledged() <= 11).await;
    assert_eq!(acknowledged(), 11);
    bridge.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_few_bad_messages_now_and_then_stop_nothing() {
    let mut rig = rig(1).dead_letter_limit(5, MINUTE);
    refuse_below(&rig, Poison::Message, u64::MAX);
    let bridge = rig.start().await;
    for _ in 0..10 {
        rig.produce(0, 5);
        rig.finish(0).await;
        tokio::time::sleep(MINUTE).await;
    }
    assert_eq!(rig.dead().len(), 50);
    bridge.drain().await;
}
