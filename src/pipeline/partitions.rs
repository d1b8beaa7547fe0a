//! The source partitions a hop reads: what each holds, and how much more it may ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use trestle_core::{LaneKey, PartitionId, SourceControl, Tracker};

use super::budget::Budget;

/// How far the newest message handed out may be ahead of the settled prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxAhead {
    pub messages: usize,
    pub bytes: usize,
}

impl Default for MaxAhead {
    fn default() -> Self {
        MaxAhead { messages: 10_000, bytes: 64 << 20 }
    }
}

pub(super) struct Partition {
    pub tracker: Arc<Tracker>,
    /// Bytes of its batches that live.
    pub held: Arc<AtomicUsize>,
    /// What the source may still hand out, by our count.
    granted: u64,
    /// Lanes whose gates are closed for long and that have messages of this partition.
    pub blocked_by: BTreeSet<LaneKey>,
    /// Left alone until it is assigned again: its lane was taken over, or it has a gap that the route stops at.
    pub abandoned: bool,
}

pub(super) struct Partitions {
    all: BTreeMap<PartitionId, Partition>,
    budget: Arc<Budget>,
    max_ahead: MaxAhead,
    stopped: bool,
}

impl Partitions {
    pub fn new(budget: Arc<Budget>, max_ahead: MaxAhead) -> Self {
        Partitions { all: BTreeMap::new(), budget, max_ahead, stopped: false }
    }

    pub fn assign(&mut self, tracker: Arc<Tracker>) {
        let partition =
            Partition { tracker, held: Arc::default(), granted: 0, blocked_by: BTreeSet::new(), abandoned: false };
        self.all.insert(partition.tracker.partition(), partition);
    }

    pub fn revoke(&mut self, partition: PartitionId) -> Option<Partition> {
        self.all.remove(&partition)
    }

    pub fn get(&self, partition: PartitionId) -> Option<&Partition> {
        self.all.get(&partition)
    }

    pub fn get_mut(&mut self, partition: PartitionId) -> Option<&mut Partition> {
        self.all.get_mut(&partition)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PartitionId, &Partition)> {
        self.all.iter()
    }

    /// No partition is given credit any more.
    pub fn stop(&mut self, control: &dyn SourceControl) {
        self.stopped = true;
        self.refresh_all(control);
    }

    /// The source begins a partition without credit.
    pub fn started(&mut self, partition: PartitionId) {
        if let Some(partition) = self.all.get_mut(&partition) {
            partition.granted = 0;
        }
    }

    /// Counts a batch that was handed out.
    pub fn handed_out(&mut self, partition: PartitionId, bytes: usize) {
        if let Some(partition) = self.all.get_mut(&partition) {
            partition.granted = partition.granted.saturating_sub(bytes as u64);
        }
    }

    pub fn block(&mut self, partition: PartitionId, lane: LaneKey) {
        if let Some(partition) = self.all.get_mut(&partition) {
            partition.blocked_by.insert(lane);
        }
    }

    pub fn unblock(&mut self, lane: LaneKey) {
        for partition in self.all.values_mut() {
            partition.blocked_by.remove(&lane);
        }
    }

    /// Partitions that have no credit now.
    pub fn paused(&self) -> usize {
        self.all.values().filter(|p| p.granted == 0).count()
    }

    pub fn refresh_all(&mut self, control: &dyn SourceControl) {
        let partitions: Vec<_> = self.all.keys().copied().collect();
        for partition in partitions {
            self.refresh(partition, control);
        }
    }

    /// Brings the source's credit in line with what the partition may have, where the two differ by enough to say so.
    pub fn refresh(&mut self, partition: PartitionId, control: &dyn SourceControl) {
        let Some(state) = self.all.get_mut(&partition) else { return };
        let (messages, bytes) = state.tracker.ahead();
        let barred = self.stopped || state.abandoned || !state.blocked_by.is_empty();
        let credit = if barred || messages >= self.max_ahead.messages || bytes >= self.max_ahead.bytes {
            0
        } else {
            self.budget.credit(state.held.load(Ordering::Acquire))
        };
        let worth_it = credit > 0 && state.granted <= credit / 2;
        if state.granted > credit || worth_it {
            state.granted = credit;
            control.credit(partition, credit);
        }
    }
}
