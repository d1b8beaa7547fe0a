mod ordered;
mod unordered;

use std::{
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

use self::{ordered::Ordered, unordered::Unordered};
use crate::{Ack, Batch, Epoch, Message, PartitionId, Position, batch::Sequences};

/// What one assignment of one source partition has handed out and what of it is settled.
///
/// [`Tracker::new`] is for a partition that is read in order and committed as a prefix. It remembers every position between
/// the settled prefix and the newest one handed out, across epochs, so that a rewind skips what settled above the prefix.
/// Sources read, `admit`, restart where [`Tracker::restart`] says, and commit [`Tracker::commit_point`].
///
/// [`Tracker::unordered`] is for one that several members read at the same time: messages come in any order, and each is
/// committed on its own. Sources read, `admit`, commit [`Tracker::commit_points`], and where [`Tracker::restart`] answers
/// give back to the group whatever is not settled. It remembers what is in somebody's hands, and what is settled until the
/// broker has confirmed it.
///
/// The pipeline settles through [`Ack`] and need not know which one it has.
pub struct Tracker {
    partition: PartitionId,
    /// The current epoch, or [`NO_EPOCH`] between epochs and after the end; read without the lock.
    current: AtomicU64,
    state: Mutex<State>,
    /// Called when a rewind has become possible. Must not block.
    wake: Box<dyn Fn() + Send + Sync>,
    /// Notified when the last live batch is gone.
    idle: Notify,
}

const NO_EPOCH: u64 = u64::MAX;

struct State {
    epoch: u64,
    live_batches: usize,
    end: Option<End>,
    known: Known,
}

enum Known {
    Ordered(Ordered),
    Unordered(Unordered),
}

/// Messages to hand out, and their numbers.
struct Admitted {
    messages: Vec<Message>,
    sequences: Sequences,
    bytes: usize,
    /// How many were handed out before, in an earlier epoch.
    repeated: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Revoked,
    Lost,
}

/// Where a new epoch begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// At this message.
    At(Position),
    /// Behind this message.
    After(Position),
    /// Where the assignment was started: nothing was handed out yet. Of an unordered tracker always: the group itself knows
    /// what of it is not settled.
    AtStart,
}

impl Tracker {
    /// `wake` is called, from any thread, whenever [`Tracker::restart`] would answer.
    pub fn new(partition: PartitionId, wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Tracker::with(Known::Ordered(Ordered::default()), partition, wake)
    }

    /// As [`Tracker::new`], for a partition of which each message is committed on its own.
    pub fn unordered(partition: PartitionId, wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Tracker::with(Known::Unordered(Unordered::default()), partition, wake)
    }

