//! What a route does to messages: transforms, and the stamp that stops a circle.

use super::*;
use crate::policy::{
    stamp::Stamp,
    transform::{Is, Of, Test, Transform},
};

fn with(route: &str) -> String {
    format!("routes:\n  x:\n    from: {{ cluster: a, topic: t }}\n    to: {{ cluster: r, topic: u }}\n    {route}\n")
}

#[test]
fn the_steps_of_a_transform_are_those_of_the_first_hop() {
    let steps = r#"transform:
      - keep: { header: type, equals: order }
      - drop: { key: true, prefix: test- }
      - set: { header: from, value: main }
      - rename: { header: a, to: b }
      - remove: c
      - rekey: customer
    via: { cluster: p, topic: "persistent://a/b/c" }"#;
    let hops = &table(&format!("{}{CLUSTERS}", with(steps))).routes["x"].hops;
    let expected = [
        Transform::Keep(Test { of: Of::Header("type".into()), is: Is::Equal("order".into()) }),
        Transform::Drop(Test { of: Of::Key, is: Is::Prefixed("test-".into()) }),
        Transform::Set { header: "from".into(), value: "main".into() },
        Transform::Rename { header: "a".into(), to: "b".into() },
        Transform::Remove { header: "c".into() },
        Transform::Rekey { header: "customer".into() },
    ];
    assert_eq!(hops[0].edits.transforms, expected);
    assert_eq!(hops[1].edits, Default::default(), "what is staged is changed already");
}

#[test]
fn a_step_says_one_thing_and_asks_one_question() {
    let step = |step: &str| said(&with(&format!("transform: [{step}]")));
    assert_eq!(step("{ remove: a, rekey: b }"), ["5:17 this step says remove and rekey, and their order is not clear"]);
    assert_eq!(step("{ remove: a }, {}"), ["5:32 this step does nothing"]);
    assert_eq!(step("{ keep: { equals: a } }"), ["5:19 it does not say what it asks for"]);
    assert_eq!(step("{ keep: { header: a, key: true } }"), ["5:19 it asks for a header and for the key"]);
    assert_eq!(step("{ drop: { key: true, equals: a, prefix: b } }"), ["5:19 it asks in several ways at once"]);
    assert_eq!(
        step("{ drop: { key: true, regex: \"[\" } }"),
        ["5:45 this is no regular expression: unclosed character class"]
    );
    assert_eq!(step("{ drpo: { key: true } }"), ["5:17 this step does nothing", "5:19 unknown key `drpo`"]);
}

#[test]
fn a_circle_whose_routes_all_stamp_is_stopped_by_their_stamps() {
    let route = |name: &str, from: &str, to: &str, stamp: &str| {
        format!("  {name}: {{ from: {{ cluster: {from}, topic: t }}, to: {{ cluster: {to}, topic: t }}{stamp} }}\n")
    };
    let circle = |second: &str| {
        let text =
            format!("routes:\n{}{}{CLUSTERS}", route("x", "a", "r", ", stamp: true"), route("y", "r", "a", second));
        checked(&text)
    };
    let one = circle("");
    assert!(
        one.table.is_none() && one.mistakes[0].expected.as_ref().unwrap().contains("`stamp: true`"),
        "{:?}",
        one.mistakes
    );
    let both = circle(", stamp: true");
    assert_eq!(both.mistakes[0].severity, Severity::Warning);
    let stamp = both.table.unwrap().routes["x"].hops[0].edits.stamp.clone();
    assert_eq!(stamp, Some(Stamp { from: "a/t".into(), to: "r/t".into() }));
}

#[test]
fn a_key_that_is_spread_is_told_unless_no_order_is_asked_for() {
    let wrong = said(&with("partitioning: round_robin"));
    assert!(wrong.len() == 1 && wrong[0].starts_with("5:19 `round_robin` spreads each key"), "{wrong:?}");
    assert!(said(&with("partitioning: round_robin\n    order: none")).is_empty());
}
