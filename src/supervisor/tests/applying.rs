//! What a new table does to the routes that run.

use tokio::time::{Duration, sleep};

use super::rig::{Rig, Text, connect, produce, until};
use crate::supervisor::{Difference, LEAST_BUFFER, Supervisor, buffer_bytes, difference::needs_restart};

const SECOND: Duration = Duration::from_secs(1);

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_route_that_means_the_same_does_not_notice_any_table() {
    let alone = || Text::default().route("x", "");
    let mut rig = Rig::start(&alone(), &["x", "y"]);
    rig.until_ready().await;
    let member = rig.cluster.members("x-in", "trestle-x");
    let cluster = rig.cluster.clone();
    let load = tokio::spawn(async move {
        for number in 0..3_000 {
            produce(&cluster, "x-in", number);
            sleep(Duration::from_millis(1)).await;
        }
    });
    rig.produce("y-in", 0..100);
    let tables = [
        // Written otherwise, and added to.
        (Text { more: "defaults: { retry: { retries: 3 } }".into(), ..alone().route("y", "") }, 2, ["y", "", ""]),
        (alone().route("y", ", retry: { retries: 9 }"), 3, ["", "y", ""]),
        (Text { b: ", rate: { messages: 7 }".into(), ..alone() }, 4, ["", "", "y"]),
    ];
    for (text, generation, expected) in tables {
        let applied = rig.apply(&text);
        let [added, changed, removed] = expected.map(|name| if name.is_empty() { vec![] } else { names(&[name]) });
        assert_eq!(applied.difference, Difference { added, changed, removed, unchanged: 1 });
        assert_eq!((applied.generation, applied.needs_restart), (generation, vec![]));
        sleep(SECOND / 2).await;
    }
    load.await.unwrap();
    rig.until_delivered("x-out", 3_000).await;
    assert_eq!(rig.delivered("x-out"), (0..3_000).collect::<Vec<_>>());
    assert_eq!(rig.delivered("y-out"), (0..100).collect::<Vec<_>>());
    assert_eq!(rig.cluster.members("x-in", "trestle-x"), member, "it joined its group again");
    assert_eq!(rig.lanes("x-out").len(), 1, "it opened its lane again");
}

