//! What the options of a topic make of a message: its KEYS, tag, message group and delay.

use std::borrow::Cow;

use sha1::{Digest, Sha1};
use trestle_core::{Cause, Fault, Message};

use crate::{
    sink_options::{SinkOptions, Taken},
    translate,
};

/// What gRPC clients take for a message group at most (`Validators` of the proxy), in bytes.
const LONGEST_GROUP: usize = 63;
/// Of `messageDelayLevel`, where the broker does not say it (`MessageStoreConfig.java`).
pub const DEFAULT_LEVELS: i64 = 18;

#[derive(Clone, Debug)]
pub struct Stamps {
    pub options: SinkOptions,
    /// The route's name.
    pub route: String,
    /// How many delay levels the brokers have: a higher one would become the highest without a word.
    pub levels: i64,
}

/// Properties that a message gets beside or instead of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stamp<'a> {
    /// When the route says what KEYS are: what they are, if anything.
    pub keys: Option<Option<&'a str>>,
    /// The same for the tag.
    pub tag: Option<Option<&'a str>>,
    pub group: Option<Cow<'a, str>>,
    pub delay: Option<Delay>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delay {
    /// Milliseconds since 1970-01-01T00:00Z.
    At(i64),
    Level(i64),
}

impl Stamps {
    /// A header that does not fit is a fault of the message's.
    pub fn stamp<'a>(&'a self, message: &'a Message) -> Result<Stamp<'a>, Fault> {
        let options = &self.options;
        let keys = options.keys.as_ref().map(|from| checked(from, message, "keys", keys)).transpose()?;
        let tag = options.tag.as_ref().map(|from| checked(from, message, "tag", tag)).transpose()?;
        let group = options.message_group.as_ref().and_then(|from| taken(from, message)).map(group);
        Ok(Stamp { keys, tag, group, delay: self.delay(message)? })
    }

    fn delay(&self, message: &Message) -> Result<Option<Delay>, Fault> {
        let at = self.options.deliver_at.as_ref().and_then(|name| Some((name, message.headers.get(name)?)));
        let at = match at {
            None => None,
            Some((name, value)) => {
                let problem = "is no number of milliseconds since 1970";
                let time = number(value).ok_or_else(|| refused(name, "deliverAt", problem))?;
                Some(Delay::At(time))
            }
        };
        let level = match &self.options.delay_level {
            None => None,
            Some(from) => {
                let level = |value: &[u8]| number(value).ok_or("is no delay level, which is a number");
                let level = checked_as(from, message, "delayLevel", level)?.filter(|level| *level > 0);
                if let Some(level) = level.filter(|level| *level > self.levels) {
                    let problem =
                        format!("is a level that the broker lacks: it has {} (messageDelayLevel)", self.levels);
                    return Err(refused(&format!("{level}"), "delayLevel", &problem));
                }
                level.map(Delay::Level)
            }
        };
        match (at, level) {
            (Some(_), Some(_)) => Err(Fault::rejected(
                Cause::IllegalProperty,
                "both deliverAt and delayLevel have a value for this message; RocketMQ takes one",
            )),
            (at, level) => Ok(at.or(level)),
        }
    }
}

fn taken<'a>(from: &'a Taken, message: &'a Message) -> Option<&'a [u8]> {
    match from {
        Taken::Key => message.key.as_deref(),
        Taken::Header(name) => message.headers.get(name).map(|value| &value[..]),
        Taken::Constant(text) => Some(text.as_bytes()),
    }
}

fn checked<'a>(
    from: &'a Taken,
    message: &'a Message,
    option: &str,
    check: fn(&[u8]) -> Result<&str, &'static str>,
) -> Result<Option<&'a str>, Fault> {
    checked_as(from, message, option, check)
}

fn checked_as<'a, T>(
    from: &'a Taken,
    message: &'a Message,
    option: &str,
    check: impl FnOnce(&'a [u8]) -> Result<T, &'static str>,
) -> Result<Option<T>, Fault> {
    let name = match from {
        Taken::Header(name) | Taken::Constant(name) => name.as_str(),
        Taken::Key => "key",
    };
    let value = taken(from, message).map(check).transpose();
    value.map_err(|problem| refused(name, option, problem))
}

fn refused(name: &str, option: &str, problem: &str) -> Fault {
    Fault::rejected(Cause::IllegalProperty, format!("`{name}`, of which {option} is made, {problem}"))
}

/// What KEYS can be: one key, or several with blanks between them.
pub fn keys(value: &[u8]) -> Result<&str, &'static str> {
    let text = text(value)?;
    if text.trim().is_empty() { Err("is blank") } else { Ok(text) }
}

/// What a tag can be.
pub fn tag(value: &[u8]) -> Result<&str, &'static str> {
    let text = text(value)?;
    if text.contains(char::is_whitespace) {
        return Err("has a blank in it, which a tag cannot have");
    }
    if text.contains('|') { Err("has a `|` in it, which separates tags") } else { Ok(text) }
}

