//! One route, explained.

use std::fmt::Write;

use serde::Serialize;
use trestle_core::Surveyed;

use super::{
    super::check::Answers,
    advice::{self, Advice},
};
use crate::{
    clusters,
    config::{Endpoint, Hop, Route, Table},
    pipeline::Placement,
    policy::{
        order::Order,
        stamp::{HOPS, ORIGIN},
        transform::{Is, Of, Test, Transform},
    },
};

/// Columns of a line for people; what is longer goes on in the next.
const WIDTH: usize = 120;
const INDENT: usize = 13;

#[derive(Serialize)]
pub struct Explained {
    route: String,
    guarantee: String,
    hops: Vec<HopExplained>,
    dead_letters: String,
    /// What would make its promises stronger, or is worth knowing.
    advice: Vec<Advice>,
    /// What the clusters said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
}

#[derive(Serialize)]
struct HopExplained {
    hop: &'static str,
    from: String,
    to: String,
    /// What is done on purpose, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<String>,
    placement: &'static str,
    order: &'static str,
    parts: Vec<Part>,
}

/// What becomes of one part of a message.
#[derive(Serialize)]
struct Part {
    part: &'static str,
    read: &'static str,
    written: &'static str,
}

impl Explained {
    pub fn new(table: &Table, route: &Route, answers: Option<&Answers>) -> Self {
        let letters = format!(
            "{}: the whole message, unchanged but for headers `trestle-dlq-*` that say why, from where and how often it was tried",
            route.dead_letter
        );
        Explained {
            route: route.name.clone(),
            guarantee: guarantee(route),
            hops: route.hops.iter().map(HopExplained::new).collect(),
            dead_letters: letters,
            advice: advice::of(table, route),
            topics: answers.map(|answers| topics(route, answers)).unwrap_or_default(),
            findings: answers.map(|answers| answers.about(&route.declared)).unwrap_or_default(),
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!("route {}\n", self.route);
        line(&mut text, "guarantee", &self.guarantee);
        for hop in &self.hops {
            let _ = writeln!(text, "\n  {}: {} -> {}", hop.hop, hop.from, hop.to);
            for change in &hop.changes {
                line(&mut text, "changes", change);
            }
            line(&mut text, "partition", hop.placement);
            line(&mut text, "in order", hop.order);
            for Part { part, read, written } in &hop.parts {
                line(&mut text, part, &format!("read: {read}."));
                line(&mut text, "", &format!("written: {written}."));
            }
        }
        text.push('\n');
        line(&mut text, "dead letters", &self.dead_letters);
        for topic in &self.topics {
            line(&mut text, "topic", topic);
        }
        for finding in &self.findings {
            line(&mut text, "found", finding);
        }
        for Advice { setting, says } in &self.advice {
            line(&mut text, "consider", &format!("{setting}: {says}"));
        }
        text
    }
}

impl HopExplained {
    fn new(hop: &Hop) -> Self {
        let (read, written) =
            (clusters::protocol(hop.from.cluster.protocol), clusters::protocol(hop.to.cluster.protocol));
        let read = read.into_iter().flat_map(|protocol| protocol.accounts.read.parts());
        let written = written.into_iter().flat_map(|protocol| protocol.accounts.written.parts());
        let parts = read.zip(written).map(|((part, read), (_, written))| Part { part, read, written });
        HopExplained {
            hop: hop.name,
            from: named(&hop.from),
            to: named(&hop.to),
            changes: changes(hop),
            placement: placement(hop),
            order: order(hop),
            parts: parts.collect(),
        }
    }
}

fn named(end: &Endpoint) -> String {
    format!("{end} ({})", end.cluster.protocol)
}

fn guarantee(route: &Route) -> String {
    let staged = if route.hops.len() > 1 {
        " Each hop acknowledges on its own: what is staged is safe whatever becomes of the target."
    } else {
        ""
    };
    format!(
        "at least once: a message is acknowledged only when the target or the dead-letter topic has confirmed it.{staged}"
    )
}

fn placement(hop: &Hop) -> &'static str {
    match hop.placement {
        Placement::Same => "the source partition's number; with fewer partitions in the target some share one",
        Placement::Key => {
            "where the target's own clients put the key, so that a key has one partition until the target gets more of them; \
             without a key the source partition's number"
        }
        Placement::RoundRobin => "one partition after the other, batch by batch, whatever the key",
    }
}

fn order(hop: &Hop) -> &'static str {
    let Endpoint { cluster, options, .. } = &hop.from;
    if clusters::protocol(cluster.protocol).is_some_and(|protocol| (protocol.spreads)(&cluster.settings, options)) {
        return "nothing, or each key as far as its subscription or group keeps it: several instances read one partition at the same time, and \
                what fails comes again later";
    }
    match hop.policies.set_aside.order {
        Order::Partition => {
            "all of one source partition that goes to one target partition; a message that fails is waited for in its place"
        }
        Order::Key => "each key; a message that fails waits apart with what follows of its key, and others pass it",
        Order::None => "nothing; a message that fails waits apart, and others pass it",
    }
}

