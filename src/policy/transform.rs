//! What a route changes in a message on purpose, or leaves out, before it is placed.

use std::fmt;

use bytes::Bytes;
use regex::bytes::Regex;
use trestle_core::{Header, Headers, Message};

/// One step; a route's steps are carried out in the order in which they are written.
#[derive(Clone, PartialEq)]
pub enum Transform {
    /// Only messages that pass go on.
    Keep(Test),
    /// Messages that pass do not go on.
    Drop(Test),
    /// One header of this name with this value: in the place of the first one that has it, else behind all others.
    Set { header: Bytes, value: Bytes },
    /// Every header of the name gets the other one, with its value and in its place.
    Rename { header: Bytes, to: Bytes },
    /// Every header of the name is taken away.
    Remove { header: Bytes },
    /// The value of the last header of the name becomes the key. A message without one, or with a null one, keeps its key.
    Rekey { header: Bytes },
}

/// A question to the key or to the headers of one name, of which any may pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub of: Of,
    pub is: Is,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Of {
    Key,
    Header(Bytes),
}

#[derive(Clone)]
pub enum Is {
    /// Also a null or empty header; a key that is not null.
    There,
    Equal(Bytes),
    Prefixed(Bytes),
    /// Found anywhere, unless the expression has anchors.
    Matching(Regex),
}

/// Without the values, which may have come from `${NAME}`.
impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transform::Keep(test) => f.debug_tuple("Keep").field(test).finish(),
            Transform::Drop(test) => f.debug_tuple("Drop").field(test).finish(),
            Transform::Set { header, .. } => f.debug_struct("Set").field("header", header).finish_non_exhaustive(),
            Transform::Rename { header, to } => {
                f.debug_struct("Rename").field("header", header).field("to", to).finish()
            }
            Transform::Remove { header } => f.debug_struct("Remove").field("header", header).finish(),
            Transform::Rekey { header } => f.debug_struct("Rekey").field("header", header).finish(),
        }
    }
}

/// As that of [`Transform`].
impl fmt::Debug for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Is::There => "There",
            Is::Equal(_) => "Equal",
            Is::Prefixed(_) => "Prefixed",
            Is::Matching(_) => "Matching",
        })
    }
}

