//! Routes that are paused and resumed.

use tokio::time::{Duration, sleep};

use super::rig::{Rig, Text, until};
use crate::supervisor::Refused;

#[tokio::test(start_paused = true)]
async fn a_paused_route_drains_stays_away_and_goes_on_where_it_was() {
    let text = || Text::default().route("x", "").route("y", "");
    let mut rig = Rig::start(&text(), &["x", "y"]);
    rig.until_ready().await;
    rig.produce("x-in", 0..10);
    rig.until_delivered("x-out", 10).await;
    assert_eq!(rig.supervisor.pause("x"), Ok(true));
    assert_eq!(rig.supervisor.pause("x"), Ok(false), "it is already");
    assert_eq!(rig.hops(), ["y/deliver"], "readiness does not wait for it");
    rig.produce("x-in", 10..20);
    rig.produce("y-in", 0..10);
    rig.until_delivered("y-out", 10).await;
    assert_eq!(rig.in_twenty_seconds("x-out").await, 0);
    // A table that means the same, and one in which it goes elsewhere.
    for table in [text(), Text::default().to("x", "a", "x-new", "").route("y", "")] {
        rig.apply(&table);
        sleep(Duration::from_secs(20)).await;
        assert_eq!((rig.delivered("x-out").len(), rig.delivered("x-new").len()), (10, 0));
    }
    assert_eq!(rig.supervisor.resume("x"), Ok(true));
    assert_eq!(rig.supervisor.resume("x"), Ok(false));
    rig.until_delivered("x-new", 10).await;
    assert_eq!((rig.delivered("x-out"), rig.delivered("x-new")), ((0..10).collect(), (10..20).collect()));
    for answer in [rig.supervisor.pause("z"), rig.supervisor.resume("z")] {
        assert_eq!(answer, Err(Refused::NoRoute));
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_resumed_before_it_has_drained_loses_and_repeats_nothing() {
    let mut rig = Rig::start(&Text::default().route("x", ""), &["x"]);
    rig.slow(Duration::from_secs(1));
    rig.produce("x-in", 0..500);
    rig.until_delivered("x-out", 50).await;
    assert_eq!((rig.supervisor.pause("x"), rig.supervisor.resume("x")), (Ok(true), Ok(true)));
    assert!(!rig.is_ready(), "it waits for the drain");
    rig.until_delivered("x-out", 500).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.delivered("x-out"), (0..500).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_gone_is_paused_no_more() {
    let mut rig = Rig::start(&Text::default().route("x", ""), &["x"]);
    rig.produce("x-in", 0..10);
    rig.supervisor.pause("x").unwrap();
    rig.apply(&Text::default());
    rig.apply(&Text::default().route("x", ""));
    until("it runs", || rig.delivered("x-out").len() == 10).await;
}
