use std::{
    collections::VecDeque,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

use crate::{Ack, Batch, Epoch, Message, PartitionId, Position, batch::Sequences};

/// What one assignment of one source partition has handed out and what of it is settled.
///
/// It remembers every position between the settled prefix and the newest one handed out, across epochs, so that a rewind
/// skips what settled above the prefix. Sources read, `admit`, restart where [`Tracker::restart`] says, and commit
/// [`Tracker::commit_point`]; the pipeline settles through [`Ack`].
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
    /// Ascending: all that was handed out and is not part of the settled prefix.
    entries: VecDeque<Entry>,
    /// Sequence number of `entries[0]`.
    base: u64,
    /// Sequence number of the entry that reading has reached in this epoch.
    cursor: u64,
    /// The newest position read in this epoch.
    read: Option<Position>,
    /// The last position of the settled prefix.
    prefix: Option<Position>,
    committed: Option<Position>,
    live_batches: usize,
    end: Option<End>,
    /// Bytes of the entries below `cursor`.
    bytes: usize,
    /// First sequence number and time of each stretch of messages that arrived together.
    arrivals: VecDeque<(u64, Instant)>,
}

struct Entry {
    position: Position,
    bytes: u32,
    settled: bool,
}

impl Entry {
    fn new(position: Position, bytes: usize) -> Self {
        Entry { position, bytes: bytes.min(u32::MAX as usize) as u32, settled: false }
    }
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
    /// Where the assignment was started: nothing was handed out yet.
    AtStart,
}

