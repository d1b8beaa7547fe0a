//! What a message that fails may hold back: all of its lane, its own key, or nothing.

use bytes::Bytes;
use trestle_core::{Message, PartitionId, Position};

/// A route's `order` setting. Each promises the order of first deliveries from one source partition into one target
/// partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// All of it is in order: a message that fails is waited for in its place.
    #[default]
    Partition,
    /// Each key is in order: a message that fails waits apart, and with it what follows of its key. A message without a key
    /// waits alone.
    Key,
    /// Nothing is: a message that fails waits apart, alone.
    None,
}

/// How a lane sets messages aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetAside {
    pub order: Order,
    /// Messages that may wait apart in one lane; with more the lane waits for them.
    pub most: usize,
}

impl Default for SetAside {
    fn default() -> Self {
        SetAside { order: Order::Partition, most: 1_000 }
    }
}

/// Messages that wait together because a promise orders them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Together {
    Key(PartitionId, Bytes),
    Alone(PartitionId, Position),
}

impl Order {
    /// What waits together with this message of a source partition.
    pub fn together(self, partition: PartitionId, message: &Message) -> Together {
        match &message.key {
            Some(key) if self == Order::Key => Together::Key(partition, key.clone()),
            _ => Together::Alone(partition, message.position),
        }
    }
}

impl Together {
    pub fn has(&self, of: PartitionId, message: &Message) -> bool {
        match self {
            Together::Key(partition, key) => *partition == of && message.key.as_ref() == Some(key),
            Together::Alone(partition, position) => *partition == of && message.position == *position,
        }
    }
}
