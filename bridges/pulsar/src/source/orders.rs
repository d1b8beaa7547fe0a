//! What the pipeline asks of a partition, handed to the task that reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use trestle_core::{Fault, Position, Tracker};

/// Commits of one partition that may wait for an answer at once.
const COMMITS: usize = 64;

#[derive(Default)]
pub(super) struct Orders {
    open: Mutex<Open>,
    assigned: Mutex<Option<Arc<Tracker>>>,
    pub wake: Notify,
    /// Holds a permit once [`Orders::close`] was called: what waits for the pipeline then waits no longer.
    closing: Notify,
}

/// Orders not yet taken; newer ones replace older ones.
#[derive(Default)]
pub(super) struct Open {
    pub start: Option<Option<Position>>,
    pub credit: Option<u64>,
    pub commits: Vec<oneshot::Sender<Result<(), Fault>>>,
    /// It is time to commit what is settled.
    pub tick: bool,
    pub close: bool,
}

impl Orders {
    pub fn start(&self, from: Option<Position>) {
        let mut open = self.lock();
        open.start = Some(from);
        open.credit = None;
        drop(open);
        self.wake.notify_one();
    }

    pub fn credit(&self, bytes: u64) {
        self.lock().credit = Some(bytes);
        self.wake.notify_one();
    }

    /// The receiver gets an answer, or ends when there is nobody left to give one.
    pub fn commit(&self) -> oneshot::Receiver<Result<(), Fault>> {
        let (answer, answered) = oneshot::channel();
        let mut open = self.lock();
        if open.commits.len() < COMMITS {
            open.commits.push(answer);
        } else {
            let _ = answer.send(Err(Fault::down(format!("{COMMITS} commits wait for an answer already"))));
        }
        drop(open);
        self.wake.notify_one();
        answered
    }

    /// Time to commit: wakes the task if anything was settled since the last time.
    pub fn tick(&self) {
        let assigned = self.assigned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if assigned.is_some_and(|tracker| tracker.has_to_commit()) {
            self.lock().tick = true;
            self.wake.notify_one();
        }
    }

    /// An assignment begins, or ended. Orders that were meant for the one before are void.
    pub fn assign(&self, tracker: Option<Arc<Tracker>>) {
        *self.assigned.lock().unwrap_or_else(PoisonError::into_inner) = tracker;
        let mut open = self.lock();
        (open.start, open.credit) = (None, None);
    }

    pub fn close(&self) {
        self.lock().close = true;
        self.closing.notify_one();
        self.wake.notify_one();
    }

    /// Resolves at once when the partition is to be closed.
    pub async fn closing(&self) {
        self.closing.notified().await;
        self.closing.notify_one();
    }

    pub fn take(&self) -> Open {
        let mut open = self.lock();
        let close = open.close;
        std::mem::replace(&mut *open, Open { close, ..Open::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // No change above can panic half way.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
