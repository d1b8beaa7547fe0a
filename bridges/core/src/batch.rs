use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use crate::{Epoch, Message, PartitionId, Tracker};

/// Messages of one source partition that arrived together, in ascending position. Made by [`Tracker::admit`].
pub struct Batch {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub messages: Vec<Message>,
    pub ack: Ack,
    /// Bytes charged: the sum of [`Message::size`].
    pub bytes: usize,
    /// How many of the messages were handed out before, in an earlier epoch.
    pub repeated: usize,
    pub received: Instant,
    /// Held as long as the batch lives: the pipeline hangs its share of the memory budget here.
    pub guard: Option<Box<dyn std::any::Any + Send + Sync>>,
}

impl Batch {
    /// False once the batch's epoch ended: what of it is not yet sent must be dropped.
    pub fn is_current(&self) -> bool {
        self.ack.tracker.is_current(self.epoch)
    }
}

/// The duty to acknowledge a batch. Settling is final and may come in any order; dropping it with anything unsettled
/// ends the epoch, so that the source reads again from the lowest unsettled position. A drop does no I/O.
pub struct Ack {
    tracker: Arc<Tracker>,
    epoch: Epoch,
    sequences: Sequences,
    unsettled: AtomicU32,
}

/// The tracker's number of each message of a batch.
pub(crate) enum Sequences {
    From(u64),
    List(Vec<u64>),
}

impl Sequences {
    fn get(&self, index: u32) -> u64 {
        match self {
            Sequences::From(first) => first + u64::from(index),
            Sequences::List(all) => all[index as usize],
        }
    }
}

impl Ack {
    pub(crate) fn new(tracker: Arc<Tracker>, epoch: Epoch, sequences: Sequences, messages: usize) -> Self {
        Ack { tracker, epoch, sequences, unsettled: AtomicU32::new(messages as u32) }
    }

    pub fn tracker(&self) -> &Arc<Tracker> {
        &self.tracker
    }

    /// Settles the messages at these indexes of the batch. Each index must be settled once at most.
    pub fn settle(&self, indexes: impl ExactSizeIterator<Item = u32>) {
        let count = indexes.len() as u32;
        let before = self.unsettled.fetch_sub(count, Ordering::AcqRel);
        debug_assert!(before >= count, "a message was settled twice");
        self.tracker.settle(indexes.map(|i| self.sequences.get(i)));
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.tracker.batch_gone(self.epoch, *self.unsettled.get_mut() == 0);
    }
}
