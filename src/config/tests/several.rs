//! Routes of several topics, and topics named after others.

use std::collections::BTreeMap;

use trestle_core::PartitionId;

use super::*;

fn routes(text: &str) -> Table {
    table(&format!("routes:\n{text}{CLUSTERS}"))
}

/// What the table comes to once the pattern of route `x` matched these topics, and what was said.
fn found(text: &str, topics: &[&str]) -> (Table, Vec<String>) {
    let when = |topic: &&str| ((*topic).to_owned(), if topic.ends_with("late") { When::Later } else { When::First });
    let found = Found::from([("x".to_owned(), topics.iter().map(when).collect())]);
    let checked = check_with(Path::new("table.yaml"), &format!("routes:\n{text}{CLUSTERS}"), &|_| None, &found);
    let said = checked.mistakes.iter().map(|mistake| mistake.problem.clone()).collect();
    (checked.table.unwrap_or_else(|| panic!("{said:?}")), said)
}

/// `name: source group -> target group, ...` of each hop, and the dead letters.
fn shown(table: &Table) -> Vec<String> {
    let hop = |hop: &Hop| format!("{} {} -> {}", hop.from, hop.group, hop.to);
    let all = |route: &Route| route.hops.iter().map(hop).collect::<Vec<_>>().join(", ");
    table.routes.values().map(|route| format!("{}: {}; {}", route.name, all(route), route.dead_letter)).collect()
}