#[tokio::test(start_paused = true)]
async fn a_changed_route_drains_and_goes_on_where_it_was() {
    let mut rig = Rig::start(&Text::default().route("x", ""), &["x"]);
    rig.slow(SECOND);
    rig.produce("x-in", 0..500);
    rig.until_delivered("x-out", 50).await;
    let applied = rig.apply(&Text::default().to("x", "a", "x-new", ""));
    assert_eq!(applied.difference.changed, names(&["x"]));
    assert!(!rig.is_ready(), "it waits for the drain");
    rig.produce("x-in", 500..600);
    until("everything is delivered", || rig.delivered("x-out").len() + rig.delivered("x-new").len() >= 600).await;
    sleep(60 * SECOND).await;
    let all = [rig.delivered("x-out"), rig.delivered("x-new")].concat();
    assert_eq!(all, (0..600).collect::<Vec<_>>(), "lost, repeated or out of order");
    assert!(rig.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_removed_route_drains_and_is_forgotten() {
    let mut rig = Rig::start(&Text::default().route("x", "").route("y", ""), &["x", "y"]);
    rig.slow(SECOND);
    rig.produce("x-in", 0..25);
    rig.until_delivered("x-out", 10).await;
    assert_eq!(rig.hops(), ["x/deliver", "y/deliver"]);
    assert_eq!(rig.apply(&Text::default().route("y", "")).difference.removed, names(&["x"]));
    assert_eq!(rig.hops(), ["y/deliver"]);
    until("it has left its group", || rig.cluster.members("x-in", "trestle-x").is_empty()).await;
    assert_eq!(rig.delivered("x-out"), (0..25).collect::<Vec<_>>());
    assert_eq!(rig.cluster.committed("x-in", "trestle-x", 0), Some(25));
    rig.produce("x-in", 25..30);
    sleep(60 * SECOND).await;
    assert_eq!(rig.delivered("x-out").len(), 25);
    // It goes on where it was when it comes back.
    rig.apply(&Text::default().route("x", "").route("y", ""));
    rig.until_delivered("x-out", 30).await;
    assert_eq!(rig.delivered("x-out"), (0..30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_changes_changes_all_routes_on_it_and_no_other() {
    let text = || Text::default().route("x", "").to("y", "b", "y-out", "");
    let mut rig = Rig::start(&text(), &["x", "y"]);
    let changed = rig.apply(&Text { b: ", options: { linger.ms: 7 }".into(), ..text() }).difference;
    assert_eq!(changed, Difference { changed: names(&["y"]), unchanged: 1, ..Difference::default() });
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_changes_is_applied_and_one_that_stays_holds_for_those_who_come() {
    let limited = |messages: u32| Text { b: format!(", rate: {{ messages: {messages} }}"), ..Text::default() };
    let mut rig = Rig::start(&limited(100).to("x", "b", "out", ""), &["x", "y"]);
    rig.produce("x-in", 0..50_000);
    rig.produce("y-in", 50_000..100_000);
    rig.until_delivered("out", 1).await;
    rig.apply(&limited(100).to("x", "b", "out", "").to("y", "b", "out", ""));
    assert!(
        (1_900..=2_020).contains(&rig.in_twenty_seconds("out").await),
        "two routes under one limit of 100 a second"
    );
    rig.apply(&limited(1_000).to("x", "b", "out", "").to("y", "b", "out", ""));
    // What the old limit held back is drained under it, for as long as the grace and the closing last.
    sleep(60 * SECOND).await;
    assert!((19_000..=20_200).contains(&rig.in_twenty_seconds("out").await), "two routes under one of 1,000 a second");
    for begin in [0, 50_000] {
        let of_one = rig.delivered("out").into_iter().filter(|number| (begin..begin + 50_000).contains(number));
        assert!(of_one.enumerate().all(|(nth, number)| number == begin + nth as u64), "lost, repeated or out of order");
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_connected_changes_nothing() {
    let mut rig = Rig::start(&Text::default().route("x", ""), &["x", "y"]);
    let mut broken = Text::default().to("x", "broken", "x-out", "").route("y", "");
    broken.b = " }\n  broken: { type: kafka, servers: \"127.0.0.1:3\"".into();
    let error = rig.supervisor.apply(&broken.table()).unwrap_err();
    assert_eq!(error, "cluster broken: it is broken");
    assert_eq!(rig.hops(), ["x/deliver"]);
    rig.produce("x-in", 0..10);
    rig.until_delivered("x-out", 10).await;
    assert_eq!(rig.apply(&Text::default().route("x", "")).generation, 2);
    assert_eq!(rig.lanes("x-out").len(), 1);
    assert!(Supervisor::start(&broken.table(), connect(&rig.cluster)).is_err());
}

#[test]
fn what_needs_a_restart_is_named() {
    let text = |more: &str| Text { more: more.into(), ..Text::default() }.table();
    let running = text("");
    assert!(needs_restart(&running, &text("shutdown: { grace: 9s }")).is_empty());
    let said = needs_restart(&running, &text("admin: { listen: \"127.0.0.1:1\" }\nmemory: { limit: 64MiB }"));
    assert_eq!(
        said,
        [
            "`admin.listen` needs a restart: 127.0.0.1:9464 stays, 127.0.0.1:1 was read",
            "`memory.limit` needs a restart: 268435456 bytes stay, 67108864 were read",
        ]
    );
    assert_eq!(needs_restart(&running, &text("memory: { largest_message: 1MiB }")).len(), 1);
}

#[tokio::test]
async fn who_may_ask_follows_the_table_unless_that_would_be_everyone() {
    let admin = |admin: &str| Text { more: format!("admin: {{ {admin} }}"), ..Text::default() }.table();
    let tokens = |token: &str| format!("auth: {{ tokens: {{ ops: {{ token: {token}, scopes: [view] }} }} }}");
    let everywhere = "listen: \"0.0.0.0:9464\"";
    let first = admin(&format!("{everywhere}, {}", tokens("first-token-of-ops")));
    let second = admin(&format!("{everywhere}, {}", tokens("second-token-of-ops")));
    let cluster = trestle_memory::Cluster::new(1);
    let mut supervisor = Supervisor::start(&first, connect(&cluster)).unwrap();
    let running = supervisor.table();
    let auth = move || running.borrow().auth.clone();
    assert_eq!(auth(), first.auth);
    supervisor.apply(&second).unwrap();
    assert!(auth() == second.auth && first.auth != second.auth, "a new token is taken over");
    // On the loopback address that it names nobody needs to be asked for a token; the address stays, though.
    supervisor.apply(&admin("listen: \"127.0.0.1:9464\"")).unwrap();
    assert_eq!(auth(), second.auth);
    supervisor.apply(&admin(&format!("{everywhere}, auth: none"))).unwrap();
    assert_eq!(auth(), crate::config::Auth::None { explicit: true });
    supervisor.drain().await;
}

#[test]
fn what_sources_may_buffer_stays_within_the_memory_whatever_was_added_when() {
    const MEMORY: usize = 256 << 20;
    let all = MEMORY / 8;
    assert_eq!(buffer_bytes(MEMORY, 4, (0, 0)), all / 4);
    assert_eq!(buffer_bytes(MEMORY, 2, (2, all / 2)), all / 4, "an even share, where it is left");
    assert_eq!(buffer_bytes(MEMORY, 4, (1, all - (8 << 20))), 2 << 20, "else what is left");
    assert_eq!(buffer_bytes(MEMORY, 1, (1, all)), LEAST_BUFFER);
    assert_eq!(buffer_bytes(MEMORY, 0, (0, 0)), all, "a table without routes divides by nothing");
}
