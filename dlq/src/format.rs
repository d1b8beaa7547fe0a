//! The form of a dead letter: the message as it was, and what happened to it in headers behind its own.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use trestle_core::{Cause, Header, Headers, Message};

/// Every header of a dead letter that is not the message's own starts so.
pub const PREFIX: &str = "trestle-dlq-";

/// What happened to a message, as its dead letter tells it.
#[derive(Clone, Debug)]
pub struct Report {
    pub route: String,
    pub hop: Cow<'static, str>,
    /// Protocol that the message came from, such as `kafka`.
    pub origin: Cow<'static, str>,
    /// Protocol that it could not be delivered to.
    pub target: Cow<'static, str>,
    /// `cluster/topic/partition/position`.
    pub source: String,
    pub cause: Cause,
    pub error: String,
    pub attempts: u32,
    pub first_failed: SystemTime,
    pub last_failed: SystemTime,
    /// How often it was replayed before.
    pub replays: u32,
}

/// The message with the report's headers added. Its own key, value, headers and time are untouched.
pub fn dead_letter(message: &Message, report: &Report) -> Message {
    let mut headers = Headers::with_capacity(message.headers.len() + 12);
    for header in message.headers.iter() {
        headers.push(header.name.clone(), header.value.clone());
    }
    let mut add = |name: &str, value: String| headers.push(format!("{PREFIX}{name}"), Some(value.into()));
    add("id", id(report));
    add("origin", report.origin.to_string());
    add("target", report.target.to_string());
    add("cause", report.cause.as_str().to_owned());
    add("error", readable(&report.error));
    add("route", report.route.clone());
    add("hop", report.hop.to_string());
    add("source", report.source.clone());
    add("attempts", report.attempts.to_string());
    add("first-failed", millis(report.first_failed));
    add("last-failed", millis(report.last_failed));
    add("replays", report.replays.to_string());
    Message { headers, defect: None, ..message.clone() }
}

/// The message as it was before it became a dead letter. It may have had headers of such names itself, as a dead letter has
/// that a route carried on: only those from the last `trestle-dlq-id` on are the report's.
pub fn restore(letter: &Message) -> Message {
    let report = report_begins(letter).unwrap_or(letter.headers.len());
    let own = |(at, header): &(usize, &Header)| *at < report || !header.name.starts_with(PREFIX.as_bytes());
    let headers = letter.headers.iter().enumerate().filter(own).map(|(_, header)| header.clone()).collect();
    Message { headers, ..letter.clone() }
}

pub fn is_dead_letter(message: &Message) -> bool {
    message.headers.get(ID).is_some()
}

/// Whether it has only some of the message's value; see [`restore`].
pub fn is_part(letter: &Message) -> bool {
    said(letter, "part").is_some()
}

/// What the report says under this name; nothing that the message itself said.
pub(crate) fn said<'a>(letter: &'a Message, name: &str) -> Option<&'a Bytes> {
    let report = report_begins(letter)?;
    let named = |header: &&Header| header.name.strip_prefix(PREFIX.as_bytes()) == Some(name.as_bytes());
    letter.headers.iter().skip(report).rev().find(named)?.value.as_ref()
}

/// The first header of the report.
const ID: &str = "trestle-dlq-id";

fn report_begins(letter: &Message) -> Option<usize> {
    letter.headers.iter().rposition(|header| header.name == ID && header.value.is_some())
}

/// The same for the same message on the same hop, whoever writes it and however often: FNV-1a, 128 bits, in hex.
fn id(report: &Report) -> String {
    const OFFSET: u128 = 0x6c62272e07bb014262b821756295c58d;
    const PRIME: u128 = 0x0000000001000000000000000000013b;
    let parts = [report.route.as_str(), &report.hop, &report.source];
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    format!("{:032x}", bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
}

/// Errors quote what brokers say; a header should stay readable and short.
fn readable(error: &str) -> String {
    const LONGEST: usize = 1000;
    error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// Milliseconds since 1970-01-01T00:00Z.
fn millis(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()).to_string()
}

/// One of the numbered parts of a dead letter that is too large for its topic; `part` counts from 0. Each carries all
/// headers, and `trestle-dlq-part` says `part+1/parts`.
pub(crate) fn part(letter: &Message, value: Bytes, part: usize, parts: usize) -> Message {
    let mut headers = letter.headers.clone();
    headers.push(format!("{PREFIX}part"), Some(format!("{}/{parts}", part + 1).into()));
    Message { headers, value: Some(value), ..letter.clone() }
}

#[cfg(test)]
pub(crate) mod tests {
    use trestle_core::Position;

    use super::*;

    pub(crate) fn report() -> Report {
        let now = SystemTime::now();
        Report {
            route: "orders".into(),
            hop: "deliver".into(),
            origin: "pulsar".into(),
            target: "rocketmq".into(),
            source: "staging/orders/3/12:7:1".into(),
            cause: Cause::TooLarge,
            error: "body of 5 MiB\nis over 4 MiB".into(),
            attempts: 1,
            first_failed: now,
            last_failed: now,
            replays: 0,
        }
    }

    pub(crate) fn message(value: Option<&'static [u8]>) -> Message {
        let mut headers = Headers::default();
        headers.push("a", Some(Bytes::from_static(b"\x00\xff")));
        headers.push("a", None);
        headers.push(Bytes::from_static(b"\xfe"), Some(Bytes::new()));
        Message {
            key: Some(Bytes::from_static(b"\x80key")),
            value: value.map(Bytes::from_static),
            headers,
            time: Some(-5),
            position: Position::Offset(9),
            defect: None,
        }
    }

    #[test]
    fn a_dead_letter_gives_the_message_back_exactly() {
        for value in [None, Some(&b""[..]), Some(b"value")] {
            let message = message(value);
            let letter = dead_letter(&message, &report());
            assert!(is_dead_letter(&letter) && !is_dead_letter(&message));
            assert_eq!(restore(&letter), message);
        }
    }

    #[test]
    fn what_a_message_itself_has_under_our_names_is_its_own() {
        let mut message = message(Some(b"value"));
        let values = [("trestle-dlq-id", Some("7")), ("trestle-dlq-part", Some("1/2")), ("trestle-dlq-id", None)];
        values.iter().for_each(|(name, value)| message.headers.push(*name, value.map(Bytes::from)));
        let letter = dead_letter(&message, &report());
        assert_eq!(restore(&letter), message);
        assert!(!is_part(&letter), "the message's own header is no part's number");
        assert_eq!(said(&letter, "part"), None);
        assert_eq!(said(&letter, "cause").map(|cause| &cause[..]), Some(&b"too_large"[..]));
        // A dead letter that a route carries may become one again.
        assert_eq!(restore(&dead_letter(&letter, &report())), letter);
        let part = part(&letter, Bytes::new(), 0, 2);
        assert!(is_part(&part));
        assert_eq!(restore(&part).headers, message.headers);
    }

    #[test]
    fn the_id_depends_on_the_message_and_hop_alone() {
        let (one, mut other) = (report(), report());
        other.error = "another error".into();
        assert_eq!(id(&one), id(&other));
        other.source = "staging/orders/3/12:7:2".into();
        assert_ne!(id(&one), id(&other));
    }
}
