mod edits;
mod several;

use std::{path::Path, time::Duration};

use serde_json::json;
use trestle_core::Start;

use super::*;
use crate::{
    pipeline::Placement,
    policy::{dead_letter_limit::DeadLetterLimit, order::Order, rate::Rate},
};

/// The example of the design, as it is written there.
const EXAMPLE: &str = r#"
clusters:
  main:    { type: kafka,    servers: "127.0.0.1:9092" }
  staging: { type: pulsar,   url: "pulsar://127.0.0.1:6650", admin: "http://127.0.0.1:8080" }
  billing: { type: rocketmq, namesrv: "127.0.0.1:9876;127.0.0.1:9877" }
routes:
  orders:
    from: { cluster: main, topic: orders, group: trestle-orders, start: earliest }
    via:  { cluster: staging, topic: "persistent://public/bridge/orders" }
    to:   { cluster: billing, topic: orders }
    order: partition
    retry: { initial: 100ms, max: 5s, retries: 3 }
    dead_letter: { cluster: staging, topic: "persistent://public/dlq-pulsar-bridge/orders" }
admin: { listen: "127.0.0.1:9464" }
memory: { limit: 256MiB }
"#;

const CLUSTERS: &str = r#"
clusters:
  a: { type: kafka, servers: "127.0.0.1:9092" }
  p: { type: pulsar, url: "pulsar://127.0.0.1:6650" }
  r: { type: rocketmq, namesrv: "127.0.0.1:9876" }
"#;

fn checked(text: &str) -> Checked {
    check(Path::new("table.yaml"), text, &|name| (name == "PASSWORD").then(|| "hunter2".to_owned()))
}

fn table(text: &str) -> Table {
    let checked = checked(text);
    checked.table.unwrap_or_else(|| panic!("{:#?}", checked.mistakes))
}

/// Line, column and message of each mistake in a table with [`CLUSTERS`]; the routes begin on line 1.
fn said(routes: &str) -> Vec<String> {
    let mistakes = checked(&format!("{routes}{CLUSTERS}")).mistakes;
    mistakes.iter().map(|m| format!("{}:{} {}", m.line, m.column, m.problem)).collect()
}

#[test]
fn the_example_is_taken_as_it_is_written() {
    let table = table(EXAMPLE);
    let route = &table.routes["orders"];
    let [stage, deliver] = &route.hops[..] else { panic!("{route:?}") };
    assert_eq!(
        (stage.name, stage.from.to_string().as_str(), stage.group.as_str()),
        ("stage", "main/orders", "trestle-orders")
    );
    assert_eq!((stage.fenced, stage.placement, stage.start.clone()), (true, Placement::Same, Start::Earliest));
    assert_eq!((deliver.name, deliver.fenced, deliver.placement), ("deliver", false, Placement::Key));
    assert_eq!((&deliver.from, deliver.group.as_str()), (&stage.to, "trestle-orders-deliver"));
    assert_eq!(deliver.to.cluster.protocol, "rocketmq");
    assert_eq!(table.memory, Memory { limit: 256 << 20, largest_message: 5 << 20 });
}

#[test]
fn everything_but_clusters_from_and_to_has_a_default() {
    let routes = "routes:\n  orders:\n    from: { cluster: a, topic: orders, start: latest }\n    to: { cluster: r, topic: orders }\n";
    let table = table(&format!("{routes}{CLUSTERS}"));
    let route = &table.routes["orders"];
    assert_eq!(route.hops.len(), 1);
    assert_eq!((route.hops[0].group.as_str(), route.hops[0].start.clone()), ("trestle-orders", Start::Latest));
    assert_eq!(route.dead_letter.to_string(), "p/persistent://public/dlq-pulsar-bridge/orders");
    assert_eq!(
        (route.hops[0].policies.retry.initial, route.hops[0].policies.retry.max, route.hops[0].policies.retry.retries),
        (Duration::from_millis(100), Duration::from_secs(5), 3)
    );
    assert_eq!(
        (route.hops[0].policies.send_timeout, route.hops[0].policies.revoke_timeout),
        (Duration::from_secs(3), Duration::from_secs(5))
    );
    assert_eq!(route.hops[0].policies.commit_interval, Duration::from_millis(200));
    assert_eq!((route.hops[0].policies.max_ahead.messages, route.hops[0].policies.max_ahead.bytes), (10_000, 64 << 20));
    assert_eq!((table.listen.to_string().as_str(), table.grace), ("127.0.0.1:9464", Duration::from_secs(25)));
}