impl PartialEq for Is {
    fn eq(&self, other: &Is) -> bool {
        match (self, other) {
            (Is::There, Is::There) => true,
            (Is::Equal(a), Is::Equal(b)) | (Is::Prefixed(a), Is::Prefixed(b)) => a == b,
            (Is::Matching(a), Is::Matching(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// Carries the steps out. False when the message does not go on; it may have been changed by then.
pub fn apply(transforms: &[Transform], message: &mut Message) -> bool {
    transforms.iter().all(|transform| transform.apply(message))
}

impl Transform {
    fn apply(&self, message: &mut Message) -> bool {
        match self {
            Transform::Keep(test) => return test.passes(message),
            Transform::Drop(test) => return !test.passes(message),
            Transform::Set { header, value } => set(&mut message.headers, header, value),
            Transform::Rename { header, to } => {
                let renamed = |h: Header| if h.name == header { Header { name: to.clone(), ..h } } else { h };
                if has(&message.headers, header) {
                    message.headers = std::mem::take(&mut message.headers).into_iter().map(renamed).collect();
                }
            }
            Transform::Remove { header } => {
                if has(&message.headers, header) {
                    let others = std::mem::take(&mut message.headers).into_iter().filter(|h| h.name != header);
                    message.headers = others.collect();
                }
            }
            Transform::Rekey { header } => {
                let last = message.headers.iter().rev().find(|h| h.name == header);
                if let Some(key) = last.and_then(|header| header.value.clone()) {
                    message.key = Some(key);
                }
            }
        }
        true
    }
}

impl Test {
    fn passes(&self, message: &Message) -> bool {
        match &self.of {
            Of::Key => message.key.as_ref().is_some_and(|key| self.is.true_of(Some(key))),
            Of::Header(name) => {
                message.headers.iter().any(|header| header.name == name && self.is.true_of(header.value.as_ref()))
            }
        }
    }
}

impl Is {
    fn true_of(&self, value: Option<&Bytes>) -> bool {
        match (self, value) {
            (Is::There, _) => true,
            (_, None) => false,
            (Is::Equal(wanted), Some(value)) => wanted == value,
            (Is::Prefixed(prefix), Some(value)) => value.starts_with(prefix),
            (Is::Matching(expression), Some(value)) => expression.is_match(value),
        }
    }
}

fn has(headers: &Headers, name: &Bytes) -> bool {
    headers.iter().any(|header| header.name == name)
}

fn set(headers: &mut Headers, name: &Bytes, value: &Bytes) {
    if !has(headers, name) {
        return headers.push(name.clone(), Some(value.clone()));
    }
    let mut is_set = false;
    let kept = std::mem::take(headers).into_iter().filter_map(|header| match header.name == name {
        false => Some(header),
        true if std::mem::replace(&mut is_set, true) => None,
        true => Some(Header { name: header.name, value: Some(value.clone()) }),
    });
    *headers = kept.collect();
}

#[cfg(test)]
mod tests {
    use trestle_core::Position;

    use super::*;

    fn message(key: Option<&'static str>, headers: &[(&'static str, Option<&'static str>)]) -> Message {
        let header = |(name, value): &(&'static str, Option<&'static str>)| Header {
            name: Bytes::from_static(name.as_bytes()),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
        };
        Message {
            key: key.map(Bytes::from),
            headers: headers.iter().map(header).collect(),
            ..Message::at(Position::Offset(1))
        }
    }

    fn header(name: &'static str, is: Is) -> Test {
        Test { of: Of::Header(name.into()), is }
    }

    fn passes(test: &Test, message: &Message) -> bool {
        let (kept, dropped) = (Transform::Keep(test.clone()), Transform::Drop(test.clone()));
        let goes_on = |step| apply(&[step], &mut message.clone());
        assert_ne!(goes_on(kept.clone()), goes_on(dropped), "what one keeps the other drops");
        goes_on(kept)
    }

    fn expression(text: &str) -> Is {
        Is::Matching(Regex::new(text).unwrap())
    }

    #[test]
    fn any_header_of_the_name_may_pass_and_a_null_one_is_only_there() {
        let message = message(Some("order-7"), &[("a", Some("1")), ("a", Some("two")), ("null", None)]);
        for (name, is, expected) in [
            ("a", Is::Equal("two".into()), true),
            ("a", Is::Equal("t".into()), false),
            ("a", Is::Prefixed("t".into()), true),
            ("a", expression("^[0-9]$"), true),
            ("a", expression("^t$"), false),
            ("a", Is::There, true),
            ("null", Is::There, true),
            ("null", Is::Equal("".into()), false),
            ("null", expression(""), false),
            ("A", Is::There, false),
        ] {
            assert_eq!(passes(&header(name, is.clone()), &message), expected, "{name} {is:?}");
        }
    }

    #[test]
    fn a_message_without_a_key_passes_no_test_of_keys() {
        let of_key = |is| Test { of: Of::Key, is };
        let (keyed, none) = (message(Some("order-7"), &[]), message(None, &[]));
        for is in [Is::There, Is::Prefixed("order-".into()), expression("7$"), Is::Equal("order-7".into())] {
            assert!(passes(&of_key(is.clone()), &keyed) && !passes(&of_key(is), &none));
        }
    }

    fn after(step: Transform, headers: &[(&'static str, Option<&'static str>)]) -> Message {
        let mut message = message(Some("k"), headers);
        assert!(apply(&[step], &mut message));
        message
    }

    #[test]
    fn headers_are_set_renamed_and_removed_in_their_places() {
        let headers = [("a", Some("1")), ("b", None), ("a", Some("3"))];
        let set = |name: &'static str| Transform::Set { header: name.into(), value: "x".into() };
        assert_eq!(after(set("a"), &headers), message(Some("k"), &[("a", Some("x")), ("b", None)]));
        let behind = message(Some("k"), &[headers[0], headers[1], headers[2], ("c", Some("x"))]);
        assert_eq!(after(set("c"), &headers), behind);
        let renamed = after(Transform::Rename { header: "a".into(), to: "b".into() }, &headers);
        assert_eq!(renamed, message(Some("k"), &[("b", Some("1")), ("b", None), ("b", Some("3"))]));
        let removed = after(Transform::Remove { header: "a".into() }, &headers);
        assert_eq!(removed, message(Some("k"), &[("b", None)]));
    }

    #[test]
    fn the_last_header_of_the_name_becomes_the_key_if_it_has_a_value() {
        let rekey = |name: &'static str| Transform::Rekey { header: name.into() };
        let headers = [("a", Some("1")), ("a", Some("2")), ("null", None)];
        let key = |step| after(step, &headers).key;
        assert_eq!(key(rekey("a")), Some("2".into()));
        assert_eq!((key(rekey("null")), key(rekey("none"))), (Some("k".into()), Some("k".into())));
    }

    #[test]
    fn steps_are_carried_out_in_order_until_one_drops_the_message() {
        let steps = [
            Transform::Rename { header: "type".into(), to: "kind".into() },
            Transform::Keep(header("kind", Is::Equal("order".into()))),
            Transform::Set { header: "seen".into(), value: "yes".into() },
        ];
        let mut wanted = message(None, &[("type", Some("order"))]);
        assert!(apply(&steps, &mut wanted));
        assert_eq!(wanted, message(None, &[("kind", Some("order")), ("seen", Some("yes"))]));
        assert!(!apply(&steps, &mut message(None, &[("type", Some("bill"))])));
    }
}
