use std::{collections::VecDeque, sync::Arc};

use rdkafka::Offset;
use trestle_core::{Epoch, Message, Position, Restart, Tracker};

use super::held::HeldBack;

/// One assigned partition as the reading thread sees it.
pub(super) struct Partition {
    pub tracker: Arc<Tracker>,
    pub state: State,
    /// Where the assignment was started.
    pub start: Offset,
    /// What is to be read next; a logical offset until the first message came.
    pub next: Offset,
    /// Nothing is fetched. A resume always goes to `next`.
    pub paused: bool,
    /// librdkafka gave this partition up after an error: it must be assigned again, a seek is not enough.
    pub stopped: bool,
    pub credit: u64,
    /// The log is new: no position of the group is about it, and it is read from its beginning.
    pub fresh: bool,
    /// Beyond the credit: at most one gathering, because no more is taken from the client while there is something.
    pub held: VecDeque<Message>,
    restarts: u64,
    /// The group's position as far as it is known: the next offset to read.
    pub committed: Offset,
    /// Something was handed out in this assignment.
    pub handed_out: bool,
    /// See [`super::held`].
    pub held_back: HeldBack,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Assigned and not started, or standing at a gap.
    Standing,
    /// Started; the broker is being asked where.
    Beginning,
    Reading,
    /// The broker does not have `next`; it is being asked what it has.
    Measuring,
}

impl Partition {
    pub(super) fn new(tracker: Arc<Tracker>) -> Self {
        Partition {
            tracker,
            state: State::Standing,
            start: Offset::Invalid,
            next: Offset::Invalid,
            paused: true,
            stopped: false,
            credit: 0,
            fresh: false,
            held: VecDeque::new(),
            restarts: 0,
            committed: Offset::Invalid,
            handed_out: false,
            held_back: HeldBack::default(),
        }
    }

    pub(super) fn begin_at(&mut self, offset: Offset) {
        self.state = State::Reading;
        self.start = offset;
        self.next = offset;
        self.committed = offset;
        self.paused = true;
        self.held.clear();
    }

    /// Goes back if the tracker says so, and tells whether it did.
    pub(super) fn rewind(&mut self) -> bool {
        if self.state != State::Reading {
            return false;
        }
        let Some(restart) = self.tracker.restart() else { return false };
        self.restarts += 1;
        self.held.clear();
        self.next = match restart {
            Restart::At(position) => offset(position),
            Restart::After(position) => after(position),
            Restart::AtStart => self.start,
        };
        true
    }

    /// The epoch runs: what is read now can be handed out.
    pub(super) fn is_current(&self) -> bool {
        self.tracker.is_current(Epoch(self.restarts))
    }

    /// Whether anything more could be handed out.
    pub(super) fn takes(&self) -> bool {
        self.state == State::Reading && !self.paused && self.credit > 0 && self.held.is_empty() && self.is_current()
    }

    /// Takes what was fetched. What is behind `next` was handed out before a seek took hold.
    pub(super) fn hold(&mut self, messages: Vec<Message>) {
        if self.state != State::Reading || self.paused {
            return;
        }
        for message in messages {
            if let (Offset::Offset(next), Position::Offset(at)) = (self.next, message.position)
                && (at as i64) < next
            {
                continue;
            }
            self.next = after(message.position);
            self.held.push_back(message);
        }
    }

    /// What the credit covers of what is held; the message that crosses the line is covered. What is handed out is charged
    /// by [`Partition::charge`].
    pub(super) fn take_covered(&mut self) -> Vec<Message> {
        let (mut count, mut size) = (0, 0);
        for message in &self.held {
            if size >= self.credit {
                break;
            }
            count += 1;
            size += message.size() as u64;
        }
        self.held.drain(..count).collect()
    }

    pub(super) fn charge(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes as u64);
        self.handed_out = true;
    }
}

/// The offset of this position, and the one behind it.
pub(super) fn offset(position: Position) -> Offset {
    match position {
        Position::Offset(offset) => Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX)),
        // Not one of ours.
        Position::Entry { .. } => Offset::Invalid,
    }
}

pub(super) fn after(position: Position) -> Offset {
    match offset(position) {
        Offset::Offset(offset) => Offset::Offset(offset.saturating_add(1)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use trestle_core::PartitionId;

    use super::*;

    fn message(offset: u64) -> Message {
        Message::at(Position::Offset(offset))
    }

    fn reading() -> Partition {
        let mut partition = Partition::new(Tracker::new(PartitionId(0), || {}));
        partition.begin_at(Offset::Offset(5));
        partition.paused = false;
        partition
    }

    #[test]
    fn the_message_that_crosses_the_line_is_covered_and_the_next_is_not() {
        let mut partition = reading();
        partition.hold((5..10).map(message).collect());
        partition.credit = message(0).size() as u64 + 1;
        let covered = partition.take_covered();
        assert_eq!(covered.len(), 2);
        partition.charge(covered.iter().map(Message::size).sum());
        assert_eq!((partition.credit, partition.held.len()), (0, 3));
        assert!(partition.take_covered().is_empty());
    }

    #[test]
    fn what_comes_late_from_before_a_seek_is_dropped() {
        let mut partition = reading();
        partition.hold((3..7).map(message).collect());
        assert_eq!(partition.held.len(), 2);
        assert_eq!(partition.next, Offset::Offset(7));
    }

    #[test]
    fn a_rewind_forgets_what_is_held_and_goes_to_the_lowest_unsettled_message() {
        let mut partition = reading();
        partition.hold((5..8).map(message).collect());
        partition.credit = 1;
        let batch = partition.tracker.admit(partition.held.drain(..1).collect()).unwrap();
        assert!(!partition.rewind());
        drop(batch);
        assert!(!partition.is_current());
        assert!(partition.rewind());
        assert!(partition.is_current());
        assert_eq!((partition.next, partition.held.len()), (Offset::Offset(5), 0));
    }
}