#[test]
fn json_is_read_too() {
    let route = json!({ "from": { "cluster": "a", "topic": "x" }, "to": { "cluster": "p", "topic": "persistent://public/default/x" } });
    let whole = json!({
        "clusters": {
            "a": { "type": "kafka", "servers": "127.0.0.1:9092" },
            "p": { "type": "pulsar", "url": "pulsar://127.0.0.1:6650" },
        },
        "routes": { "x": route },
    });
    assert_eq!(table(&whole.to_string()).routes.len(), 1);
    assert_eq!(table(&format!("{whole:#}")).routes.len(), 1);
}

#[test]
fn the_table_that_comes_with_the_compose_files_is_right() {
    assert!(checked(include_str!("../../compose/trestle.yaml")).mistakes.is_empty());
    let token = |name: &str| (name == "TRESTLE_TOKEN").then(|| "0123456789abcdef".repeat(4));
    let demo = check(Path::new("demo.yaml"), include_str!("../../compose/demo.yaml"), &token);
    assert!(demo.mistakes.is_empty(), "{:?}", demo.mistakes);
    assert!(matches!(demo.table.unwrap().auth, Auth::Required(_)), "what the container serves is not everyone's");
}

#[test]
fn every_mistake_is_told_at_once_and_where_it_stands() {
    let text = r#"clusters:
  main:    { type: kafka, servers: "127.0.0.1:9092", serverz: x }
  staging: { type: pulsar, url: "pulsar://127.0.0.1:6650", token: "${MISSING}" }
  billing: { type: rocketmg, namesrv: "127.0.0.1:9876" }
  rocket:  { type: rocketmq }
routes:
  one:
    from: { cluster: mian, topic: orders }
    to: { cluster: staging, topic: orders }
    send_timeout: 5 parsecs
  two:
    from: { cluster: main, topic: a.b, group: shared }
    to: { cluster: rocket, topic: a.b }
    retry: { retries: three, max: 0s }
  three:
    from: { cluster: main, topic: x, group: shared }
    to: { cluster: main, topic: y }
    order: partitoin
  four:
    from: { cluster: main, topic: y }
    to: { cluster: main, topic: x }
  five:
    from: { cluster: main, topic: z }
  five: {}
  "six!": { from: { cluster: main, topic: z }, to: { cluster: main, topic: z }, stamp: 1 }
admin: { listen: nowhere }
memory: { limit: 8MiB, largest_message: 5MiB }
shutdown: { grace: 1s }
"#;
    let checked = checked(text);
    assert!(checked.table.is_none());
    let said: Vec<_> = checked.mistakes.iter().map(|m| format!("{}:{} {}", m.line, m.column, m.problem)).collect();
    let expected = [
        "2:54 unknown key `serverz`",
        "3:68 the environment variable MISSING is not set",
        "4:20 `rocketmg` is not known here",
        "5:3 `namesrv` is missing, or `proxy` where a cluster shows only its gRPC proxy",
        "8:22 there is no cluster `mian`",
        "9:36 `orders` is not a pulsar topic: write it in full: persistent://public/default/orders",
        "10:19 `5 parsecs` does not do here",
        "12:47 the group `shared` is used by route three already",
        "13:35 `a.b` is not a rocketmq topic: `.` is not allowed in it, only letters, digits and %|_-",
        "14:23 `three` does not do here",
        "14:35 0s is out of range",
        "17:33 the routes four -> three -> four feed each other in a circle",
        "18:12 `partitoin` is not known here",
        "22:3 `to` is missing",
        "24:3 `five` stands here twice: first on line 22",
        "25:3 `six!` is not a name: `!` is not allowed in it, only letters, digits and _-",
        "25:76 this is the topic of `from` as well",
        "25:88 `1` does not do here",
        "26:18 `nowhere` does not do here",
        "27:18 two messages of the largest size, 5MiB, do not fit",
        "28:20 1s is shorter than the `revoke_timeout` of route two, 5s",
    ];
    assert_eq!(said, expected);
    let nearest = |line: usize| checked.mistakes.iter().find(|m| m.line == line).and_then(|m| m.nearest.clone());
    assert_eq!([2, 4, 8, 18].map(nearest), ["servers", "rocketmq", "main", "partition"].map(|n| Some(n.to_owned())));
    assert_eq!(checked.mistakes[0].text, text.lines().nth(1).unwrap());
}

