//! Which messages of a topic are wanted: the Java client's subscription expression.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::place::java_hash;

/// Of a topic that is read: `a || b` are the tags of the messages that are wanted; `*`, or none, is every message.
pub const TAGS_OPTION: &str = "tags";
const ALL: &str = "*";
const OR: &str = "||";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tags {
    /// Empty: every message, also one without a tag.
    wanted: BTreeSet<String>,
    /// A subscription as brokers are told of it. They take the one with the highest version for a group's.
    pub expression: String,
    pub version: u64,
}

impl Tags {
    /// From the options of a topic.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self, String> {
        let expression = options.get(TAGS_OPTION).map_or(ALL, String::as_str);
        Self::parse(expression).map_err(|problem| format!("{TAGS_OPTION}: {problem}"))
    }

    /// As `FilterAPI.buildSubscriptionData` does, which however takes `a|b` for one tag and `||` for no message at all.
    pub fn parse(expression: &str) -> Result<Self, String> {
        let all = expression.trim().is_empty() || expression.trim() == ALL;
        let mut wanted = BTreeSet::new();
        for tag in expression.split(OR).map(str::trim).filter(|tag| !all && !tag.is_empty()) {
            if tag == ALL {
                return Err(format!("`{expression}`: `{ALL}` stands alone, for every message"));
            }
            if tag.contains('|') || tag.chars().any(char::is_control) {
                return Err(format!("`{expression}`: `{tag}` is no tag; write `a {OR} b` for either of two"));
            }
            wanted.insert(tag.to_owned());
        }
        if !all && wanted.is_empty() {
            return Err(format!("`{expression}` names no tag"));
        }
        let expression = match all {
            true => ALL.to_owned(),
            false => wanted.iter().map(String::as_str).collect::<Vec<_>>().join(" || "),
        };
        let version = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Ok(Tags { wanted, expression, version })
    }

    pub fn is_all(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Brokers compare hashes alone, so that what they hand out may have another tag.
    pub fn wants(&self, tag: Option<&[u8]>) -> bool {
        let is = |tag: &[u8]| std::str::from_utf8(tag).is_ok_and(|tag| self.wanted.contains(tag));
        self.is_all() || tag.is_some_and(is)
    }

    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(String::as_str)
    }

    /// What brokers compare.
    pub fn hashes(&self) -> impl Iterator<Item = i32> {
        self.wanted().map(java_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_read_as_java_reads_it() {
        for all in ["*", "", " * ", "  "] {
            let tags = Tags::parse(all).unwrap();
            assert!(tags.is_all() && tags.wants(None) && tags.wants(Some(b"a")), "{all:?}");
            assert_eq!((tags.expression.as_str(), tags.hashes().count()), ("*", 0));
        }
        let tags = Tags::parse(" b||a || || b").unwrap();
        assert_eq!(tags.expression, "a || b");
        // "a".hashCode() and "b".hashCode().
        assert_eq!(tags.hashes().collect::<Vec<_>>(), [97, 98]);
        assert!(tags.wants(Some(b"a")) && !tags.wants(Some(b"c")) && !tags.wants(None) && !tags.wants(Some(b"\xFF")));
    }

    #[test]
    fn tags_of_one_hash_are_told_apart() {
        assert_eq!(java_hash("Aa"), java_hash("BB"));
        let tags = Tags::parse("Aa").unwrap();
        assert!(tags.wants(Some(b"Aa")) && !tags.wants(Some(b"BB")));
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for bad in ["a|b", "||", "a || *", "a\u{1}b"] {
            assert!(Tags::parse(bad).is_err(), "{bad:?}");
        }
    }
}