    fn with(known: Known, partition: PartitionId, wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Tracker {
            partition,
            current: AtomicU64::new(0),
            state: Mutex::new(State { epoch: 0, live_batches: 0, end: None, known }),
            wake: Box::new(wake),
            idle: Notify::new(),
        })
    }

    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Makes a batch of messages in ascending order, leaving out what is settled already and what this epoch handed out
    /// before. `None` when nothing is left, or when the epoch is over: then they are read again later.
    pub fn admit(self: &Arc<Self>, messages: Vec<Message>) -> Option<Batch> {
        let mut state = self.lock();
        if self.current.load(Ordering::Acquire) == NO_EPOCH {
            return None;
        }
        let epoch = Epoch(state.epoch);
        let received = Instant::now();
        let admitted = match &mut state.known {
            Known::Ordered(ordered) => ordered.admit(messages, received),
            Known::Unordered(unordered) => unordered.admit(messages, received),
        };
        let Admitted { messages, sequences, bytes, repeated } = admitted?;
        state.live_batches += 1;
        let ack = Ack::new(self.clone(), epoch, sequences, messages.len());
        Some(Batch { partition: self.partition, epoch, messages, ack, bytes, repeated, received, guard: None })
    }

    /// Whether `epoch` still runs. Cheap: asked for every slice.
    pub fn is_current(&self, epoch: Epoch) -> bool {
        self.current.load(Ordering::Acquire) == epoch.0
    }

    /// False between epochs and after the end: nothing is handed out then, so that reading would be for nothing.
    pub fn is_running(&self) -> bool {
        self.current.load(Ordering::Acquire) != NO_EPOCH
    }

    /// Ends the current epoch: what is not sent drops, and once nothing of it lives the source reads again from the lowest
    /// unsettled position.
    pub fn end_epoch(&self) {
        let state = self.lock();
        self.current.store(NO_EPOCH, Ordering::Release);
        let ready = state.restart_ready();
        drop(state);
        if ready {
            (self.wake)();
        }
    }

    /// Whether [`Tracker::restart`] would answer.
    pub fn may_restart(&self) -> bool {
        let state = self.lock();
        self.current.load(Ordering::Acquire) == NO_EPOCH && state.restart_ready()
    }

    /// Begins the next epoch if the last one ended and none of its batches lives, and says where to read.
    pub fn restart(&self) -> Option<Restart> {
        let mut state = self.lock();
        if self.current.load(Ordering::Acquire) != NO_EPOCH || !state.restart_ready() {
            return None;
        }
        state.epoch += 1;
        self.current.store(state.epoch, Ordering::Release);
        Some(match &mut state.known {
            Known::Ordered(ordered) => ordered.restart(),
            Known::Unordered(unordered) => unordered.restart(),
        })
    }

    /// Forgets what was handed out below `position` because the broker no longer has it. Call before reading on. Means
    /// nothing where order means nothing.
    pub fn skip_to(&self, position: Position) {
        if let Known::Ordered(ordered) = &mut self.lock().known {
            ordered.vanish_below(position);
        }
    }

    /// The position that may be committed as read, if it is newer than the last one reported by [`Tracker::committed`].
    /// Nothing for a lost assignment, and nothing of an unordered tracker.
    pub fn commit_point(&self) -> Option<Position> {
        let state = self.lock();
        match &state.known {
            Known::Ordered(ordered) if state.end != Some(End::Lost) => ordered.commit_point(),
            _ => None,
        }
    }

    /// The broker confirmed this commit.
    pub fn committed(&self, position: Position) {
        if let Known::Ordered(ordered) = &mut self.lock().known {
            ordered.committed(position);
        }
    }

    /// Of an unordered tracker: settled positions that [`Tracker::committed_each`] has not reported, in ascending order, at
    /// most this many. Nothing for a lost assignment.
    pub fn commit_points(&self, most: usize) -> Vec<Position> {
        let state = self.lock();
        match &state.known {
            Known::Unordered(unordered) if state.end != Some(End::Lost) => unordered.commit_points(most),
            _ => Vec::new(),
        }
    }

    /// The broker confirmed each of these commits: from now on nothing is known of them.
    pub fn committed_each(&self, positions: &[Position]) {
        if let Known::Unordered(unordered) = &mut self.lock().known {
            unordered.committed(positions);
        }
    }

    /// Of an unordered tracker: how many positions are settled and not yet reported as committed.
    pub fn uncommitted(&self) -> usize {
        match &self.lock().known {
            Known::Ordered(_) => 0,
            Known::Unordered(unordered) => unordered.uncommitted(),
        }
    }

    /// Whether anything is settled that was not reported as committed.
    pub fn has_to_commit(&self) -> bool {
        let state = self.lock();
        state.end != Some(End::Lost)
            && match &state.known {
                Known::Ordered(ordered) => ordered.commit_point().is_some(),
                Known::Unordered(unordered) => unordered.uncommitted() > 0,
            }
    }

    /// Ends the assignment: nothing more is handed out. What is in flight may still settle and be committed, unless the
    /// assignment is `lost`.
    pub fn end(&self, lost: bool) {
        let mut state = self.lock();
        state.end = Some(if lost { End::Lost } else { state.end.unwrap_or(End::Revoked) });
        self.current.store(NO_EPOCH, Ordering::Release);
    }

    pub fn ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Resolves when no batch of this assignment lives.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.live_batches() == 0 {
                return;
            }
            notified.await;
        }
    }

    pub fn live_batches(&self) -> usize {
        self.lock().live_batches
    }

    /// Messages and bytes between the settled prefix and what was last read in this epoch; of an unordered tracker those that
    /// were handed out in it and are not settled. Nothing between epochs: the next one begins at the prefix.
    pub fn ahead(&self) -> (usize, usize) {
        let state = self.lock();
        if self.current.load(Ordering::Acquire) == NO_EPOCH {
            return (0, 0);
        }
        match &state.known {
            Known::Ordered(ordered) => ordered.ahead(),
            Known::Unordered(unordered) => unordered.ahead(),
        }
    }

    /// What the source is to hand out next, if it has handed out anything: what is in nobody's hands and not settled, else
    /// what lies behind the newest. Unknown of an unordered tracker: another member may have been given it.
    pub fn awaited(&self) -> Option<Bound<Position>> {
        let state = self.lock();
        match &state.known {
            Known::Ordered(ordered) => ordered.awaited(state.live_batches == 0),
            Known::Unordered(_) => None,
        }
    }

    /// When the oldest message that is not settled was first received.
    pub fn oldest_unsettled(&self) -> Option<Instant> {
        match &self.lock().known {
            Known::Ordered(ordered) => ordered.oldest_unsettled(),
            Known::Unordered(unordered) => unordered.oldest_unsettled(),
        }
    }

    pub(crate) fn settle(&self, sequences: impl Iterator<Item = u64>) {
        match &mut self.lock().known {
            Known::Ordered(ordered) => ordered.settle(sequences),
            Known::Unordered(unordered) => unordered.settle(sequences),
        }
    }

    pub(crate) fn batch_gone(&self, epoch: Epoch, all_settled: bool) {
        let mut state = self.lock();
        state.live_batches -= 1;
        if !all_settled && state.epoch == epoch.0 {
            self.current.store(NO_EPOCH, Ordering::Release);
        }
        let idle = state.live_batches == 0;
        let ready = state.restart_ready() && self.current.load(Ordering::Acquire) == NO_EPOCH;
        drop(state);
        if idle {
            self.idle.notify_waiters();
        }
        if ready {
            (self.wake)();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below completes before it can panic, so the state of a poisoned lock is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn restart_ready(&self) -> bool {
        self.live_batches == 0 && self.end.is_none()
    }
}

#[cfg(test)]
mod tests;
