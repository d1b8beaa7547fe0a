//! The source partitions a hop reads: what each holds, and how much more it may ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use tokio::time::Instant;
use trestle_core::{Batch, LaneKey, PartitionId, SourceControl, Tracker};

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
    /// When it last handed something out, or was given credit again.
    heard: Instant,
    /// When the last message of it was written, in milliseconds since 1970-01-01T00:00Z; before any: when it was assigned.
    pub written: i64,
    /// Lanes whose gates are closed for long and that have messages of this partition.
    pub blocked_by: BTreeSet<LaneKey>,
    /// Left alone until it is assigned again: its lane was taken over, or it has a gap that the route stops at.
    pub abandoned: bool,
}

impl Partition {
    /// Since when it has handed nothing out although it may; nothing while it may not.
    pub fn quiet_since(&self) -> Option<Instant> {
        (self.granted > 0 && !self.abandoned && self.blocked_by.is_empty()).then_some(self.heard)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
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
        let partition = Partition {
            tracker,
            held: Arc::default(),
            granted: 0,
            heard: Instant::now(),
            written: i64::MAX,
            blocked_by: BTreeSet::new(),
            abandoned: false,
        };
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
    pub fn handed_out(&mut self, batch: &Batch) {
        if let Some(partition) = self.all.get_mut(&batch.partition) {
            partition.granted = partition.granted.saturating_sub(batch.bytes as u64);
            partition.heard = Instant::now();
            partition.written = now_ms().min(batch.messages.last().and_then(|m| m.time).unwrap_or(i64::MAX));
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
            if state.granted == 0 {
                state.heard = Instant::now();
            }
            state.granted = credit;
            control.credit(partition, credit);
        }
    }
}
