//! Which target partition each message of a batch goes to.

use std::sync::Arc;

use trestle_core::{Batch, PartitionId, Sink, Slice};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// The source partition's number, so that each partition stays alone all the way.
    Same,
    /// Where the target's own clients put the key; the source partition's number for a message without one.
    Key,
    /// One partition after the other, a batch each, whatever the key.
    RoundRobin,
}

/// Cuts what goes on of a batch into one slice a target partition. `going` has its places, ascending; `None`: all of it.
/// `turn` counts the batches that were placed.
pub(super) fn place(
    batch: Batch,
    going: Option<Vec<u32>>,
    placement: Placement,
    turn: usize,
    sink: &dyn Sink,
) -> Vec<(PartitionId, Slice)> {
    let partitions = sink.partitions().max(1);
    let same = PartitionId(batch.partition.0 % partitions);
    let batch = Arc::new(batch);
    let whole = || match &going {
        None => Slice::whole(batch.clone()),
        Some(going) => Slice::picked(batch.clone(), going.clone()),
    };
    let one = match placement {
        _ if partitions == 1 => Some(same),
        Placement::Same => Some(same),
        Placement::RoundRobin => Some(PartitionId((turn % partitions as usize) as u32)),
        Placement::Key => None,
    };
    if let Some(target) = one {
        return vec![(target, whole())].into_iter().filter(|(_, slice)| !slice.is_empty()).collect();
    }
    let mut picks: Vec<(PartitionId, Vec<u32>)> = Vec::new();
    let mut slot_of = vec![usize::MAX; partitions as usize];
    let all = 0..batch.messages.len() as u32;
    for index in going.iter().flatten().copied().chain(all.filter(|_| going.is_none())) {
        let Some(message) = batch.messages.get(index as usize) else { continue };
        let target = message.key.as_ref().map_or(same, |key| sink.place(key));
        // A connector that places outside its own partitions still keeps a key in one place.
        let target = PartitionId(target.0 % partitions);
        let slot = &mut slot_of[target.0 as usize];
        if *slot == usize::MAX {
            *slot = picks.len();
            picks.push((target, Vec::with_capacity(batch.messages.len())));
        }
        picks[*slot].1.push(index);
    }
    if let [(target, _)] = picks[..] {
        return vec![(target, whole())];
    }
    picks.into_iter().map(|(target, indexes)| (target, Slice::picked(batch.clone(), indexes))).collect()
}
