//! Routes of several topics: each topic is carried by a route of its own, made from what the table says once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use regex::{Regex, RegexBuilder};

use super::{mistake::Mistake, shape, transforms::last_line, yaml::Node};
use crate::clusters::Protocol;

/// The topics that were found for each route of the table with a pattern.
pub type Found = BTreeMap<String, BTreeMap<String, When>>;

/// When a topic was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// At the first look: it may be as old as it likes.
    First,
    /// It was not there at the look before, so that all of it is to be carried.
    Later,
}

/// Stands for the last part of the source topic's name.
pub const TOPIC: &str = "{topic}";
/// Memory of a compiled pattern at most.
const MOST_PATTERN: usize = 1 << 20;

/// One topic's route.
pub struct Instance {
    pub name: String,
    /// Its topic is there, and nothing in it is to be filled in any more.
    pub route: shape::Route,
}

/// Which topics a route of the table has.
pub enum Topics {
    One(String),
    List(Vec<String>),
    Pattern { like: String, expression: Regex },
}

/// What `from` says, if it is right.
pub fn topics(root: &Node, route: &str, from: &shape::From, mistakes: &mut Vec<Mistake>) -> Option<Topics> {
    let mut say = |key: &[&str], problem: String, expected: &str| {
        let path = [&["routes", route, "from"], key].concat();
        mistakes.push(Mistake::on(root, &path, problem).expected(expected));
    };
    let ways = "one of `topic: NAME`, `topics: [NAME, ...]` and `pattern: EXPRESSION`";
    match (&from.topic, from.topics.as_slice(), &from.pattern) {
        (Some(topic), [], None) => Some(Topics::One(topic.clone())),
        (None, [_, ..], None) => {
            let mut seen = BTreeSet::new();
            for topic in from.topics.iter().filter(|topic| !seen.insert(*topic)) {
                say(&["topics"], format!("`{topic}` is there twice"), "each topic once");
            }
            Some(Topics::List(seen.into_iter().cloned().collect()))
        }
        (None, [], Some(pattern)) => {
            match RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(MOST_PATTERN).build() {
                Ok(expression) => Some(Topics::Pattern { like: pattern.clone(), expression }),
                Err(error) => {
                    let problem = format!("this is no regular expression: {}", last_line(&error.to_string()));
                    say(&["pattern"], problem, "one as Rust's regex crate reads it");
                    None
                }
            }
        }
        (None, [], None) => {
            // An empty name was told where its form was checked.
            if root.get("routes").is_some() && !is_written(root, route, "topic") {
                say(&[], "`topic` is missing".into(), ways);
            }
            None
        }
        _ => {
            say(&[], "it names its topics in several ways".into(), ways);
            None
        }
    }
}

fn is_written(root: &Node, route: &str, key: &str) -> bool {
    super::policies::is_written(root, &["routes", route, "from", key])
}

/// A name that the pattern could match, to check the rest of the route with before anything was found.
pub fn example(pattern: &str) -> String {
    // What of a Pulsar name comes before its last part is no pattern.
    pattern.rsplit_once('/').map_or_else(|| "x".into(), |(before, _)| format!("{before}/x"))
}

/// The route that carries this topic. `alone`: the route has no other, and keeps its name.
pub fn instance(declared: &str, written: &shape::Route, topic: &str, alone: bool) -> Instance {
    let short = short(topic);
    let name = if alone { declared.to_owned() } else { format!("{declared}:{}", tame(short)) };
    let mut route = written.clone();
    route.from.topic = Some(topic.to_owned());
    let fill = |text: &str| text.replace(TOPIC, short);
    route.from.group = Some(match &written.from.group {
        Some(group) => fill(group),
        None if alone => format!("trestle-{declared}"),
        None => format!("trestle-{declared}-{short}"),
    });
    if let Some(via) = &mut route.via {
        let group = match (&via.group, alone) {
            (Some(group), _) => group.clone(),
            (None, true) => format!("trestle-{declared}-deliver"),
            (None, false) => format!("trestle-{declared}-deliver-{TOPIC}"),
        };
        via.group = Some(fill(&group));
    }
    if let Some(topic) = &mut route.dead_letter.topic {
        *topic = fill(topic);
    }
    Instance { name, route }
}

/// The last part of a topic's name: all of it but for Pulsar's tenant and namespace.
pub fn short(topic: &str) -> &str {
    topic.rsplit('/').next().unwrap_or(topic)
}

/// What can stand in a route's name.
fn tame(topic: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    topic.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// A topic as a template says it: the source's last part in place of `{topic}`, with `_` for each character that the target's
/// protocol does not carry. A name that would be too long is cut, and a hash of what it was put behind it.
pub fn filled<'a>(template: &'a str, topic: &str, target: &Protocol) -> Cow<'a, str> {
    if !template.contains(TOPIC) {
        return template.into();
    }
    let carried: String = short(topic).chars().map(|c| if (target.carries)(c) { c } else { '_' }).collect();
    let whole = template.replace(TOPIC, &carried);
    if whole.len() <= target.longest_topic {
        return whole.into();
    }
    let mark = format!("-{:08x}", fnv1a(short(topic).as_bytes()) as u32);
    let excess = whole.len() - target.longest_topic + mark.len();
    // Nothing but ASCII is left of it wherever length matters, but a cut never falls into a character.
    let mut kept = carried.len().saturating_sub(excess);
    while !carried.is_char_boundary(kept) {
        kept -= 1;
    }
    template.replace(TOPIC, &format!("{}{mark}", &carried[..kept])).into()
}

/// Fowler, Noll and Vo's hash, which is the same everywhere and for ever.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A placeholder that nothing is known of, if there is one.
pub fn unknown_placeholder(template: &str) -> Option<&str> {
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let from = &rest[at..];
        let end = from.find('}').map_or(from.len(), |end| end + 1);
        if &from[..end] != TOPIC {
            return Some(&from[..end]);
        }
        rest = &from[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters;

    fn target(protocol: &str) -> &'static Protocol {
        clusters::protocol(protocol).unwrap()
    }

    #[test]
    fn a_name_is_carried_as_far_as_the_target_can_say_it() {
        for (protocol, template, topic, expected) in [
            ("rocketmq", "copy-{topic}", "orders.eu", "copy-orders_eu"),
            ("kafka", "copy.{topic}", "orders.eu", "copy.orders.eu"),
            ("kafka", "{topic}", "persistent://public/default/a b", "a_b"),
            ("kafka", "{topic}", "%DLQ%group", "_DLQ_group"),
            ("pulsar", "persistent://public/x/{topic}", "orders.eu", "persistent://public/x/orders.eu"),
            ("kafka", "fixed", "anything", "fixed"),
        ] {
            assert_eq!(filled(template, topic, target(protocol)), expected, "{protocol} {template} {topic}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_and_stays_its_own() {
        let (one, other) = ("x".repeat(200), format!("{}y", "x".repeat(199)));
        let (one, other) =
            (filled("{topic}-copy", &one, target("rocketmq")), filled("{topic}-copy", &other, target("rocketmq")));
        assert_eq!((one.len(), other.len()), (127, 127));
        assert!(one.ends_with("-copy") && one != other);
        let again = filled("{topic}-copy", &"x".repeat(200), target("rocketmq"));
        assert_eq!(one, again);
    }

    #[test]
    fn a_placeholder_is_known_or_told() {
        assert_eq!(unknown_placeholder("a-{topic}-b"), None);
        assert_eq!(unknown_placeholder("a-{tpoic}"), Some("{tpoic}"));
        assert_eq!(unknown_placeholder("a-{topic"), Some("{topic"));
    }
}
