use std::{fmt, str::FromStr};

/// Number of a partition within one topic: a Kafka partition, a Pulsar partition (0 for a topic without partitions), or
/// the index of a RocketMQ queue in the topic's sorted queue list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One stretch of reading a partition forward. A rewind ends it and starts the next; numbers only grow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u64);

/// Where a message stands in its source partition. Positions of one partition are of one kind and grow in reading order;
/// the pipeline compares them and hands them back, nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Position {
    /// A log offset (Kafka, RocketMQ).
    Offset(u64),
    /// A place in a ledger; `index` counts within a batch entry and is 0 for a message that has an entry of its own.
    Entry { ledger: u64, entry: u64, index: u32 },
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Offset(offset) => write!(f, "{offset}"),
            Position::Entry { ledger, entry, index } => write!(f, "{ledger}:{entry}:{index}"),
        }
    }
}

/// It is no position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    /// As [`Display`](fmt::Display) writes it.
    fn from_str(text: &str) -> Result<Self, NoPosition> {
        fn number<T: FromStr>(text: &str) -> Result<T, NoPosition> {
            text.parse().map_err(|_| NoPosition)
        }
        match text.split(':').collect::<Vec<_>>()[..] {
            [offset] => Ok(Position::Offset(number(offset)?)),
            [ledger, entry, index] => {
                Ok(Position::Entry { ledger: number(ledger)?, entry: number(entry)?, index: number(index)? })
            }
            _ => Err(NoPosition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        for position in [Position::Offset(7), Position::Entry { ledger: 1, entry: 2, index: 3 }] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in ["", "x", "7:8", "7:8:9:1", "-1", "1:2:-1"] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}
