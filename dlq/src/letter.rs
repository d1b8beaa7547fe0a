//! A dead letter as it is read back.

use trestle_core::{Message, PartitionId, Position};

use crate::format::{is_dead_letter, restore, said};

/// The message as it was, and what its dead letter says of it.
#[derive(Clone, Debug)]
pub struct Letter {
    /// As it was before it became a dead letter; its position is the letter's.
    pub message: Message,
    /// Of the dead-letter topic.
    pub partition: PartitionId,
    /// Where its parts stand; one where it is whole.
    pub positions: Vec<Position>,
    /// The same for the same message on the same hop.
    pub id: String,
    pub route: String,
    pub hop: String,
    /// Protocols.
    pub origin: String,
    pub target: String,
    /// `cluster/topic/partition/position`.
    pub source: String,
    pub cause: String,
    pub error: String,
    pub attempts: u32,
    /// Milliseconds since 1970-01-01T00:00Z.
    pub first_failed: Option<i64>,
    pub last_failed: Option<i64>,
    pub replays: u32,
}

impl Letter {
    /// `None` of what is no dead letter. What a header does not say is empty.
    pub fn read(partition: PartitionId, message: &Message) -> Option<Self> {
        if !is_dead_letter(message) {
            return None;
        }
        let text = |name: &str| {
            said(message, name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        Some(Letter {
            message: restore(message),
            partition,
            positions: vec![message.position],
            id: text("id"),
            route: text("route"),
            hop: text("hop"),
            origin: text("origin"),
            target: text("target"),
            source: text("source"),
            cause: text("cause"),
            error: text("error"),
            attempts: text("attempts").parse().unwrap_or_default(),
            first_failed: text("first-failed").parse().ok(),
            last_failed: text("last-failed").parse().ok(),
            replays: text("replays").parse().unwrap_or_default(),
        })
    }

    /// The partition that the message came from.
    pub fn source_partition(&self) -> Option<u32> {
        self.source.rsplit('/').nth(1)?.parse().ok()
    }
}