/// In words, one a step.
fn changes(hop: &Hop) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let step = |step: &Transform| match step {
        Transform::Keep(test) => format!("only messages go on of which {}", asked(test)),
        Transform::Drop(test) => format!("messages do not go on of which {}", asked(test)),
        Transform::Set { header, .. } => format!("the header {} is set", text(header)),
        Transform::Rename { header, to } => format!("the header {} becomes {}", text(header), text(to)),
        Transform::Remove { header } => format!("the header {} is taken away", text(header)),
        Transform::Rekey { header } => format!("the header {} becomes the key", text(header)),
    };
    let stamp = hop.edits.stamp.iter().map(|stamp| {
        format!(
            "the headers {ORIGIN} and {HOPS} are added; a message that has been at {} or {} before does not go on",
            stamp.from, stamp.to
        )
    });
    hop.edits.transforms.iter().map(step).chain(stamp).collect()
}

fn asked(Test { of, is }: &Test) -> String {
    let of = match of {
        Of::Key => "the key".into(),
        Of::Header(name) => format!("a header {}", String::from_utf8_lossy(name)),
    };
    match is {
        Is::There => format!("{of} is there"),
        Is::Equal(_) => format!("{of} equals what the table says"),
        Is::Prefixed(_) => format!("{of} begins as the table says"),
        Is::Matching(_) => format!("{of} matches the expression of the table"),
    }
}

/// One line for each topic of the route that a cluster described.
fn topics(route: &Route, answers: &Answers) -> Vec<String> {
    let ends = route.hops.iter().flat_map(|hop| [&hop.from, &hop.to]).chain([&route.dead_letter]);
    let mut lines: Vec<String> = Vec::new();
    for end in ends {
        let line = match answers.topic(end) {
            Some(Surveyed::There(info)) => {
                let most =
                    info.max_message.map(|bytes| format!(", messages of up to {bytes} bytes")).unwrap_or_default();
                let vanishes = info.losses.iter().map(|loss| format!("; {loss}")).collect::<String>();
                format!(
                    "{end}: {} partition{}{most}{vanishes}",
                    info.partitions,
                    if info.partitions == 1 { "" } else { "s" }
                )
            }
            Some(Surveyed::Missing { .. }) => format!("{end}: not there"),
            Some(Surveyed::Unknown(_)) | None => format!("{end}: not known"),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// A heading and a text that goes on under itself.
fn line(out: &mut String, heading: &str, text: &str) {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match rows.last_mut() {
            Some(row) if INDENT + 4 + row.len() + 1 + word.len() <= WIDTH => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    for (index, row) in rows.iter().enumerate() {
        let heading = if index == 0 { heading } else { "" };
        let _ = writeln!(out, "    {heading:<INDENT$}{row}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn explained(more: &str) -> Explained {
        let text = format!(
            r#"
clusters:
  k: {{ type: kafka, servers: "h:1" }}
  p: {{ type: pulsar, url: "pulsar://h:1" }}
  r: {{ type: rocketmq, namesrv: "h:1", durability: accepted }}
routes:
  x:
    from: {{ cluster: k, topic: in }}
    via: {{ cluster: p, topic: "persistent://public/default/staged" }}
    to: {{ cluster: r, topic: out }}
    {more}
"#
        );
        let table = config::check(Path::new("t"), &text, &|_| None).table.unwrap();
        Explained::new(&table, &table.routes["x"], None)
    }

    #[test]
    fn every_hop_says_what_becomes_of_every_part_of_a_message() {
        let explained = explained("");
        let hops: Vec<_> = explained.hops.iter().map(|hop| (hop.hop, hop.parts.len())).collect();
        assert_eq!(hops, [("stage", 9), ("deliver", 9)]);
        let part = |hop: usize, part: &str| explained.hops[hop].parts.iter().find(|p| p.part == part).unwrap();
        assert!(part(0, "null").read.contains("tombstone") && part(0, "null").written.contains("null_value"));
        assert!(part(1, "null").written.contains("`trestle-value`") && part(1, "delay").written.contains("none"));
        let text = explained.text();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("deliver: p/persistent://public/default/staged (pulsar) -> r/out (rocketmq)"), "{text}");
    }

    #[test]
    fn what_is_done_on_purpose_is_said_and_values_of_the_table_are_not() {
        let steps = "transform: [{ drop: { header: a, equals: secret } }, { rekey: customer }]\n    stamp: true";
        let explained = explained(steps);
        let changes = &explained.hops[0].changes;
        assert_eq!(
            changes[..2],
            [
                "messages do not go on of which a header a equals what the table says",
                "the header customer becomes the key"
            ]
        );
        assert!(changes[2].contains("trestle-hops") && changes[2].contains("k/in"), "{changes:?}");
        assert!(explained.hops[1].changes.is_empty());
        assert!(!explained.text().contains("secret"));
    }

    #[test]
    fn what_weakens_a_promise_is_advised_against() {
        let settings = |more: &str| {
            let advice = explained(more).advice;
            advice.into_iter().map(|advice| advice.setting).collect::<Vec<_>>()
        };
        let usual = settings("");
        assert!(usual.contains(&"clusters.r.durability: replicated".into()), "{usual:?}");
        assert!(usual.contains(&"routes.x.to.options.trestleId: true".into()), "{usual:?}");
        assert!(!usual.iter().any(|setting| setting.contains("order") || setting.contains("via")), "{usual:?}");
        let weak = settings("order: key\n    dead_letter: { most: off }\n    commit_interval: 10s");
        for setting in ["routes.x.order: partition", "routes.x.dead_letter.most", "routes.x.commit_interval"] {
            assert!(weak.contains(&setting.to_owned()), "{setting}: {weak:?}");
        }
    }
}