fn text(value: &[u8]) -> Result<&str, &'static str> {
    if value.is_empty() {
        return Err("is empty");
    }
    if std::str::from_utf8(value).is_err() {
        return Err("is no text (UTF-8)");
    }
    translate::plain_text(value).ok_or("has a control character in it")
}

pub fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok().filter(|number| *number >= 0)
}

/// What can be a message group as it is, else its hash: SHA-1, because only equal ones have to be equal.
fn group(value: &[u8]) -> Cow<'_, str> {
    let plain = translate::plain_text(value).filter(|text| text.len() <= LONGEST_GROUP && !text.trim().is_empty());
    plain.map_or_else(|| hashed(value).into(), Cow::Borrowed)
}

fn hashed(value: &[u8]) -> String {
    let hex = Sha1::digest(value).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha1:{hex}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use trestle_core::{FaultKind, Position, Scope};

    use super::*;

    fn stamps(options: &[(&str, &str)]) -> Stamps {
        let options: BTreeMap<String, String> = options.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        Stamps { options: SinkOptions::read(&options).unwrap(), route: "r".into(), levels: DEFAULT_LEVELS }
    }

    fn message(key: Option<&'static str>, headers: &[(&'static str, Option<&'static [u8]>)]) -> Message {
        let mut message = Message { key: key.map(Bytes::from), ..Message::at(Position::Offset(0)) };
        for (name, value) in headers {
            message.headers.push(*name, value.map(Bytes::from_static));
        }
        message
    }

    #[test]
    fn each_option_takes_its_value_from_where_it_says() {
        let all = stamps(&[
            ("keys", "header:id"),
            ("tag", "constant:red"),
            ("messageGroup", "key"),
            ("deliverAt", "header:due"),
            ("delayLevel", "header:level"),
        ]);
        let one = message(Some("k"), &[("id", Some(b"1 2")), ("due", Some(b"1700000000000")), ("level", Some(b"0"))]);
        let expected = Stamp {
            keys: Some(Some("1 2")),
            tag: Some(Some("red")),
            group: Some("k".into()),
            delay: Some(Delay::At(1_700_000_000_000)),
        };
        assert_eq!(all.stamp(&one).unwrap(), expected);
        let level = message(None, &[("level", Some(b"2")), ("level", Some(b"3")), ("due", None)]);
        let expected = Stamp { keys: Some(None), tag: Some(Some("red")), group: None, delay: Some(Delay::Level(3)) };
        assert_eq!(all.stamp(&level).unwrap(), expected);
        assert_eq!(stamps(&[]).stamp(&one).unwrap(), Stamp::default());
    }

    #[test]
    fn a_header_that_does_not_fit_is_the_messages_fault_and_says_why() {
        for (option, from, value, says) in [
            ("tag", "header:h", &b"a|b"[..], "`|`"),
            ("tag", "header:h", b"a b", "blank"),
            ("tag", "header:h", b"", "empty"),
            ("tag", "header:h", b"a\x02b", "control character"),
            ("tag", "header:h", b"\xFF", "no text"),
            ("keys", "header:h", b" ", "blank"),
            ("keys", "header:h", b"a\x01", "control character"),
            ("deliverAt", "header:h", b"tomorrow", "no number"),
            ("deliverAt", "header:h", b"-1", "no number"),
            ("delayLevel", "header:h", b"x", "no delay level"),
            ("delayLevel", "header:h", b"19", "it has 18"),
            ("delayLevel", "constant:19", b"", "it has 18"),
        ] {
            let message = message(None, &[("h", Some(value))]);
            let stamps = stamps(&[(option, from)]);
            let fault = stamps.stamp(&message).unwrap_err();
            assert_eq!((&fault.kind, fault.scope), (&FaultKind::Rejected(Cause::IllegalProperty), Scope::Message));
            assert!(fault.detail.contains(option) && fault.detail.contains(says), "{fault}");
        }
        let both = stamps(&[("deliverAt", "header:h"), ("delayLevel", "constant:1")]);
        assert!(both.stamp(&message(None, &[("h", Some(b"1"))])).is_err());
        assert_eq!(both.stamp(&message(None, &[])).unwrap().delay, Some(Delay::Level(1)));
    }

    #[test]
    fn what_grpc_clients_refuse_as_a_message_group_is_hashed() {
        for plain in ["order-1", &"x".repeat(63), "größe", "two words"] {
            assert_eq!(group(plain.as_bytes()), plain);
        }
        // printf abc | sha1sum
        assert_eq!(hashed(b"abc"), "sha1:a9993e364706816aba3e25717850c26c9cd0d89d");
        let (long, other) = ("x".repeat(64), "x".repeat(65));
        for odd in [&b""[..], b" ", b"\xFF", b"a\x01b", long.as_bytes()] {
            let group = group(odd);
            assert!(group.starts_with("sha1:") && group.len() == 45, "{group}");
        }
        assert_ne!(group(long.as_bytes()), group(other.as_bytes()));
    }
}
