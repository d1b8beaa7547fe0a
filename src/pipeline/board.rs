//! What the lanes of a hop tell the hop, and what it tells them all.

use std::{
    collections::BTreeSet,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};
use trestle_core::{LaneKey, PartitionId, Slice};

use super::inbox::Inbox;

pub(super) struct Board {
    notes: Mutex<Notes>,
    /// Wakes the hop to read the notes.
    pub wake: Notify,
    /// Moves when an epoch ended: lanes drop what they hold of it.
    sweeps: watch::Sender<u64>,
    draining: AtomicBool,
}

#[derive(Default)]
pub(super) struct Notes {
    /// Source partitions that gave memory back and may ask for more.
    pub released: BTreeSet<PartitionId>,
    pub lanes: Vec<LaneNote>,
}

pub(super) enum LaneNote {
    /// The lane's gate is closed for long, and it dropped what it held of this partition.
    Blocks(LaneKey, PartitionId),
    /// The gate lets messages through again.
    Unblocks(LaneKey),
    /// Another owns the lane now. The inbox tells which lane is meant: ours may be there again under the same key.
    Fenced(LaneKey, Arc<Inbox>),
}

impl Board {
    pub fn new() -> Self {
        Board {
            notes: Mutex::default(),
            wake: Notify::new(),
            sweeps: watch::channel(0).0,
            draining: AtomicBool::new(false),
        }
    }

    pub fn released(&self, partition: PartitionId) {
        self.note(|notes| {
            notes.released.insert(partition);
        });
    }

    pub fn tell(&self, note: LaneNote) {
        self.note(|notes| notes.lanes.push(note));
    }

    pub fn take(&self) -> Notes {
        mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, write: impl FnOnce(&mut Notes)) {
        write(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Gives slices back unsent: their epochs end, so that nothing of the same partition overtakes them in any lane.
    pub fn give_back(&self, slices: impl IntoIterator<Item = Slice>) {
        for slice in slices {
            // No new epoch can have begun: it waits until this slice is gone.
            if slice.batch().is_current() {
                slice.batch().ack.tracker().end_epoch();
            }
        }
        self.sweep();
    }

    /// Tells every lane to drop what it holds of ended epochs.
    pub fn sweep(&self) {
        self.sweeps.send_modify(|sweeps| *sweeps = sweeps.wrapping_add(1));
    }

    pub fn sweeps(&self) -> watch::Receiver<u64> {
        self.sweeps.subscribe()
    }

    /// From now on a lane with a closed gate gives back what it holds at once.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.sweep();
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
