//! Where the hop leaves slices for a lane. Bounded by the credit of the source partitions that feed it: a partition
//! without credit adds nothing, and what it may add in all is `max_ahead`.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;
use trestle_core::Slice;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Slice>,
    closed: bool,
}

impl Inbox {
    pub fn put(&self, slice: Slice) {
        self.state().queue.push_back(slice);
        self.changed.notify_one();
    }

    /// Nothing more comes; the lane ends when it has no more to do.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    pub fn take(&self) -> VecDeque<Slice> {
        mem::take(&mut self.state().queue)
    }

    /// Resolves when something was put or the inbox was closed since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
