//! What is remembered of a message that was read: no more than tells it from others, and says where it is.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};
use trestle_core::{Message, Position};

use super::sorting::Row;
use crate::commands::date;

/// Hashes of a message's parts. Two messages with equal contents are taken for the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Content {
    pub value: u64,
    pub key: u64,
    pub headers: u64,
    /// As the message has it.
    pub time: Option<i64>,
}

impl Content {
    pub fn of(message: &Message) -> Self {
        let headers = message.headers.iter().map(|header| (&header.name, &header.value));
        Content {
            value: hash(&message.value),
            key: hash(&message.key),
            headers: hash(&headers.collect::<Vec<_>>()),
            time: message.time,
        }
    }

    /// Which parts differ.
    pub fn differs(&self, other: &Content) -> Vec<&'static str> {
        let parts = [
            ("value", self.value != other.value),
            ("key", self.key != other.key),
            ("headers", self.headers != other.headers),
            ("time", self.time != other.time),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    pub fn has_key(&self) -> bool {
        self.key != hash(&None::<bytes::Bytes>)
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    From,
    To,
    Letter,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    pub content: Content,
    pub side: Side,
    pub at: Place,
}

/// Where a message stands in the topic that it was read from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub partition: u32,
    /// How many of this partition were read before it.
    pub ordinal: u64,
    pub position: Position,
}

impl Place {
    pub fn json(&self, time: Option<i64>) -> Value {
        json!({ "partition": self.partition, "position": self.position.to_string(), "time": time })
    }

    pub fn text(&self, time: Option<i64>) -> String {
        let time = time.map(|time| format!(", of {}", date(time))).unwrap_or_default();
        format!("partition {} at {}{time}", self.partition, self.position)
    }
}

impl Row for Record {
    const SIZE: usize = 3 * 8 + 9 + 1 + Place::SIZE;

    fn write(&self, to: &mut Vec<u8>) {
        let Content { value, key, headers, time } = self.content;
        for part in [value, key, headers, time.unwrap_or_default() as u64] {
            to.extend(part.to_le_bytes());
        }
        to.extend([u8::from(time.is_some()), self.side as u8]);
        self.at.write(to);
    }

    fn read(from: &[u8]) -> Self {
        let (content, at) = from.split_at(Record::SIZE - Place::SIZE);
        let time = (content[32] == 1).then(|| number(content, 24) as i64);
        let side = [Side::From, Side::To, Side::Letter][usize::from(content[33])];
        let content =
            Content { value: number(content, 0), key: number(content, 8), headers: number(content, 16), time };
        Record { content, side, at: Place::read(at) }
    }
}

impl Row for Place {
    const SIZE: usize = 4 + 8 + 1 + 8 + 8 + 4;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.partition.to_le_bytes());
        to.extend(self.ordinal.to_le_bytes());
        let (kind, high, low, index) = match self.position {
            Position::Offset(offset) => (0, offset, 0, 0),
            Position::Entry { ledger, entry, index } => (1, ledger, entry, index),
        };
        to.push(kind);
        to.extend(high.to_le_bytes());
        to.extend(low.to_le_bytes());
        to.extend(index.to_le_bytes());
    }

    fn read(from: &[u8]) -> Self {
        let position = match from[12] {
            0 => Position::Offset(number(from, 13)),
            _ => Position::Entry { ledger: number(from, 13), entry: number(from, 21), index: small(from, 29) },
        };
        Place { partition: small(from, 0), ordinal: number(from, 4), position }
    }
}

fn number(from: &[u8], at: usize) -> u64 {
    from[at..].iter().take(8).rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn small(from: &[u8], at: usize) -> u32 {
    from[at..].iter().take(4).rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for position in [Position::Offset(u64::MAX), Position::Entry { ledger: 7, entry: u64::MAX, index: u32::MAX }] {
            for (time, side) in [(None, Side::From), (Some(-1), Side::To), (Some(i64::MAX), Side::Letter)] {
                let content = Content { value: 1, key: u64::MAX, headers: 3, time };
                let record = Record { content, side, at: Place { partition: u32::MAX, ordinal: 1 << 60, position } };
                let mut bytes = Vec::new();
                record.write(&mut bytes);
                assert_eq!((bytes.len(), Record::read(&bytes)), (Record::SIZE, record));
            }
        }
    }

    #[test]
    fn every_part_of_a_message_counts() {
        let plain = Message::at(Position::Offset(0));
        let told = |change: fn(&mut Message)| {
            let mut message = plain.clone();
            change(&mut message);
            Content::of(&plain).differs(&Content::of(&message))
        };
        assert_eq!(told(|m| m.position = Position::Offset(9)), [""; 0]);
        assert_eq!(told(|m| m.value = Some(Bytes::new())), ["value"]);
        assert_eq!(told(|m| m.key = Some(Bytes::new())), ["key"]);
        assert_eq!(told(|m| m.headers.push("a", None)), ["headers"]);
        assert_eq!(told(|m| m.time = Some(0)), ["time"]);
    }

    #[test]
    fn headers_differ_by_order_and_by_where_a_name_ends() {
        let headers = |all: &[(&'static str, &'static str)]| {
            let mut message = Message::at(Position::Offset(0));
            all.iter().for_each(|(name, value)| message.headers.push(*name, Some((*value).into())));
            Content::of(&message).headers
        };
        assert_ne!(headers(&[("a", "1"), ("b", "2")]), headers(&[("b", "2"), ("a", "1")]));
        assert_ne!(headers(&[("ab", "c")]), headers(&[("a", "bc")]));
    }
}
