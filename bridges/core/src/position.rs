use std::fmt;

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
