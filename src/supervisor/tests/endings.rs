//! Who waits for whom to drain, and what happens when not even that can be waited for.

use tokio::time::{Duration, Instant, sleep};
use trestle_memory::Freeze;

use super::rig::{Rig, Text, until};

const SECOND: Duration = Duration::from_secs(1);
/// What a table has that says nothing of it.
const GRACE: Duration = Duration::from_secs(25);

fn to(topic: &str) -> Text {
    Text::default().to("x", "a", topic, "")
}

/// Messages are on their way to `x-1`, and will be for a while.
async fn busy() -> Rig {
    let rig = Rig::start(&to("x-1"), &["x"]);
    rig.slow(2 * SECOND);
    rig.produce("x-in", 0..200);
    rig.until_delivered("x-1", 10).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn of_two_tables_in_a_row_the_first_never_starts() {
    let mut rig = busy().await;
    rig.apply(&to("x-2"));
    rig.apply(&to("x-3"));
    until("everything is delivered", || rig.delivered("x-1").len() + rig.delivered("x-3").len() >= 200).await;
    assert_eq!([rig.delivered("x-1"), rig.delivered("x-3")].concat(), (0..200).collect::<Vec<_>>());
    assert!(!rig.has_topic("x-2").await, "the second table's route was started");
    assert_eq!(rig.hops(), ["x/deliver"]);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_goes_back_waits_for_the_drain_all_the_same() {
    let mut rig = busy().await;
    rig.apply(&to("x-2"));
    rig.apply(&to("x-1"));
    rig.until_delivered("x-1", 200).await;
    sleep(60 * SECOND).await;
    assert_eq!(rig.delivered("x-1"), (0..200).collect::<Vec<_>>());
    assert!(!rig.has_topic("x-2").await);
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_before_a_reload_that_still_waits() {
    let mut rig = busy().await;
    rig.apply(&to("x-2"));
    let begin = Instant::now();
    let cluster = rig.cluster.clone();
    rig.supervisor.drain().await;
    assert!(begin.elapsed() >= SECOND, "what was in flight was not awaited");
    assert!(cluster.members("x-in", "trestle-x").is_empty());
    sleep(60 * SECOND).await;
    assert!(cluster.members("x-in", "trestle-x").is_empty() && cluster.sendings("x-2", 0).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_route_under_another_name_waits_for_the_group_it_reads_as() {
    let named = |name: &str| {
        let settings = "from: { cluster: a, topic: x-in, group: g }, to: { cluster: a, topic: x-1 }";
        Text::default().whole(name, settings)
    };
    let mut rig = Rig::start(&named("x"), &["x"]);
    rig.slow(2 * SECOND);
    rig.produce("x-in", 0..100);
    rig.until_delivered("x-1", 10).await;
    let difference = rig.apply(&named("renamed")).difference;
    assert_eq!((difference.added, difference.removed), (vec!["renamed".to_owned()], vec!["x".to_owned()]));
    until("everything is delivered", || {
        assert!(rig.cluster.members("x-in", "g").len() <= 1, "both are in the group");
        rig.delivered("x-1").len() >= 100
    })
    .await;
    assert_eq!(rig.delivered("x-1"), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_has_nothing_to_do_with_it_starts_at_once() {
    let patient = || Text { more: "defaults: { send_timeout: 5m }".into(), ..Text::default() };
    let mut rig = Rig::start(&patient().route("x", ""), &["x", "y"]);
    rig.produce("x-in", 0..10);
    rig.until_delivered("x-out", 10).await;
    rig.cluster.freeze("x-out", 0, Freeze::Writes);
    rig.produce("x-in", 10..20);
    rig.produce("y-in", 0..10);
    sleep(SECOND).await;
    rig.apply(&patient().route("y", ""));
    let begin = Instant::now();
    rig.until_delivered("y-out", 10).await;
    assert!(begin.elapsed() < GRACE / 2, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_grace_of_the_table_that_removes_a_route_is_the_one_that_holds() {
    let frozen = |grace: &str| Text {
        more: format!("shutdown: {{ grace: {grace} }}\ndefaults: {{ send_timeout: 5m }}"),
        ..Text::default()
    };
    let mut rig = Rig::start(&frozen("1h").route("x", ""), &["x"]);
    rig.produce("x-in", 0..10);
    rig.until_delivered("x-out", 10).await;
    rig.cluster.freeze("x-out", 0, Freeze::Writes);
    rig.produce("x-in", 10..20);
    sleep(SECOND).await;
    rig.apply(&frozen("5s"));
    let begin = Instant::now();
    rig.supervisor.drain().await;
    assert!(begin.elapsed() <= 15 * SECOND, "{:?}", begin.elapsed());
}
