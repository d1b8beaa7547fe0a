use trestle_core::Why;
use trestle_memory::{Cluster, Freeze, Poison};

use super::rig::{DEAD, HOUR, OUT, number, rig};

#[tokio::test(start_paused = true)]
async fn one_bad_record_in_a_thousand_is_exactly_one_dead_letter() {
    for (poison, cause) in [(Poison::Message, "refused"), (Poison::Batch, "refused"), (Poison::Timeout, "timeout")] {
        let mut rig = rig(1);
        rig.cluster.poison(OUT, poison, |m| number(m) == 777);
        let bridge = rig.start().await;
        rig.produce(0, 1000);
        rig.until("the bad record is dead-lettered", || rig.dead().len() == 1).await;
        rig.finish(0).await;
        assert_eq!(rig.dead(), [(777, cause.to_owned())], "{poison:?}");
        assert_eq!(rig.delivered(0), (0..1000).filter(|n| *n != 777).collect::<Vec<_>>(), "{poison:?}");
        bridge.drain().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_dead_letters_cannot_be_written_nothing_is_acknowledged() {
    let outages: [fn(&Cluster); 3] = [
        |c| c.down(DEAD, 0, Why::Permission),
        |c| c.freeze(DEAD, 0, Freeze::Everything),
        |c| c.freeze(DEAD, 0, Freeze::Writes),
    ];
    for (outage, poison) in outages.into_iter().flat_map(|o| [(o, Poison::Message), (o, Poison::Batch)]) {
        let mut rig = rig(1);
        outage(&rig.cluster);
        rig.cluster.poison(OUT, poison, |m| number(m) == 5);
        let bridge = rig.start().await;
        rig.produce(0, 10);
        rig.until("what comes before is acknowledged", || rig.committed(0) == 5).await;
        rig.during(HOUR, "the lane waits", || rig.committed(0) == 5 && rig.delivered(0).len() == 5).await;
        rig.cluster.up(DEAD, 0);
        rig.cluster.thaw(DEAD, 0);
        rig.finish(0).await;
        assert_eq!(rig.dead(), [(5, "refused".to_owned())], "{poison:?}");
        assert_eq!(rig.delivered(0), [0, 1, 2, 3, 4, 6, 7, 8, 9], "{poison:?}");
        bridge.drain().await;
    }
}
