use std::sync::Arc;

use tokio::time::Instant;
use trestle_core::{LaneKey, Message, PartitionId, Position, Sent};

/// A message that a partition has, or had before it was cut.
#[derive(Clone, Debug)]
pub struct Stored {
    /// As it is read: its position is the offset it got here.
    pub message: Message,
    pub offset: u64,
    pub by: Writer,
    pub at: Instant,
}

/// Who stored a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Writer {
    /// [`Cluster::produce`](crate::Cluster::produce).
    Test,
    Lane {
        /// Different for each lane ever opened; a later lane has a larger number.
        lane: u64,
        route: String,
        hop: &'static str,
        key: LaneKey,
        /// Where the message was read.
        origin: (PartitionId, Position),
    },
}

/// One send that a lane was asked for.
#[derive(Clone, Debug)]
pub struct Sending {
    /// As in [`Writer::Lane`].
    pub lane: u64,
    /// Where each message was read.
    pub origins: Arc<[(PartitionId, Position)]>,
    pub at: Instant,
    /// What was answered and when; nothing while it is in flight, or when its future was dropped.
    pub answer: Option<(Sent, Instant)>,
}

/// One partition: an append-only log that may have holes and may lose its beginning.
#[derive(Default)]
pub(crate) struct Log {
    /// Ascending by offset; what was cut stays here for the oracle.
    stored: Vec<Stored>,
    /// The first offset that can still be read.
    start: u64,
    end: u64,
}

impl Log {
    pub fn append(&mut self, message: Message, by: Writer) -> u64 {
        let offset = self.end;
        let message = Message { position: Position::Offset(offset), ..message };
        self.stored.push(Stored { message, offset, by, at: Instant::now() });
        self.end += 1;
        offset
    }

    /// The next `offsets` offsets will never have a message, as after an aborted transaction.
    pub fn hole(&mut self, offsets: u64) {
        self.end += offsets;
    }

    /// Retention: what is below `offset` can no longer be read.
    pub fn cut(&mut self, offset: u64) {
        self.start = self.start.max(offset.min(self.end));
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    /// The offset of the next message stored.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The first offset of a message dated so or later, in milliseconds; the end when there is none.
    pub fn dated(&self, time: i64) -> u64 {
        let late = |stored: &&Stored| stored.message.time.is_some_and(|t| t >= time);
        self.read(0).iter().find(late).map_or(self.end, |stored| stored.offset)
    }

    /// Everything ever stored.
    pub fn stored(&self) -> &[Stored] {
        &self.stored
    }

    /// What can be read at `offset` and above.
    pub fn read(&self, offset: u64) -> &[Stored] {
        let from = offset.max(self.start);
        self.stored.get(self.stored.partition_point(|s| s.offset < from)..).unwrap_or_default()
    }
}
