use crate::{BoxFuture, Fault, PartitionId, Position};

/// Which messages of a topic a group has dealt with, in any order. For the few messages that people deal with one by one,
/// such as dead letters; what a bridge reads is committed by its source.
pub trait Marks: Send {
    /// Whether the message was marked when this was opened, or has been since.
    fn has(&self, partition: PartitionId, position: Position) -> bool;

    /// Marks messages of one partition; resolves when the cluster has confirmed it. With `upto`, everything up to that
    /// message is dealt with as well, so that the cluster need not keep it.
    fn mark(
        &mut self,
        partition: PartitionId,
        positions: Vec<Position>,
        upto: Option<Position>,
    ) -> BoxFuture<'_, Result<(), Fault>>;
}
