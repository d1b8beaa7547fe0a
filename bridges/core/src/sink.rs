use crate::{BoxFuture, Fault, PartitionId, Sent, Slice};

/// Writes one topic.
pub trait Sink: Send + Sync {
    fn limits(&self) -> Limits;

    /// Target partitions now; only grows while the sink lives.
    fn partitions(&self) -> u32;

    /// Where the protocol's own clients put this key.
    fn place(&self, key: &[u8]) -> PartitionId;

    /// Asks the broker of this target partition whether it could take a message now, without writing one. Answers within
    /// the sink's `send_timeout`.
    fn probe(&self, partition: PartitionId) -> BoxFuture<'_, Result<(), Fault>>;

    /// Opens the ordered way into one target partition.
    fn lane(&self, key: LaneKey) -> BoxFuture<'_, Result<Box<dyn Lane>, Fault>>;
}

/// What the lane's owner should gather into one send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages of one send at most.
    pub unit_messages: usize,
    /// Bytes of one send at most, unless one message alone is larger.
    pub unit_bytes: usize,
}

/// Which lane: the target partition, and the source partition where the lane belongs to one alone (a fenced lane).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneKey {
    pub target: PartitionId,
    pub source: Option<PartitionId>,
}

/// The ordered way into one target partition.
pub trait Lane: Send {
    /// Sends that may be in flight at once; their futures resolve in order.
    fn window(&self) -> usize;

    /// Hands one unit over. The order of calls is the order of storage. The future resolves when the fate of every message
    /// is known and the client holds no copy of any: whatever it says of one, no later send may store it.
    ///
    /// After a send that was not wholly `Stored`, sends already in flight end as `NotSent`, `Refused` or `Unknown`, and
    /// the next call starts afresh: the lane has mended or reopened what it needs, or says `Unavailable`.
    fn send(&mut self, unit: Vec<Slice>) -> BoxFuture<'static, Sent>;

    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}
