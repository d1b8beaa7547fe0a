//! What of a partition is in somebody's hands, and what is settled and to be committed message by message. Positions come in
//! any order: a group that shares a partition gives what one member returned to another, behind newer ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{Admitted, Restart};
use crate::{Message, Position, batch::Sequences};

#[derive(Default)]
pub(super) struct Unordered {
    /// Handed out in this epoch and not settled, by sequence number: the oldest first.
    open: BTreeMap<u64, Open>,
    /// The positions of `open`.
    handed_out: BTreeSet<Position>,
    /// Settled, and not yet committed.
    settled: BTreeSet<Position>,
    /// The next sequence number.
    next: u64,
    /// Bytes of `open`.
    bytes: usize,
}

struct Open {
    position: Position,
    bytes: usize,
    received: Instant,
}

impl Unordered {
    pub fn admit(&mut self, messages: Vec<Message>, received: Instant) -> Option<Admitted> {
        let first = self.next;
        let (mut kept, mut sum) = (Vec::with_capacity(messages.len()), 0);
        for message in messages {
            let (position, bytes) = (message.position, message.size());
            if self.settled.contains(&position) || !self.handed_out.insert(position) {
                continue;
            }
            self.open.insert(self.next, Open { position, bytes, received });
            self.next += 1;
            sum += bytes;
            kept.push(message);
        }
        self.bytes += sum;
        let admitted = Admitted { messages: kept, sequences: Sequences::From(first), bytes: sum, repeated: 0 };
        (!admitted.messages.is_empty()).then_some(admitted)
    }

    /// What is not settled goes back to the group, which may give it to anyone.
    pub fn restart(&mut self) -> Restart {
        self.open.clear();
        self.handed_out.clear();
        self.bytes = 0;
        Restart::AtStart
    }

    pub fn settle(&mut self, sequences: impl Iterator<Item = u64>) {
        for sequence in sequences {
            if let Some(open) = self.open.remove(&sequence) {
                self.bytes -= open.bytes;
                self.handed_out.remove(&open.position);
                self.settled.insert(open.position);
            }
        }
    }

    pub fn commit_points(&self, most: usize) -> Vec<Position> {
        self.settled.iter().take(most).copied().collect()
    }

    pub fn committed(&mut self, positions: &[Position]) {
        for position in positions {
            self.settled.remove(position);
        }
    }

    pub fn uncommitted(&self) -> usize {
        self.settled.len()
    }

    pub fn ahead(&self) -> (usize, usize) {
        (self.open.len(), self.bytes)
    }

    pub fn oldest_unsettled(&self) -> Option<Instant> {
        self.open.first_key_value().map(|(_, open)| open.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PartitionId, Tracker};

    fn messages(offsets: impl IntoIterator<Item = u64>) -> Vec<Message> {
        offsets.into_iter().map(|offset| Message::at(Position::Offset(offset))).collect()
    }

    fn offsets(batch: &crate::Batch) -> Vec<u64> {
        let offset = |m: &Message| match m.position {
            Position::Offset(offset) => offset,
            Position::Entry { entry, .. } => entry,
        };
        batch.messages.iter().map(offset).collect()
    }

    fn at(offsets: impl IntoIterator<Item = u64>) -> Vec<Position> {
        offsets.into_iter().map(Position::Offset).collect()
    }

    fn tracker() -> std::sync::Arc<Tracker> {
        Tracker::unordered(PartitionId(0), || {})
    }

    #[test]
    fn what_is_settled_may_be_committed_whatever_lies_in_front_of_it() {
        let tracker = tracker();
        let newer = tracker.admit(messages(5..8)).unwrap();
        let older = tracker.admit(messages(0..2)).unwrap();
        newer.ack.settle([1].into_iter());
        older.ack.settle([1].into_iter());
        assert_eq!(tracker.commit_points(9), at([1, 6]));
        assert_eq!(tracker.commit_points(1), at([1]));
        assert_eq!(tracker.commit_point(), None, "there is no prefix");
        tracker.committed_each(&at([6]));
        assert_eq!(tracker.commit_points(9), at([1]));
        assert!(tracker.has_to_commit());
        tracker.committed_each(&at([1]));
        assert!(!tracker.has_to_commit());
    }

    #[test]
    fn within_an_epoch_no_position_is_handed_out_twice_and_none_that_is_settled_in_any() {
        let tracker = tracker();
        let first = tracker.admit(messages([3, 1, 2])).unwrap();
        assert!(tracker.admit(messages(1..4)).is_none());
        first.ack.settle([0].into_iter());
        assert!(tracker.admit(messages(1..4)).is_none(), "3 is settled and not yet committed");
        drop(first);
        assert!(tracker.admit(messages([7])).is_none(), "the epoch is over");
        assert_eq!(tracker.restart(), Some(Restart::AtStart));
        assert_eq!(tracker.commit_points(9), at([3]));
        assert_eq!(offsets(&tracker.admit(messages([2, 3, 1])).unwrap()), [2, 1]);
    }

    #[test]
    fn a_restart_waits_for_every_batch_and_what_they_settle_counts() {
        let tracker = tracker();
        let (one, two) = (tracker.admit(messages(0..2)).unwrap(), tracker.admit(messages(2..4)).unwrap());
        drop(one);
        assert!(!tracker.may_restart() && tracker.restart().is_none(), "the other one lives");
        two.ack.settle(0..2);
        drop(two);
        assert!(tracker.may_restart());
        assert_eq!(tracker.commit_points(9), at([2, 3]));
        tracker.restart();
        assert_eq!(tracker.ahead(), (0, 0));
    }

    #[test]
    fn ahead_is_what_is_handed_out_and_not_settled() {
        let tracker = tracker();
        assert_eq!(tracker.oldest_unsettled(), None);
        let batch = tracker.admit(messages(0..4)).unwrap();
        let each = tracker.ahead().1 / 4;
        batch.ack.settle([0, 2].into_iter());
        assert_eq!(tracker.ahead(), (2, 2 * each));
        assert!(tracker.oldest_unsettled().is_some());
        assert_eq!(tracker.awaited(), None, "another member may have it");
    }

    #[test]
    fn nothing_of_a_lost_assignment_is_committed() {
        let tracker = tracker();
        let batch = tracker.admit(messages(0..4)).unwrap();
        tracker.end(false);
        batch.ack.settle(0..4);
        assert_eq!(tracker.commit_points(9).len(), 4);
        tracker.end(true);
        assert!(tracker.commit_points(9).is_empty() && !tracker.has_to_commit());
    }
}
