//! What the pipeline asks of the source, handed to the task that reads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use trestle_core::{Fault, Position};

/// Commits that may wait for an answer at once.
const COMMITS: usize = 64;

pub type Answer = oneshot::Sender<Result<(), Fault>>;

#[derive(Default)]
pub struct Orders {
    open: Mutex<Open>,
    pub wake: Notify,
}

/// Orders not yet taken; newer ones replace older ones.
#[derive(Default)]
pub struct Open {
    pub start: Option<Option<Position>>,
    pub credit: Option<u64>,
    pub commits: Vec<Answer>,
    pub close: bool,
}

impl Orders {
    pub fn start(&self, from: Option<Position>) {
        let mut open = self.lock();
        (open.start, open.credit) = (Some(from), None);
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

    pub fn close(&self) {
        self.lock().close = true;
        self.wake.notify_one();
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
