use std::time::{SystemTime, UNIX_EPOCH};

/// The messages of one test: each follows from its number alone, so that nothing has to be remembered.
#[derive(Clone, Debug)]
pub struct Load {
    /// Tells this test's messages from any other's.
    pub run: String,
    pub count: u64,
    /// Distinct keys, used in turn.
    pub keys: u64,
    pub value_bytes: usize,
    /// Which messages differ from the plain ones.
    pub shape: fn(u64) -> Shape,
    /// Create time of message 0, in ms; each further one is 1 ms later.
    pub begin: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Plain,
    NoKey,
    /// A key that is no UTF-8.
    BinaryKey,
    Tombstone,
    Empty,
    /// A header with control characters, one without a value, and one named as RocketMQ names its own.
    OddHeaders,
    /// A header of 40,000 bytes.
    LongHeader,
    /// A value of so many bytes.
    Large(usize),
}

/// What has to arrive unchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// ms since 1970.
    pub time: Option<i64>,
}

/// Header with the message's number.
const NUMBER: &str = "n";
const RUN: &str = "run";

impl Load {
    pub fn new(run: impl Into<String>, count: u64) -> Load {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        // In the past: Kafka refuses times far ahead.
        Load { run: run.into(), count, keys: 50, value_bytes: 200, shape: |_| Shape::Plain, begin: now - 3_600_000 }
    }

    pub fn message(&self, number: u64) -> Content {
        let shape = (self.shape)(number);
        let plain_key = format!("key-{}", number % self.keys);
        let header = |name: &str, value: &str| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        let mut headers = vec![
            header(NUMBER, &number.to_string()),
            header("repeated", "first"),
            header(RUN, &self.run),
            header("repeated", "second"),
        ];
        if shape == Shape::OddHeaders {
            headers.push(header("control", "a\u{1}b\u{2}c\n"));
            headers.push((b"none".to_vec(), None));
            headers.push(header("KEYS", "not the key"));
        }
        if shape == Shape::LongHeader {
            headers.push(header("long", &"x".repeat(40_000)));
        }
        Content {
            key: match shape {
                Shape::NoKey => None,
                Shape::BinaryKey => Some(vec![0xFF, 0xFE, 0, number as u8 % 4]),
                _ => Some(plain_key.into_bytes()),
            },
            value: match shape {
                Shape::Tombstone => None,
                Shape::Empty => Some(Vec::new()),
                Shape::Large(bytes) => Some(self.value(number, bytes)),
                _ => Some(self.value(number, self.value_bytes)),
            },
            headers,
            time: Some(self.begin + number as i64),
        }
    }

    /// The number, bytes that follow from it, and their checksum: whatever arrives changed or cut cannot look right.
    fn value(&self, number: u64, bytes: usize) -> Vec<u8> {
        let mut value = number.to_be_bytes().to_vec();
        let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        while value.len() + 8 < bytes {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let room = bytes - 8 - value.len();
            value.extend(state.to_be_bytes().into_iter().take(room));
        }
        let sum = checksum(&value);
        value.extend(sum.to_be_bytes());
        value
    }

    /// The number that a message of this load says to have.
    pub fn number(&self, found: &Content) -> Option<u64> {
        let header =
            |name: &str| found.headers.iter().find(|(n, _)| n == name.as_bytes()).and_then(|(_, v)| v.as_deref());
        if header(RUN)? != self.run.as_bytes() {
            return None;
        }
        let number = std::str::from_utf8(header(NUMBER)?).ok()?.parse().ok()?;
        (number < self.count).then_some(number)
    }

    /// What of it differs from what was sent.
    pub fn differences(&self, number: u64, found: &Content) -> Vec<&'static str> {
        let sent = self.message(number);
        let parts = [
            ("key", sent.key == found.key),
            ("value", sent.value == found.value),
            ("headers", sent.headers == found.headers),
            ("time", sent.time == found.time),
        ];
        parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part).collect()
    }
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_number_and_any_change_of_it_is_seen() {
        let load = Load { shape: |n| if n == 3 { Shape::OddHeaders } else { Shape::Plain }, ..Load::new("run", 10) };
        let sent = load.message(3);
        assert_eq!((load.number(&sent), load.differences(3, &sent)), (Some(3), vec![]));
        let change = |change: &dyn Fn(&mut Content)| {
            let mut found = sent.clone();
            change(&mut found);
            load.differences(3, &found)
        };
        assert_eq!(change(&|m| m.key = Some(Vec::new())), ["key"]);
        assert_eq!(change(&|m| m.value.as_mut().unwrap()[20] ^= 1), ["value"]);
        assert_eq!(change(&|m| m.headers.swap(1, 3)), ["headers"]);
        assert_eq!(change(&|m| m.time = None), ["time"]);
    }

    #[test]
    fn a_message_of_another_run_or_beyond_the_count_has_no_number() {
        let load = Load::new("run", 10);
        assert_eq!(load.number(&Load::new("other", 10).message(3)), None);
        assert_eq!(load.number(&Load::new("run", 20).message(15)), None);
        assert_eq!(load.number(&Content::default()), None);
    }

    #[test]
    fn values_have_the_asked_size() {
        let load = Load { value_bytes: 1001, ..Load::new("run", 10) };
        assert_eq!(load.message(1).value.unwrap().len(), 1001);
        assert_ne!(load.message(1).value, load.message(2).value);
    }
}
