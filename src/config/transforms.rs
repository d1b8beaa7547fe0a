//! The steps of a route's `transform`: that each says one thing, and what it means.

use super::{mistake::Mistake, shape, yaml::Node};
use crate::policy::transform::{Is, Of, Test, Transform};

/// Memory of one compiled expression at most.
const MOST_EXPRESSION: usize = 1 << 20;

/// The steps that are right; the others are told.
pub fn check(root: &Node, route: &str, written: &[shape::Transform], mistakes: &mut Vec<Mistake>) -> Vec<Transform> {
    let mut checker = Checker { root, route, mistakes };
    (0..).zip(written).filter_map(|(index, step)| checker.step(index, step)).collect()
}

struct Checker<'a> {
    root: &'a Node,
    route: &'a str,
    mistakes: &'a mut Vec<Mistake>,
}

impl Checker<'_> {
    fn step(&mut self, index: usize, step: &shape::Transform) -> Option<Transform> {
        let shape::Transform { keep, drop, set, rename, remove, rekey } = step;
        let bytes = |text: &String| text.clone().into();
        let mut said: Vec<(&str, Option<Transform>)> = Vec::new();
        if let Some(test) = keep {
            said.push(("keep", self.test(index, "keep", test).map(Transform::Keep)));
        }
        if let Some(test) = drop {
            said.push(("drop", self.test(index, "drop", test).map(Transform::Drop)));
        }
        if let Some(shape::SetHeader { header, value }) = set {
            said.push(("set", Some(Transform::Set { header: bytes(header), value: bytes(value) })));
        }
        if let Some(shape::Rename { header, to }) = rename {
            said.push(("rename", Some(Transform::Rename { header: bytes(header), to: bytes(to) })));
        }
        if let Some(header) = remove {
            said.push(("remove", Some(Transform::Remove { header: bytes(header) })));
        }
        if let Some(header) = rekey {
            said.push(("rekey", Some(Transform::Rekey { header: bytes(header) })));
        }
        match said.len() {
            1 => said.pop()?.1,
            0 => {
                self.say(index, &[], "this step does nothing", "one of keep, drop, set, rename, remove, rekey");
                None
            }
            _ => {
                let names: Vec<_> = said.iter().map(|(name, _)| *name).collect();
                let problem = format!("this step says {}, and their order is not clear", names.join(" and "));
                self.say(index, &[], problem, "a step of its own for each");
                None
            }
        }
    }

    fn test(&mut self, index: usize, step: &str, written: &shape::Test) -> Option<Test> {
        let of = match (&written.header, written.key) {
            (Some(header), false) => Of::Header(header.clone().into()),
            (None, true) => Of::Key,
            (Some(_), true) => {
                self.say(index, &[step], "it asks for a header and for the key", "`header: NAME` or `key: true`");
                return None;
            }
            (None, false) => {
                self.say(index, &[step], "it does not say what it asks for", "`header: NAME` or `key: true`");
                return None;
            }
        };
        let is = match (&written.equals, &written.prefix, &written.regex) {
            (None, None, None) => Is::There,
            (Some(text), None, None) => Is::Equal(text.clone().into()),
            (None, Some(text), None) => Is::Prefixed(text.clone().into()),
            (None, None, Some(text)) => {
                match regex::bytes::RegexBuilder::new(text).size_limit(MOST_EXPRESSION).build() {
                    Ok(expression) => Is::Matching(expression),
                    Err(error) => {
                        let problem = format!("this is no regular expression: {}", last_line(&error.to_string()));
                        self.say(index, &[step, "regex"], problem, "one as Rust's regex crate reads it");
                        return None;
                    }
                }
            }
            _ => {
                let expected = "one of `equals`, `prefix` and `regex`, or none for being there";
                self.say(index, &[step], "it asks in several ways at once", expected);
                return None;
            }
        };
        Some(Test { of, is })
    }

    fn say(&mut self, index: usize, rest: &[&str], problem: impl Into<String>, expected: &str) {
        let index = index.to_string();
        let path = [&["routes", self.route, "transform", &index], rest].concat();
        self.mistakes.push(Mistake::on(self.root, &path, problem).expected(expected));
    }
}

/// The crate draws the expression on several lines; the reason is the last one.
pub fn last_line(error: &str) -> &str {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ")
}
