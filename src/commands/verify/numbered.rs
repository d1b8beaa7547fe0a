//! Messages of which everything follows from their numbers, so that a reader knows how each should be.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    str::FromStr,
};

use bytes::Bytes;
use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};
use trestle_core::{Message, Position};

/// Names the run and the number.
const HEADER: &str = "trestle-verify";
/// Bytes of all values, which a protocol that carries text alone would spoil.
const BINARY_HEADER: &str = "trestle-verify-binary";
const BINARY_BYTES: usize = 12;
/// Messages of a run at most.
pub const MOST: u64 = 1_000_000_000;
/// Keys of a run at most.
pub const MOST_KEYS: u64 = 10_000_000;

/// One call of `verify send`: when it began, and a number by chance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Milliseconds since 1970-01-01T00:00Z.
    pub began: i64,
    chance: u32,
}

impl Run {
    pub fn new(began: i64) -> Self {
        Run { began, chance: rand::rng().random() }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.began, self.chance)
    }
}

impl FromStr for Run {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(began, chance)| {
            let chance = Some(chance).filter(|chance| chance.len() == 8);
            Some((began.parse().ok().filter(|began| *began >= 0)?, u32::from_str_radix(chance?, 16).ok()?))
        });
        let (began, chance) = parts.ok_or("a run is named as `verify send` printed it, like 1700000000000-0123abcd")?;
        Ok(Run { began, chance })
    }
}

/// One of the messages, in what is not told by its number alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbered {
    pub run: Run,
    /// From 0.
    pub number: u64,
    /// How many there are.
    pub count: u64,
    /// How many keys they share; 0 for none at all.
    pub keys: u64,
    /// Bytes of its value.
    pub size: usize,
    /// Milliseconds since 1970-01-01T00:00Z.
    pub time: i64,
}

impl Numbered {
    pub fn message(&self) -> Message {
        let mut hasher = DefaultHasher::new();
        // All that the header claims, so that no part of it can change unnoticed.
        (self.run.began, self.run.chance, self.number, self.count, self.keys, self.time).hash(&mut hasher);
        let mut random = SmallRng::seed_from_u64(hasher.finish());
        let mut bytes = |size| {
            let mut bytes = vec![0; size];
            random.fill_bytes(&mut bytes);
            Some(Bytes::from(bytes))
        };
        let mut message = Message::at(Position::Offset(self.number));
        message.key = self.key().map(|key| format!("verify-{key}").into());
        message.value = bytes(self.size);
        message.time = Some(self.time);
        message.headers.push(HEADER, Some(self.header().into()));
        message.headers.push(BINARY_HEADER, bytes(BINARY_BYTES));
        message
    }

    /// Messages with equal ones keep their order.
    pub fn key(&self) -> Option<u64> {
        self.number.checked_rem(self.keys)
    }

    fn header(&self) -> String {
        let Numbered { run, number, count, keys, size, time } = self;
        format!("{run} {number} {count} {keys} {size} {time}")
    }

    /// The claim alone.
    #[cfg(test)]
    pub fn claim(&self) -> trestle_core::Headers {
        std::iter::once(trestle_core::Header { name: HEADER.into(), value: Some(self.header().into()) }).collect()
    }

    /// What the message says it is. Anything may say so: only [`Numbered::message`] shows whether it is right.
    pub fn claimed(message: &Message) -> Option<Self> {
        let header = std::str::from_utf8(message.headers.get(HEADER)?).ok()?;
        let [run, number, count, keys, size, time] = header.split(' ').collect::<Vec<_>>()[..] else { return None };
        let claimed = Numbered {
            run: run.parse().ok()?,
            number: number.parse().ok()?,
            count: count.parse().ok()?,
            keys: keys.parse().ok()?,
            size: size.parse().ok()?,
            time: time.parse().ok()?,
        };
        Some(claimed).filter(|claimed| claimed.count <= MOST && claimed.keys <= MOST_KEYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_what_it_is() {
        let run = Run::new(1_700_000_000_000);
        assert_eq!(run.to_string().parse(), Ok(run));
        for keys in [0, 7] {
            let numbered = Numbered { run, number: 9, count: 10, keys, size: 100, time: run.began + 5 };
            let message = numbered.message();
            assert_eq!(Numbered::claimed(&message), Some(numbered));
            assert_eq!(message, numbered.message(), "always the same");
            assert_eq!(message.key.is_some(), keys > 0);
            assert_ne!(message.value, Numbered { number: 8, ..numbered }.message().value);
        }
    }

    #[test]
    fn what_is_no_run_is_refused() {
        for text in ["", "-", "1", "1-2", "x-0123abcd", "-1-0123abcd", "1-0123abcg", "1-0123abcdef"] {
            assert!(text.parse::<Run>().is_err(), "{text}");
        }
    }
}
