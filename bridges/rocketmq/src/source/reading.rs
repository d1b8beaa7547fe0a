//! One queue while it is ours: what is ordered of its reader, and how far it may be committed.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Notify, mpsc};
use trestle_core::{Event, Fault, PartitionId, Position, Start, Tracker};

use super::{group::Group, passed::Passed};
use crate::route::Queue;

pub type Events = mpsc::Sender<Result<Event, Fault>>;

pub struct Reading {
    pub queue: Queue,
    pub tracker: Arc<Tracker>,
    /// Where to begin when the group has no position.
    pub otherwise: Start,
    orders: Mutex<Orders>,
    pub wake: Arc<Notify>,
    /// The offset behind the last message, as the latest pull told.
    pub end: AtomicU64,
    /// The offset of the next message to commit, for the lag.
    pub next: AtomicU64,
    passed: Mutex<Passed>,
    /// The broker is known to have a position of the group.
    pub has_position: AtomicBool,
    /// Commits go one at a time: a later one must not be overtaken.
    committing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub struct Orders {
    pub start: Option<Option<Position>>,
    pub credit: u64,
}

impl Reading {
    pub fn new(queue: Queue, partition: PartitionId, otherwise: Start) -> Arc<Reading> {
        let wake = Arc::new(Notify::new());
        let waker = wake.clone();
        Arc::new(Reading {
            queue,
            tracker: Tracker::new(partition, move || waker.notify_one()),
            otherwise,
            orders: Mutex::default(),
            wake,
            end: AtomicU64::new(0),
            next: AtomicU64::new(0),
            passed: Mutex::default(),
            has_position: AtomicBool::new(false),
            committing: tokio::sync::Mutex::new(()),
        })
    }

    pub fn start(&self, from: Option<Position>) {
        *self.orders() = Orders { start: Some(from), credit: 0 };
        self.wake.notify_one();
    }

    pub fn credit(&self, bytes: u64) {
        self.orders().credit = bytes;
        self.wake.notify_one();
    }

    /// Messages between the committed position and the end of the queue.
    pub fn behind(&self) -> u64 {
        self.end.load(Ordering::Relaxed).saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// Commits what is settled, and returns when the broker confirmed it.
    pub async fn commit(&self, group: &Group) -> Result<(), Fault> {
        let _one_at_a_time = self.committing.lock().await;
        let Some(due) = self.due() else { return Ok(()) };
        if self.has_position.load(Ordering::Relaxed) {
            group.commit(&self.queue, due.next).await?;
        } else {
            group.commit_first(&self.queue, due.next).await?;
            self.has_position.store(true, Ordering::Relaxed);
        }
        if let Some(settled) = due.settled {
            self.tracker.committed(Position::Offset(settled));
            self.passed().commit(settled);
        }
        self.next.fetch_max(due.next, Ordering::Relaxed);
        Ok(())
    }

    /// What can be committed now, if it is more than was.
    pub fn due(&self) -> Option<Due> {
        let settled = match self.tracker.commit_point() {
            Some(Position::Offset(settled)) => Some(settled),
            // It may be another's by now.
            _ if self.tracker.ended() => return None,
            _ => None,
        };
        let next = self.passed().next(settled);
        (settled.is_some() || next > self.next.load(Ordering::Relaxed)).then_some(Due { settled, next })
    }

    pub fn passed(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A position to commit.
pub struct Due {
    /// The last message that is settled, if it was not committed before.
    settled: Option<u64>,
    /// The offset of the next message that a group with this position gets.
    next: u64,
}