#[test]
fn each_topic_of_a_list_has_a_route_a_group_and_a_staging_topic_of_its_own() {
    let table = routes(
        "  x:
    from: { cluster: a, topics: [b.c, a] }
    via: { cluster: p, topic: \"persistent://t/n/staged-{topic}\" }
    to: { cluster: r, topic: \"copy-{topic}\" }
",
    );
    let expected = [
        "x:a: a/a trestle-x-a -> p/persistent://t/n/staged-a, p/persistent://t/n/staged-a trestle-x-deliver-a -> r/copy-a; \
         p/persistent://public/dlq-pulsar-bridge/x",
        "x:b.c: a/b.c trestle-x-b.c -> p/persistent://t/n/staged-b.c, p/persistent://t/n/staged-b.c trestle-x-deliver-b.c -> \
         r/copy-b_c; p/persistent://public/dlq-pulsar-bridge/x",
    ];
    assert_eq!(shown(&table), expected);
}

#[test]
fn one_topic_may_name_its_target_too_and_several_may_have_one_target() {
    let one = routes("  x: { from: { cluster: a, topic: a.b }, to: { cluster: r, topic: \"{topic}-copy\" } }\n");
    assert_eq!(one.routes["x"].hops[0].to.topic, "a_b-copy");
    assert_eq!(one.routes["x"].hops[0].group, "trestle-x");
    let several = checked(&format!(
        "routes:\n  x: {{ from: {{ cluster: a, topics: [a, b] }}, to: {{ cluster: r, topic: all }} }}\n{CLUSTERS}"
    ));
    assert!(several.mistakes.is_empty(), "{:?}", several.mistakes);
    assert_eq!(several.table.unwrap().routes.len(), 2);
}

#[test]
fn names_that_collide_are_told() {
    let route =
        |from: &str, to: &str| format!("routes:\n  x: {{ from: {{ {from} }}, to: {{ cluster: r, topic: {to} }} }}\n");
    let alike = "cluster: p, topics: [\"persistent://a/b/t.1\", \"persistent://a/b/t-1\", \"persistent://a/b/t:1\"]";
    assert_eq!(
        said(&route(alike, "\"{topic}\""))[0],
        "2:137 `persistent://a/b/t.1` and `persistent://a/b/t:1` would both become `t_1`"
    );
    assert_eq!(
        said(&route("cluster: a, topics: [a, b], group: g", "all")),
        ["2:51 the group `g` is used by route x:a already"]
    );
    let pulsar = "cluster: p, topics: [\"persistent://a/b/t\", \"persistent://a/c/t\"]";
    assert_eq!(
        said(&route(pulsar, "all")),
        ["2:28 `persistent://a/b/t` and `persistent://a/c/t` would both be the route x:t"]
    );
}

#[test]
fn a_route_names_its_topics_in_one_way() {
    let route =
        |from: &str| format!("routes:\n  x: {{ from: {{ cluster: a{from} }}, to: {{ cluster: r, topic: t }} }}\n");
    assert_eq!(said(&route("")), ["2:8 `topic` is missing"]);
    assert_eq!(said(&route(", topic: t, pattern: t")), ["2:8 it names its topics in several ways"]);
    assert_eq!(said(&route(", topics: [t, t]")), ["2:28 `t` is there twice"]);
    assert_eq!(said(&route(", pattern: \"(\"")), ["2:37 this is no regular expression: unclosed group"]);
    assert_eq!(said(&route(", pattern: t, look_every: 1ms")), ["2:52 1ms is out of range"]);
    let braces = "routes:\n  x: { from: { cluster: a, topic: t }, to: { cluster: r, topic: \"{tpoic}\" } }\n";
    assert_eq!(said(braces), ["2:65 `{tpoic}` stands for nothing"]);
}

#[test]
fn a_pattern_has_no_route_until_topics_are_found_and_the_rest_of_it_is_checked() {
    let pattern = "  x: { from: { cluster: a, pattern: \"orders.*\" }, to: { cluster: r, topic: \"{topic}\" } }\n";
    let table = routes(pattern);
    assert_eq!((table.routes.len(), table.patterns.len()), (0, 1));
    let matches = |name: &str| table.patterns[0].expression.is_match(name);
    assert!(matches("orders-1") && !matches("my-orders"), "a name is matched as a whole");
    assert_eq!(
        said(&format!("routes:\n{}", pattern.replace("\"{topic}\"", "a.b"))).len(),
        1,
        "the target's name is wrong"
    );
    let (table, said) = found(pattern, &["orders-1", "orders.2", "other"]);
    assert_eq!(table.routes.keys().collect::<Vec<_>>(), ["x:orders-1", "x:orders.2"]);
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_topic_that_came_later_is_carried_from_its_beginning() {
    let text =
        "  x: { from: { cluster: a, pattern: \".*\", start: latest }, to: { cluster: r, topic: \"{topic}\" } }\n";
    let (table, _) = found(text, &["early", "late"]);
    let start = |name: &str| table.routes[name].hops[0].start.clone();
    assert_eq!((start("x:early"), start("x:late")), (Start::Latest, Start::Earliest));
}

#[test]
fn what_is_found_never_undoes_what_runs() {
    let text = "  x: { from: { cluster: a, pattern: \".*\" }, to: { cluster: a, topic: \"copy-{topic}\" } }
  y: { from: { cluster: r, topic: t }, to: { cluster: a, topic: back } }
  z: { from: { cluster: a, topic: there }, to: { cluster: r, topic: t } }
";
    // Of a topic that is a copy or written by another route there is no copy, nor of one that would close a circle.
    let (table, said) = found(text, &["one", "copy-one", "back", "there"]);
    assert_eq!(table.routes.keys().collect::<Vec<_>>(), ["x:one", "x:there", "y", "z"]);
    assert!(said.is_empty(), "{said:?}");
    let text = "  x: { from: { cluster: a, pattern: \".*\" }, to: { cluster: r, topic: \"{topic}\" } }
  y: { from: { cluster: r, topic: one }, to: { cluster: p, topic: \"persistent://a/b/c\" } }
  z: { from: { cluster: p, topic: \"persistent://a/b/c\" }, to: { cluster: a, topic: two } }
  w: { from: { cluster: a, topic: two }, to: { cluster: a, topic: one } }
";
    let (table, said) = found(text, &["a.b", "a_b", "x"]);
    assert_eq!(table.routes.keys().collect::<Vec<_>>(), ["w", "x:a.b", "x:x", "y", "z"]);
    assert_eq!(said, ["the topic a_b is matched and not carried: a.b and a_b would both become a_b"]);
}

#[test]
fn a_source_that_several_read_at_once_is_not_staged() {
    let route = |more: &str| {
        let from = "cluster: p, topic: \"persistent://a/b/c\", options: { subscriptionType: Shared }";
        said(&format!("routes:\n  x: {{ from: {{ {from} }}, to: {{ cluster: r, topic: t }}{more} }}\n"))
    };
    assert!(route("").is_empty());
    let staged = route(", via: { cluster: p, topic: \"persistent://a/b/d\" }");
    assert!(staged.len() == 1 && staged[0].contains("one writer for each"), "{staged:?}");
}

#[cfg(feature = "rocketmq-proxy")]
#[test]
fn a_source_behind_a_grpc_proxy_is_not_staged_and_begins_where_its_group_is() {
    let said = |from: &str, more: &str| {
        let clusters = "clusters:\n  g: { type: rocketmq, proxy: \"h:8081\" }\n  p: { type: pulsar, url: \"pulsar://h:1\", admin: \"http://h:2\" }\n";
        let routes = format!(
            "routes:\n  x: {{ from: {{ cluster: g, topic: t{from} }}, to: {{ cluster: p, topic: \"persistent://a/b/c\" }}{more} }}\n"
        );
        checked(&format!("{clusters}{routes}")).mistakes.into_iter().map(|mistake| mistake.problem).collect::<Vec<_>>()
    };
    assert!(said("", "").is_empty() && said(", start: earliest", "").is_empty());
    for start in [", start: latest", ", start: 2026-01-31", ", start_offsets: { 0: 1 }"] {
        let wrong = said(start, "");
        assert!(wrong.len() == 1 && wrong[0].contains("where the group is"), "{start}: {wrong:?}");
    }
    let staged = said("", ", via: { cluster: p, topic: \"persistent://a/b/d\" }");
    assert!(staged.len() == 1 && staged[0].contains("one writer for each"), "{staged:?}");
}

#[test]
fn a_route_begins_where_it_says() {
    let start = |from: &str| {
        let text = format!("  x: {{ from: {{ cluster: a, topic: t, {from} }}, to: {{ cluster: r, topic: t }} }}\n");
        routes(&text).routes["x"].hops[0].start.clone()
    };
    assert_eq!(start("start: latest"), Start::Latest);
    assert_eq!(start("start: \"2026-01-31T12:00:00Z\""), Start::Time(1_769_860_800_000));
    assert_eq!(start("start: 2026-01-31"), Start::Time(1_769_817_600_000));
    assert_eq!(
        start("start_offsets: { 0: 7, 3: 0 }"),
        Start::Offsets(BTreeMap::from([(PartitionId(0), 7), (PartitionId(3), 0)]))
    );
    let wrong = |from: &str| said(&format!("routes:\n  x: {{ from: {{ {from} }}, to: {{ cluster: r, topic: t }} }}\n"));
    assert_eq!(wrong("cluster: a, topic: t, start: tomorrow"), ["2:45 `tomorrow` is not known here"]);
    assert_eq!(wrong("cluster: a, topic: t, start_offsets: { a: 1 }"), ["2:38 `a` is not the number of a partition"]);
    assert_eq!(
        wrong("cluster: p, topic: \"persistent://a/b/c\", start_offsets: { 0: 1 }"),
        ["2:57 the positions of pulsar are no numbers"]
    );
}