impl Tracker {
    /// `wake` is called, from any thread, whenever [`Tracker::restart`] would answer.
    pub fn new(partition: PartitionId, wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let state = State {
            epoch: 0,
            entries: VecDeque::new(),
            base: 0,
            cursor: 0,
            read: None,
            prefix: None,
            committed: None,
            live_batches: 0,
            end: None,
            bytes: 0,
            arrivals: VecDeque::new(),
        };
        Arc::new(Tracker {
            partition,
            current: AtomicU64::new(0),
            state: Mutex::new(state),
            wake: Box::new(wake),
            idle: Notify::new(),
        })
    }

    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Makes a batch of messages that were read in ascending order, leaving out what is settled already and what this
    /// epoch handed out before. `None` when nothing is left, or when the epoch is over: then they are read again later.
    pub fn admit(self: &Arc<Self>, messages: Vec<Message>) -> Option<Batch> {
        let mut state = self.lock();
        if self.current.load(Ordering::Acquire) == NO_EPOCH {
            return None;
        }
        let epoch = Epoch(state.epoch);
        let (mut kept, mut sequences, mut bytes) = (Vec::with_capacity(messages.len()), Vec::new(), 0);
        let (mut contiguous, mut repeated) = (true, 0);
        let newest = state.newest();
        for message in messages {
            let size = message.size();
            let Some(sequence) = state.admit(message.position, size) else { continue };
            repeated += usize::from(newest.is_some_and(|newest| message.position <= newest));
            contiguous &= sequences.last().is_none_or(|last| last + 1 == sequence);
            sequences.push(sequence);
            bytes += size;
            kept.push(message);
        }
        let first = *sequences.first()?;
        state.live_batches += 1;
        let sequences = if contiguous { Sequences::From(first) } else { Sequences::List(sequences) };
        let ack = Ack::new(self.clone(), epoch, sequences, kept.len());
        let received = Instant::now();
        if repeated < kept.len() {
            state.arrivals.push_back((first + repeated as u64, received));
            state.trim_arrivals();
        }
        Some(Batch { partition: self.partition, epoch, messages: kept, ack, bytes, repeated, received, guard: None })
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

    /// Begins the next epoch if the last one ended and none of its batches lives, and says where to read.
    pub fn restart(&self) -> Option<Restart> {
        let mut state = self.lock();
        if self.current.load(Ordering::Acquire) != NO_EPOCH || !state.restart_ready() {
            return None;
        }
        state.epoch += 1;
        state.cursor = state.base;
        state.bytes = 0;
        state.read = state.prefix;
        self.current.store(state.epoch, Ordering::Release);
        Some(match (state.entries.iter().find(|e| !e.settled), state.prefix) {
            (Some(entry), _) => Restart::At(entry.position),
            (None, Some(prefix)) => Restart::After(prefix),
            (None, None) => Restart::AtStart,
        })
    }

    /// Forgets what was handed out below `position` because the broker no longer has it. Call before reading on.
    pub fn skip_to(&self, position: Position) {
        self.lock().vanish_below(position);
    }

    /// The position that may be committed as read, if it is newer than the last one reported by [`Tracker::committed`].
    /// Nothing for a lost assignment.
    pub fn commit_point(&self) -> Option<Position> {
        let state = self.lock();
        let prefix = state.prefix.filter(|_| state.end != Some(End::Lost))?;
        (state.committed != Some(prefix)).then_some(prefix)
    }

    /// The broker confirmed this commit.
    pub fn committed(&self, position: Position) {
        let mut state = self.lock();
        state.committed = state.committed.max(Some(position));
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

    /// Messages and bytes between the settled prefix and what was last read in this epoch. Nothing between epochs: the next
    /// one begins at the prefix.
    pub fn ahead(&self) -> (usize, usize) {
        let state = self.lock();
        if self.current.load(Ordering::Acquire) == NO_EPOCH {
            return (0, 0);
        }
        ((state.cursor - state.base) as usize, state.bytes)
    }

    /// What the source is to hand out next, if it has handed out anything: what is in nobody's hands and not settled, else
    /// what lies behind the newest.
    pub fn awaited(&self) -> Option<Bound<Position>> {
        let state = self.lock();
        let again = state.entries.iter().find(|entry| !entry.settled && state.live_batches == 0);
        again.map(|entry| Bound::Included(entry.position)).or(state.newest().map(Bound::Excluded))
    }

    /// When the oldest message that is not settled was first received.
    pub fn oldest_unsettled(&self) -> Option<Instant> {
        let state = self.lock();
        state.arrivals.front().filter(|_| !state.entries.is_empty()).map(|(_, received)| *received)
    }

    pub(crate) fn settle(&self, sequences: impl Iterator<Item = u64>) {
        let mut state = self.lock();
        for sequence in sequences {
            // Below `base`: it vanished from the broker while it was in flight, and was counted as settled then.
            let Some(at) = sequence.checked_sub(state.base) else { continue };
            if let Some(entry) = state.entries.get_mut(at as usize) {
                entry.settled = true;
            }
        }
        state.advance();
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
    /// The newest position ever handed out.
    fn newest(&self) -> Option<Position> {
        self.entries.back().map(|e| e.position).or(self.prefix)
    }

    fn restart_ready(&self) -> bool {
        self.live_batches == 0 && self.end.is_none()
    }

    /// The sequence number under which this position is handed out now, or `None` to leave it out.
    fn admit(&mut self, position: Position, bytes: usize) -> Option<u64> {
        // The prefix may be ahead of reading: when what a rewind read again is settled, it jumps over what settled before.
        if self.read.max(self.prefix).is_some_and(|known| position <= known) {
            return None;
        }
        self.read = Some(position);
        loop {
            let at = (self.cursor - self.base) as usize;
            match self.entries.get_mut(at) {
                None => {
                    self.entries.push_back(Entry::new(position, bytes));
                    return Some(self.pass());
                }
                Some(entry) if entry.position < position => {
                    // Handed out before and not read again: the broker no longer has it (compaction, retention).
                    entry.settled = true;
                    self.pass();
                    self.advance();
                }
                Some(entry) if entry.position == position => {
                    let settled = entry.settled;
                    let sequence = self.pass();
                    return (!settled).then_some(sequence);
                }
                Some(_) => {
                    // Not handed out before, although newer ones were: it became visible late. Entries from here on were
                    // handed out in earlier epochs only, of which no batch lives, so their numbers may move.
                    self.entries.insert(at, Entry::new(position, bytes));
                    return Some(self.pass());
                }
            }
        }
    }

    /// Moves the cursor over one entry and returns its sequence number.
    fn pass(&mut self) -> u64 {
        let sequence = self.cursor;
        self.bytes += self.entries.get((sequence - self.base) as usize).map_or(0, |e| e.bytes as usize);
        self.cursor += 1;
        sequence
    }

    fn vanish_below(&mut self, position: Position) {
        for entry in self.entries.iter_mut().take_while(|e| e.position < position) {
            entry.settled = true;
        }
        self.advance();
    }

    /// Moves the prefix over all that is settled at the front.
    fn advance(&mut self) {
        while let Some(entry) = self.entries.pop_front_if(|e| e.settled) {
            self.prefix = Some(entry.position);
            if self.base < self.cursor {
                self.bytes -= entry.bytes as usize;
            }
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
        self.trim_arrivals();
    }

    fn trim_arrivals(&mut self) {
        // An arrival stands for all entries up to the next one's first.
        while self.arrivals.get(1).is_some_and(|(first, _)| *first <= self.base) {
            self.arrivals.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(offsets: impl IntoIterator<Item = u64>) -> Vec<Message> {
        let message = |offset| Message::at(Position::Offset(offset));
        offsets.into_iter().map(message).collect()
    }

    fn offsets(batch: &Batch) -> Vec<Position> {
        batch.messages.iter().map(|m| m.position).collect()
    }

    fn at(offsets: impl IntoIterator<Item = u64>) -> Vec<Position> {
        offsets.into_iter().map(Position::Offset).collect()
    }

    fn tracker() -> Arc<Tracker> {
        Tracker::new(PartitionId(0), || {})
    }

    #[test]
    fn only_the_settled_prefix_may_be_committed() {
        let tracker = tracker();
        let batch = tracker.admit(messages(0..10)).unwrap();
        batch.ack.settle([1, 2].into_iter());
        assert_eq!(tracker.commit_point(), None);
        batch.ack.settle([0].into_iter());
        assert_eq!(tracker.commit_point(), Some(Position::Offset(2)));
        tracker.committed(Position::Offset(2));
        assert_eq!(tracker.commit_point(), None);
    }

    #[test]
    fn a_dropped_batch_is_read_again_and_what_settled_of_it_is_skipped() {
        let tracker = tracker();
        let first = tracker.admit(messages(0..4)).unwrap();
        let second = tracker.admit(messages(4..8)).unwrap();
        first.ack.settle([0, 2].into_iter());
        drop(first);
        assert!(!second.is_current(), "the epoch is over for every batch of it");
        assert_eq!(tracker.restart(), None, "a batch of the old epoch still lives");
        assert!(tracker.admit(messages(8..9)).is_none(), "nothing is handed out between epochs");
        second.ack.settle([3].into_iter());
        drop(second);
        assert_eq!(tracker.restart(), Some(Restart::At(Position::Offset(1))));
        let again = tracker.admit(messages(1..10)).unwrap();
        assert_eq!(offsets(&again), at([1, 3, 4, 5, 6, 8, 9]));
        again.ack.settle(0..7);
        assert_eq!(tracker.commit_point(), Some(Position::Offset(9)));
    }

    #[test]
    fn what_settled_above_a_dropped_message_is_not_handed_out_when_the_prefix_overtakes_reading() {
        let tracker = tracker();
        let batch = tracker.admit(messages(0..6)).unwrap();
        batch.ack.settle(1..6);
        drop(batch);
        tracker.restart().unwrap();
        let again = tracker.admit(messages(0..1)).unwrap();
        again.ack.settle(0..1);
        assert_eq!(tracker.commit_point(), Some(Position::Offset(5)));
        assert!(tracker.admit(messages(1..6)).is_none());
        assert_eq!(offsets(&tracker.admit(messages(4..8)).unwrap()), at([6, 7]));
    }

    #[test]
    fn what_settled_in_an_earlier_epoch_stays_settled_when_the_prefix_passes_reading() {
        let tracker = tracker();
        let batch = tracker.admit(messages(0..6)).unwrap();
        batch.ack.settle([2, 3].into_iter());
        drop(batch);
        tracker.restart().unwrap();
        let front = tracker.admit(messages(0..2)).unwrap();
        front.ack.settle(0..2);
        assert_eq!(tracker.commit_point(), Some(Position::Offset(3)));
        let rest = tracker.admit(messages(2..6)).unwrap();
        assert_eq!(offsets(&rest), at([4, 5]));
        drop((front, rest));
    }

    #[test]
    fn within_an_epoch_no_position_is_handed_out_twice() {
        let tracker = tracker();
        let first = tracker.admit(messages(0..4)).unwrap();
        let second = tracker.admit(messages(2..6)).unwrap();
        assert_eq!(offsets(&second), at([4, 5]));
        drop((first, second));
    }

    #[test]
    fn how_far_reading_is_ahead_starts_over_with_each_epoch() {
        let tracker = tracker();
        let batch = tracker.admit(messages(0..10)).unwrap();
        let one = batch.bytes / 10;
        assert_eq!(tracker.ahead(), (10, 10 * one));
        batch.ack.settle([0, 1, 5].into_iter());
        assert_eq!(tracker.ahead(), (8, 8 * one));
        drop(batch);
        assert_eq!(tracker.ahead(), (0, 0), "else nothing would be read again");
        tracker.restart().unwrap();
        let again = tracker.admit(messages(2..7)).unwrap();
        assert_eq!(tracker.ahead(), (5, 5 * one));
        again.ack.settle(0..4);
        assert_eq!(tracker.ahead(), (0, 0));
    }

    #[test]
    fn what_the_broker_no_longer_has_does_not_hold_the_prefix_back() {
        let tracker = tracker();
        drop(tracker.admit(messages(0..4)).unwrap());
        assert_eq!(tracker.restart(), Some(Restart::At(Position::Offset(0))));
        let again = tracker.admit(messages([0, 3])).unwrap();
        again.ack.settle(0..2);
        assert_eq!(tracker.commit_point(), Some(Position::Offset(3)));
    }

    #[test]
    fn what_becomes_visible_late_is_handed_out_in_its_place() {
        let tracker = tracker();
        let batch = tracker.admit(messages([0, 2])).unwrap();
        batch.ack.settle([1].into_iter());
        drop(batch);
        tracker.restart().unwrap();
        let again = tracker.admit(messages(0..4)).unwrap();
        assert_eq!(offsets(&again), at([0, 1, 3]));
        again.ack.settle([0].into_iter());
        assert_eq!(tracker.commit_point(), Some(Position::Offset(0)));
        again.ack.settle([1].into_iter());
        assert_eq!(tracker.commit_point(), Some(Position::Offset(2)));
        drop(again);
    }

    #[test]
    fn a_lost_assignment_is_never_committed_and_a_revoked_one_still_is() {
        for lost in [false, true] {
            let tracker = tracker();
            let batch = tracker.admit(messages(0..2)).unwrap();
            tracker.end(lost);
            batch.ack.settle(0..2);
            assert_eq!(tracker.commit_point().is_some(), !lost);
            drop(batch);
            assert_eq!(tracker.restart(), None, "an ended assignment is not read on");
        }
    }

    #[tokio::test]
    async fn the_source_is_woken_when_the_last_batch_of_an_ended_epoch_is_gone() {
        let woken = Arc::new(AtomicU64::new(0));
        let count = woken.clone();
        let tracker = Tracker::new(PartitionId(0), move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (first, second) = (tracker.admit(messages(0..1)).unwrap(), tracker.admit(messages(1..2)).unwrap());
        tracker.end_epoch();
        drop(first);
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        tracker.idle().await;
    }
}
