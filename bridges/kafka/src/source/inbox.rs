use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::oneshot;
use trestle_core::{Fault, PartitionId, Position};

use super::lookup::Found;
use crate::native::Queue;

/// What others want of the reading thread. What is asked twice is kept once, so it holds at most one request of each kind
/// a partition, and one entry for each caller that waits for a commit.
#[derive(Default)]
pub(super) struct Inbox {
    requests: Mutex<Requests>,
    /// The queue the thread waits at, while there is one.
    queue: Mutex<Option<Queue>>,
    /// The thread waits, or is about to.
    waiting: AtomicBool,
    /// The thread found no room for an event.
    starved: AtomicBool,
}

#[derive(Default)]
pub(super) struct Requests {
    pub starts: BTreeMap<PartitionId, Option<Position>>,
    pub credits: BTreeMap<PartitionId, u64>,
    /// Partitions whose tracker may have a new place to read from.
    pub restarts: BTreeSet<PartitionId>,
    pub commits: Vec<CommitRequest>,
    pub found: Vec<Found>,
    pub room: bool,
    pub close: bool,
}

pub(super) struct CommitRequest {
    pub partitions: Vec<PartitionId>,
    pub answer: oneshot::Sender<Result<(), Fault>>,
}

impl Inbox {
    pub(super) fn ask(&self, request: impl FnOnce(&mut Requests)) {
        request(&mut lock(&self.requests));
        if self.waiting.swap(false, Ordering::AcqRel)
            && let Some(queue) = &*lock(&self.queue)
        {
            queue.wake();
        }
    }

    /// Something was fetched.
    pub(super) fn fetched(&self) {
        self.ask(|_| {});
    }

    /// Tells the thread that there is room for events again, if it waits for that.
    pub(super) fn made_room(&self) {
        if self.starved.swap(false, Ordering::AcqRel) {
            self.ask(|requests| requests.room = true);
        }
    }

    pub(super) fn starve(&self) {
        self.starved.store(true, Ordering::Release);
    }

    pub(super) fn take(&self) -> Requests {
        // Said before looking: a request that comes after the look wakes the poll, also one that has not begun.
        self.waiting.store(true, Ordering::Release);
        mem::take(&mut lock(&self.requests))
    }

    /// The thread waits no longer.
    pub(super) fn awake(&self) {
        self.waiting.store(false, Ordering::Release);
    }

    pub(super) fn closing(&self) -> bool {
        lock(&self.requests).close
    }

    /// The queue to wake from now on; `None` before its client is destroyed.
    pub(super) fn attach(&self, queue: Option<Queue>) {
        *lock(&self.queue) = queue;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is changed under these locks is whole after each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