#[test]
fn mistakes_before_an_error_of_syntax_are_told_with_it() {
    let text = "clusters:\n  main: { type: kafka, server: x }\nroutes:\n  a:\n    order: parts\n   b: 1\n";
    let places: Vec<_> = checked(text).mistakes.iter().map(|m| (m.line, m.column)).collect();
    assert_eq!(&places[..3], [(2, 3), (2, 24), (5, 12)], "and nothing is said to be missing in the broken route");
    assert_eq!(places.len(), 4);
    assert!(places[3].0 >= 5);
}

/// The table a newcomer might write.
#[test]
fn twelve_mistakes_are_told_at_once_with_what_was_meant() {
    let text = r#"clusters:
  main: { type: kafka, servers: "127.0.0.1" }
  staging: { type: pulsr, url: "pulsar://127.0.0.1:6650" }
  queue: { type: rocketmq, namesrv: "127.0.0.1:9876" }
  spare: { type: pulsar }
routes:
  a:
    from: { cluster: mian, topic: a, group: shared }
    to: { cluster: queue, topic: a/b }
    send_timeout: 3 seconds long
  b:
    from: { cluster: main, topic: one, group: shared }
    via: { cluster: queue, topic: staged }
    to: { cluster: main, topic: two }
    retries: 3
  c:
    from: { cluster: main, topic: two, group: shared }
    to: { cluster: main, topic: one }
    max_ahead: { messages: many }
  d: { from: { cluster: main, topic: x }, to: { cluster: queue, topic: x ]
  e:
    from: { cluster: main, topic: y }
  f:
    from: { cluster: main, topic: z }
    to: { cluster: queue, topic: f }
    to: { cluster: queue, topic: g }
memory: { limit: 256 mebibytes }
"#;
    let said: Vec<_> =
        checked(text).mistakes.iter().map(|m| format!("{}:{} {}", m.line, m.column, m.problem)).collect();
    let expected = [
        "2:33 `servers`: `127.0.0.1` is not host:port; several are separated by commas",
        "3:20 `pulsr` is not known here",
        "5:3 `url` is missing",
        "8:22 there is no cluster `mian`",
        "9:34 `a/b` is not a rocketmq topic: `/` is not allowed in it, only letters, digits and %|_-",
        "10:19 `3 seconds long` does not do here",
        "13:21 rocketmq cannot stage messages",
        "15:5 unknown key `retries`",
        "17:47 the group `shared` is used by route b already",
        "18:33 the routes b -> c -> b feed each other in a circle",
        "19:28 `many` does not do here",
        "20:74 this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'",
        "21:3 `to` is missing",
        "26:5 `to` stands here twice: first on line 25",
        "27:18 `256 mebibytes` does not do here",
    ];
    assert_eq!(said, expected);
}

#[test]
fn routes_that_feed_each_other_are_refused_however_long_the_way() {
    let hop = |name: &str, from: &str, to: &str| {
        format!("  {name}: {{ from: {{ cluster: a, topic: {from} }}, to: {{ cluster: a, topic: {to} }} }}\n")
    };
    let circle = format!("routes:\n{}{}{}", hop("x", "one", "two"), hop("y", "two", "three"), hop("z", "three", "one"));
    assert_eq!(said(&circle), ["4:69 the routes x -> y -> z -> x feed each other in a circle"]);
    let fan = format!("routes:\n{}{}{}", hop("x", "one", "two"), hop("y", "one", "three"), hop("z", "two", "three"));
    assert_eq!(said(&fan), ["4:67 route y writes this topic as well"]);
    let staged = "routes:
  x: { from: { cluster: a, topic: t }, via: { cluster: p, topic: \"persistent://a/b/c\" }, to: { cluster: r, topic: t } }
  y: { from: { cluster: p, topic: \"persistent://a/b/c\" }, to: { cluster: a, topic: t } }
";
    assert_eq!(said(staged).len(), 1, "{:?}", said(staged));
    let dead = "routes:
  x: { from: { cluster: a, topic: t }, to: { cluster: r, topic: t } }
  y: { from: { cluster: p, topic: \"persistent://public/dlq-pulsar-bridge/x\" }, to: { cluster: a, topic: t } }
";
    assert_eq!(said(dead), ["3:105 the routes x -> y -> x feed each other in a circle"]);
}

#[test]
fn a_staging_topic_belongs_to_one_route() {
    let route = |name: &str, cluster: &str, topic: &str, to: &str| {
        format!(
            "  {name}:\n    from: {{ cluster: a, topic: {name} }}\n    via: {{ cluster: {cluster}, topic: {topic} }}\n    to: {to}\n"
        )
    };
    let staged = route("x", "p", "persistent://a/b/c", "{ cluster: r, topic: x }");
    let both = format!("routes:\n{staged}{}", route("y", "p", "persistent://a/b/c", "{ cluster: r, topic: y }"));
    assert_eq!(said(&both), ["8:31 route x writes this topic as its `via`"]);
    let over = format!("routes:\n{staged}{}", route("y", "r", "staged", "{ cluster: a, topic: z }"));
    assert_eq!(said(&over), ["8:21 rocketmq cannot stage messages"]);
}

#[test]
fn dead_letters_have_a_place_that_is_no_topic_of_the_route() {
    let route = |dead: &str| {
        format!("routes:\n  x:\n    from: {{ cluster: a, topic: t }}\n    to: {{ cluster: r, topic: t }}\n{dead}")
    };
    assert_eq!(
        said(&route("    dead_letter: { cluster: a, topic: t }\n")),
        ["5:39 the dead letters of route x would go to the topic of its `from`"]
    );
    let missing = "5:5 `topic` is missing: kafka has no place for dead letters by itself";
    assert_eq!(said(&route("    dead_letter: { cluster: a }\n")), [missing]);
    let kafka = "clusters: { a: { type: kafka, servers: x:1 } }\nroutes:\n  x: { from: { cluster: a, topic: t }, to: { cluster: a, topic: u } }\n";
    let mistakes = checked(kafka).mistakes;
    assert_eq!((mistakes.len(), mistakes[0].problem.as_str()), (1, "its dead letters have no place"));
}

#[test]
fn an_order_and_how_much_may_wait_apart_are_the_routes_or_the_default() {
    let table = |rest: &str| {
        let route = "routes:\n  x:\n    from: { cluster: a, topic: t }\n    to: { cluster: a, topic: u }\n";
        let set_aside =
            checked(&format!("{route}    {rest}\n{CLUSTERS}")).table.unwrap().routes["x"].hops[0].policies.set_aside;
        (set_aside.order, set_aside.most)
    };
    assert_eq!(table("stamp: false"), (Order::Partition, 1_000));
    assert_eq!(table("order: key"), (Order::Key, 1_000));
    assert_eq!(table("order: none\n    set_aside: 7\ndefaults: { set_aside: 3 }"), (Order::None, 7));
    assert_eq!(table("order: key\ndefaults: { set_aside: 3 }"), (Order::Key, 3));
}

#[test]
fn what_hangs_is_told_from_what_is_slow() {
    let table = |rest: &str| {
        let route = "routes:\n  x:\n    from: { cluster: a, topic: t }\n    to: { cluster: a, topic: u }\n";
        checked(&format!("{route}    {rest}\n{CLUSTERS}"))
    };
    let hung_after = |rest: &str| table(rest).table.unwrap().routes["x"].hops[0].policies.hung_after.as_secs();
    assert_eq!(hung_after("stamp: false"), 60);
    assert_eq!(hung_after("revoke_timeout: 2m\n    send_timeout: 50s\nshutdown: { grace: 5m }"), 100);
    assert_eq!(hung_after("hung_after: 10s"), 10);
    let mistakes = table("hung_after: 5s").mistakes;
    assert_eq!((mistakes.len(), mistakes[0].line, mistakes[0].expected.as_deref()), (1, 5, Some("at least 6s")));
}

#[test]
fn topics_that_a_cluster_cannot_have_together_are_refused() {
    let routes = "routes:\n  x: { from: { cluster: a, topic: a.b }, to: { cluster: a, topic: a_b } }\n";
    assert_eq!(said(routes), ["2:67 `a_b` and `a.b` cannot both exist on one cluster"]);
}

#[test]
fn a_setting_that_its_connector_refuses_is_pointed_at() {
    let text = "clusters:\n  a:\n    type: kafka\n    servers: x:1\n    options:\n      group.id: y\nroutes: {}\n";
    let mistakes = checked(text).mistakes;
    assert_eq!((mistakes.len(), mistakes[0].line, mistakes[0].column), (1, 6, 17), "{mistakes:?}");
    assert_eq!(mistakes[0].path, "/clusters/a/options/group.id");
}

#[test]
fn options_of_clusters_and_topics_are_checked_by_the_connectors_that_know_them() {
    let text = "clusters:
  a:
    type: kafka
    servers: x:1
    options: { security.protocl: ssl, linger.ms: soon, group.id: y, compression.type: zstd }
  p: { type: pulsar, url: \"pulsar://127.0.0.1:6650\" }
  r: { type: rocketmq, namesrv: \"x:1\", options: { rebalanceIntervall: 1000 } }
routes:
  x:
    from: { cluster: a, topic: t, options: { fetch.min.byts: 1, session.timeout.ms: 6000 } }
    via:
      cluster: p
      topic: persistent://public/default/t
      options: { receiverQueueSize: 10, compressionType: LZ4, compresionType: x }
    to: { cluster: r, topic: t, options: { trestleId: maybe } }
  y:
    from: { cluster: p, topic: \"persistent://a/b/c\", options: { receiverQueueSize: 0 } }
    to: { cluster: p, topic: \"persistent://a/b/d\", options: { compressionType: GZIP } }
";
    let mistakes = checked(text).mistakes;
    let said: Vec<_> = mistakes
        .iter()
        .map(|m| format!("{}:{} {} -> {}", m.line, m.column, m.path, m.nearest.as_deref().unwrap_or("-")))
        .collect();
    let expected = [
        "5:16 /clusters/a/options/security.protocl -> security.protocol",
        "5:50 /clusters/a/options/linger.ms -> -",
        "5:66 /clusters/a/options/group.id -> -",
        "7:51 /clusters/r/options/rebalanceIntervall -> rebalanceInterval",
        "10:46 /routes/x/from/options/fetch.min.byts -> fetch.min.bytes",
        "14:63 /routes/x/via/options/compresionType -> compressionType",
        "15:55 /routes/x/to/options/trestleId -> -",
        "17:84 /routes/y/from/options/receiverQueueSize -> -",
        "18:80 /routes/y/to/options/compressionType -> -",
    ];
    assert_eq!(said, expected, "{mistakes:#?}");
}

#[test]
fn each_side_of_a_staging_topic_gets_the_options_that_are_its_own() {
    let table = table(&format!(
        "{CLUSTERS}routes:\n  x:\n    from: {{ cluster: a, topic: t }}\n    via: {{ cluster: p, topic: \"persistent://a/b/c\", options: {{ receiverQueueSize: 10, compressionType: LZ4 }} }}\n    to: {{ cluster: r, topic: t }}\n"
    ));
    let [stage, deliver] = &table.routes["x"].hops[..] else { panic!() };
    assert_eq!(stage.to.options.keys().collect::<Vec<_>>(), ["compressionType"]);
    assert_eq!(deliver.from.options.keys().collect::<Vec<_>>(), ["receiverQueueSize"]);
}

#[test]
fn no_mistake_shows_a_secret() {
    let text = "clusters:
  p: { type: pulsar, url: \"${PASSWORD}\", token: hunter3, tls: { insecure_hostname: \"${PASSWORD}\" } }
routes: { x: { from: { cluster: \"${PASSWORD}\", topic: x }, to: \"${PASSWORD}\" } }
";
    let told = format!("{:?}", checked(text).mistakes);
    assert!(told.contains("${PASSWORD}") && !told.contains("hunter"), "{told}");
    let text = "clusters:\n  a: { type: kafka, servers: x:1, options: { sasl.password: hunter3, group.id: x } }\n  broken: [ hunter: } \n";
    assert!(!format!("{:?}", checked(text).mistakes).contains("hunter3"));
    let table = table(&format!(
        "{CLUSTERS}routes:\n  x: {{ from: {{ cluster: a, topic: x }}, to: {{ cluster: a, topic: y }} }}\n"
    ));
    assert!(!format!("{table:?}").contains("127.0.0.1:9092"), "settings stay out of the log");
}

/// Half of them one chain, each reading what the one before it wrote; half staged, with options.
fn ten_thousand_routes() -> String {
    let mut text = format!("{CLUSTERS}routes:\n");
    for n in 0..5_000 {
        let next = n + 1;
        text += &format!(
            "  c{n}:\n    from: {{ cluster: a, topic: c{n} }}\n    to: {{ cluster: a, topic: c{next} }}\n\
             \x20 r{n}:\n    from: {{ cluster: a, topic: t{n}, options: {{ session.timeout.ms: 6000 }} }}\n    \
             via: {{ cluster: p, topic: \"persistent://public/bridge/t{n}\" }}\n    to: {{ cluster: r, topic: t{n} }}\n"
        );
    }
    text
}

#[test]
fn a_chain_of_five_thousand_routes_is_no_circle_until_it_is_closed() {
    let open = ten_thousand_routes();
    assert_eq!(checked(&open).mistakes, []);
    let closed = open.replace("topic: c5000 }", "topic: c0 }");
    let mistakes = checked(&closed).mistakes;
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes[0].problem.contains("feed each other in a circle") && mistakes[0].problem.len() < 200);
}

#[test]
fn ten_thousand_routes_are_checked_quickly() {
    let text = ten_thousand_routes();
    if let Some(file) = std::env::var_os("TRESTLE_WRITE_TABLE") {
        std::fs::write(file, &text).unwrap();
    }
    let started = std::time::Instant::now();
    assert_eq!(table(&text).routes.len(), 10_000);
    let right = started.elapsed();
    // Each with a mistake.
    let wrong = text.replace("to: { cluster", "to: { clustr");
    let started = std::time::Instant::now();
    assert!(checked(&wrong).mistakes.len() >= 10_000);
    println!("right: {right:?}, wrong: {:?}", started.elapsed());
    // A build without optimisation on a busy machine; a release takes a fraction.
    assert!(right < Duration::from_secs(10) && started.elapsed() < Duration::from_secs(20));
}

/// Bytes at random, and the example with bytes at random changed, left out and doubled.
#[test]
fn whatever_the_bytes_the_parser_answers() {
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    let rounds = std::env::var("TRESTLE_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let mut random = SmallRng::seed_from_u64(7);
    let alphabet: Vec<char> = "abc{}[]:,-&*!|>'\"%@`#?~ \n\t\r\0$0x.\u{feff}ö\u{2028}\\".chars().collect();
    for _ in 0..rounds {
        let length = random.random_range(0..200);
        let noise: String = (0..length).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect();
        checked(&noise);
        let mut changed: Vec<char> = EXAMPLE.chars().collect();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..changed.len());
            match random.random_range(0..3) {
                0 => changed[at] = alphabet[random.random_range(0..alphabet.len())],
                1 => drop(changed.remove(at)),
                _ => changed.insert(at, alphabet[random.random_range(0..alphabet.len())]),
            }
        }
        checked(&changed.into_iter().collect::<String>());
    }
}

#[test]
fn policies_hold_for_all_routes_unless_one_says_otherwise() {
    let routes = r#"defaults:
  retry: { multiplier: 3, jitter: 0, retries: 7 }
  gate: { failures: 9, max: 8s }
  rate: { messages: 1000, bytes: 1MiB }
  send_timeout: 4s
  dead_letter: { most: 10, within: 2m }
routes:
  plain:
    from: { cluster: a, topic: x }
    to: { cluster: r, topic: y }
  own:
    from: { cluster: a, topic: v }
    to: { cluster: r, topic: w }
    retry: { retries: 1, multiplier: 1.5 }
    gate: { max: 9s, probe: 1s }
    rate: { messages: off }
    send_timeout: 2s
    dead_letter: { most: off, topic: "persistent://public/default/letters" }
"#;
    let table = table(&format!("{routes}{CLUSTERS}"));
    let (plain, own) = (&table.routes["plain"], &table.routes["own"]);
    assert_eq!(
        (
            plain.hops[0].policies.retry.multiplier,
            plain.hops[0].policies.retry.jitter,
            plain.hops[0].policies.retry.retries
        ),
        (3.0, 0.0, 7)
    );
    assert_eq!(
        (own.hops[0].policies.retry.multiplier, own.hops[0].policies.retry.jitter, own.hops[0].policies.retry.retries),
        (1.5, 0.0, 1)
    );
    let seconds = Duration::from_secs;
    assert_eq!(
        (plain.hops[0].policies.gate.failures, plain.hops[0].policies.gate.max, plain.hops[0].policies.gate.probe),
        (9, seconds(8), seconds(4))
    );
    assert_eq!(
        (own.hops[0].policies.gate.failures, own.hops[0].policies.gate.max, own.hops[0].policies.gate.probe),
        (9, seconds(9), seconds(1))
    );
    assert_eq!(plain.hops[0].policies.rate, Rate { messages: Some(1000), bytes: Some(1 << 20) });
    assert_eq!(own.hops[0].policies.rate, Rate { messages: None, bytes: Some(1 << 20) });
    assert_eq!((plain.hops[0].policies.send_timeout, own.hops[0].policies.send_timeout), (seconds(4), seconds(2)));
    assert_eq!(plain.dead_letter_limit, Some(DeadLetterLimit { most: 10, within: seconds(120) }));
    assert_eq!(own.dead_letter_limit, None);
    assert_eq!(own.dead_letter.to_string(), "p/persistent://public/default/letters");
}

#[test]
fn a_hop_may_have_policies_of_its_own() {
    let routes = r#"defaults:
  retry: { retries: 7 }
  rate: { messages: 1000 }
routes:
  x:
    from: { cluster: a, topic: x }
    via: { cluster: p, topic: "persistent://public/default/x" }
    to: { cluster: r, topic: y }
    retry: { max: 1s }
    send_timeout: 2s
    hops:
      stage: { rate: { bytes: 1MiB }, max_ahead: { messages: 5 } }
      deliver: { retry: { retries: 1 }, order: key, send_timeout: 4s, hung_after: 9s }
"#;
    let of = |text: &str| table(&format!("{text}{CLUSTERS}")).routes["x"].hops.clone();
    let hops = of(routes);
    let [stage, deliver] = [&hops[0].policies, &hops[1].policies];
    let seconds = Duration::from_secs;
    assert_eq!((stage.retry.retries, stage.retry.max, stage.send_timeout), (7, seconds(1), seconds(2)));
    assert_eq!((deliver.retry.retries, deliver.retry.max, deliver.send_timeout), (1, seconds(1), seconds(4)));
    assert_eq!((stage.rate, deliver.rate.bytes), (Rate { messages: Some(1000), bytes: Some(1 << 20) }, None));
    assert_eq!((stage.max_ahead.messages, deliver.max_ahead.messages), (5, 10_000));
    assert_eq!((stage.set_aside.order, deliver.set_aside.order), (Order::Partition, Order::Key));
    assert_eq!((stage.hung_after, deliver.hung_after), (seconds(60), seconds(9)));

    let wrong = routes.replace("hung_after: 9s", "hung_after: 7s").replace("max: 1s", "max: 9h");
    let expected =
        ["9:19 9h is out of range", "13:83 a send may take 4s, the `send_timeout`, without anything being wrong"];
    assert_eq!(said(&wrong), expected, "what both hops have from their route is said once");
    let via = "    via: { cluster: p, topic: \"persistent://public/default/x\" }\n";
    assert_eq!(said(&routes.replace(via, "")), ["11:7 the route has no `via`, and so no such hop"]);
}

#[test]
fn without_a_word_policies_are_these() {
    let routes = "routes:\n  x:\n    from: { cluster: a, topic: x }\n    to: { cluster: r, topic: y }\n";
    let table = table(&format!("{routes}{CLUSTERS}"));
    let route = &table.routes["x"];
    assert_eq!((route.hops[0].policies.retry.multiplier, route.hops[0].policies.retry.jitter), (2.0, 0.25));
    let millis = Duration::from_millis;
    let gate = (
        route.hops[0].policies.gate.failures,
        route.hops[0].policies.gate.initial,
        route.hops[0].policies.gate.max,
        route.hops[0].policies.gate.probe,
    );
    assert_eq!(gate, (5, millis(100), millis(5_000), millis(3_000)));
    assert_eq!((route.hops[0].policies.rate, table.clusters["r"].rate), (Rate::default(), Rate::default()));
    assert_eq!(route.dead_letter_limit, Some(DeadLetterLimit { most: 1_000, within: Duration::from_secs(60) }));
}

#[test]
fn a_cluster_has_a_rate_of_its_own() {
    let text = r#"clusters:
  a: { type: kafka, servers: "127.0.0.1:9092", rate: { messages: 500 } }
  p: { type: pulsar, url: "pulsar://127.0.0.1:6650", rate: { bytes: 2MiB } }
routes:
  x: { from: { cluster: a, topic: x }, to: { cluster: p, topic: "persistent://public/default/y" } }
"#;
    let table = table(text);
    assert_eq!(table.clusters["a"].rate, Rate { messages: Some(500), bytes: None });
    assert_eq!(table.clusters["p"].rate, Rate { messages: None, bytes: Some(2 << 20) });
    let said = checked(&text.replace("500", "0").replace("2MiB", "2 parsecs")).mistakes;
    let said: Vec<_> = said.iter().map(|m| format!("{}:{} {}", m.line, m.column, m.problem)).collect();
    assert_eq!(said, ["2:66 0 is out of range", "3:69 `2 parsecs` does not do here"]);
}

#[test]
fn a_mistake_in_a_policy_is_told_where_it_is_written() {
    let routes = r#"defaults:
  retry: { initial: 9s, jitter: 2 }
  gate: { failures: 0 }
  rate: { messages: on }
  dead_letter: { cluster: p, most: 1000000 }
  send_timeouts: 1s
routes:
  one: { from: { cluster: a, topic: x }, to: { cluster: r, topic: y } }
  two:
    from: { cluster: a, topic: v }
    to: { cluster: r, topic: w }
    retry: { max: 1s, multiplier: 0.5 }
    gate: { probe: 1h }
    rate: { bytes: 1 }
    dead_letter: { within: 1ms }
"#;
    let expected = [
        // One route's `max` is its own, and the other's is nobody's.
        "2:21 the first delay is longer than the longest, 5s",
        "2:33 `2` does not do here",
        "3:21 `0` does not do here",
        "4:21 `on` does not do here",
        "5:18 unknown key `cluster`",
        "5:36 1000000 is out of range",
        "6:3 unknown key `send_timeouts`",
        "12:19 the longest delay is shorter than the first, 9s",
        "12:35 `0.5` does not do here",
        "13:20 1h is out of range",
        "14:20 1 is out of range",
        "15:28 1ms is out of range",
    ];
    assert_eq!(said(routes), expected);
}

#[test]
fn what_is_in_flight_at_a_revoke_must_fit_into_what_the_group_waits() {
    let table = |cluster: &str, topic: &str, timeouts: &str| {
        format!(
            "clusters:\n  a: {{ type: kafka, servers: \"127.0.0.1:9092\"{cluster} }}\n  p: {{ type: pulsar, url: \"pulsar://127.0.0.1:6650\" }}\nroutes:\n  x:\n    from: {{ cluster: a, topic: x{topic} }}\n    to: {{ cluster: a, topic: y }}\n{timeouts}"
        )
    };
    let said = |cluster, topic, timeouts| {
        let mistakes = checked(&table(cluster, topic, timeouts)).mistakes;
        mistakes.iter().map(|m| (m.severity, m.line, m.problem.clone())).collect::<Vec<_>>()
    };
    let window = ", options: { max.poll.interval.ms: 8000 }";
    let wide = ", options: { max.poll.interval.ms: 600000 }";
    for (cluster, topic) in [(window, ""), ("", window), (wide, window)] {
        let said = said(cluster, topic, "");
        let [(Severity::Error, 5, problem)] = &said[..] else { panic!("{said:?}") };
        assert!(problem.contains("`max.poll.interval.ms`") && problem.contains("8s"), "{problem}");
    }
    assert_eq!(said(window, wide, ""), []);
    assert_eq!(said(window, "", "    revoke_timeout: 4s\n"), []);
    let said = said("", "", "    send_timeout: 20s\n");
    assert!(matches!(&said[..], [(Severity::Warning, 8, problem)] if problem.contains("comes twice")), "{said:?}");
}
