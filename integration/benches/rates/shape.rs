//! What is measured: which messages, and between which protocols.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Messages of a measurement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Shape {
    pub messages: u64,
    /// Bytes of a value. Values do not compress.
    pub size: usize,
    /// Of every topic.
    pub partitions: u32,
    /// One of 100 keys, placed by the cluster's own hash; else evenly.
    pub keys: bool,
}

/// Bytes of a backlog at most.
const MOST_BYTES: u64 = 512 << 20;

impl Shape {
    /// This shape and those that differ from it in one thing.
    pub fn varied(self) -> Vec<Shape> {
        let sizes = [100, 64 << 10].map(|size| Shape { size, ..self });
        let partitions = [1, 64].map(|partitions| Shape { partitions, ..self });
        let mut shapes = vec![self];
        shapes.extend(sizes.into_iter().chain(partitions).chain([Shape { keys: !self.keys, ..self }]));
        shapes.into_iter().map(Shape::bounded).collect()
    }

    /// With no more messages than a broker's disk should take.
    pub fn bounded(self) -> Shape {
        Shape { messages: self.messages.min(MOST_BYTES / self.size.max(1) as u64).max(1), ..self }
    }

    /// For names of topics.
    pub fn name(&self) -> String {
        let keys = if self.keys { "keys" } else { "plain" };
        format!("{}-{}-{keys}", self.size, self.partitions)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { messages, size, partitions, keys } = self;
        let keys = if *keys { "with" } else { "without" };
        write!(f, "{messages} messages of {size} bytes {keys} keys, {partitions} partitions")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Kafka,
    Pulsar,
    RocketMq,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Kafka, Protocol::Pulsar, Protocol::RocketMq];

    /// Of the cluster in the route table.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Kafka => "kafka",
            Protocol::Pulsar => "pulsar",
            Protocol::RocketMq => "rocketmq",
        }
    }
}

/// What a route carries from where to where.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Pair {
    pub from: Protocol,
    pub via: Option<Protocol>,
    pub to: Protocol,
}

impl Pair {
    /// The nine, and the main job.
    pub fn all() -> Vec<Pair> {
        let to = |from| Protocol::ALL.map(|to| Pair { from, via: None, to });
        let main = Pair { from: Protocol::Kafka, via: Some(Protocol::Pulsar), to: Protocol::RocketMq };
        Protocol::ALL.into_iter().flat_map(to).chain([main]).collect()
    }

    pub fn hops(&self) -> u32 {
        1 + u32::from(self.via.is_some())
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let via = self.via.map_or(String::new(), |via| format!("{}-", via.name()));
        write!(f, "{}-{via}{}", self.from.name(), self.to.name())
    }
}

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Row {
    /// A client alone.
    Read(Protocol),
    Write(Protocol),
    Carry(Pair),
    /// The same once more: what the two differ by is noise.
    Control(Pair),
    /// By the build that is compared.
    Other(Pair),
}

impl Row {
    /// The clients that it cannot do without.
    pub fn limit(self) -> Vec<Row> {
        let (Row::Carry(pair) | Row::Control(pair) | Row::Other(pair)) = self else { return Vec::new() };
        let staged = pair.via.into_iter().flat_map(|via| [Row::Write(via), Row::Read(via)]);
        [Row::Read(pair.from)].into_iter().chain(staged).chain([Row::Write(pair.to)]).collect()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Row::Read(protocol) => write!(f, "read {} alone", protocol.name()),
            Row::Write(protocol) => write!(f, "write {} alone", protocol.name()),
            Row::Carry(pair) => write!(f, "{pair}"),
            Row::Control(pair) => write!(f, "{pair}, again"),
            Row::Other(pair) => write!(f, "{pair}, other build"),
        }
    }
}
