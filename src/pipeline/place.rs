//! Which target partition each message of a batch goes to.

use std::sync::Arc;

use trestle_core::{Batch, PartitionId, Sink, Slice};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// The source partition's number, so that each partition stays alone all the way.
    Same,
    /// Where the target's own clients put the key; the source partition's number for a message without one.
    Key,
}

/// Cuts a batch into one slice a target partition.
pub(super) fn place(batch: Batch, placement: Placement, sink: &dyn Sink) -> Vec<(PartitionId, Slice)> {
    let partitions = sink.partitions().max(1);
    let same = PartitionId(batch.partition.0 % partitions);
    let batch = Arc::new(batch);
    if placement == Placement::Same || partitions == 1 {
        return vec![(same, Slice::whole(batch))];
    }
    let mut picks: Vec<(PartitionId, Vec<u32>)> = Vec::new();
    let mut slot_of = vec![usize::MAX; partitions as usize];
    for (index, message) in batch.messages.iter().enumerate() {
        let target = message.key.as_ref().map_or(same, |key| sink.place(key));
        // A connector that places outside its own partitions still keeps a key in one place.
        let target = PartitionId(target.0 % partitions);
        let slot = &mut slot_of[target.0 as usize];
        if *slot == usize::MAX {
            *slot = picks.len();
            picks.push((target, Vec::with_capacity(batch.messages.len())));
        }
        picks[*slot].1.push(index as u32);
    }
    if let [(target, _)] = picks[..] {
        return vec![(target, Slice::whole(batch))];
    }
    picks.into_iter().map(|(target, indexes)| (target, Slice::picked(batch.clone(), indexes))).collect()
}
