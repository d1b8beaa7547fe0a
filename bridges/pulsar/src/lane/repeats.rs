//! Messages whose fate was unknown and turned out to be stored: they are not sent again. Pure.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;
use trestle_core::{Position, Slice, Tracker};

/// For how long after it was found a message may come again. A source that is reset by hand to read it once more takes
/// a new assignment, so nobody waits for this.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Messages of one frame or chunked message, by assignment and position, that were answered `Unknown`.
pub(super) struct Unresolved {
    pub sequence: u64,
    pub messages: Vec<MessageId>,
}

/// The same message only within the same assignment of its source partition.
pub(super) type MessageId = (Weak<Tracker>, Position);

/// Bounded by what can be in flight: the window, times the messages of a unit.
#[derive(Default)]
pub(super) struct Repeats {
    unresolved: Vec<Unresolved>,
    stored: HashSet<(usize, Position)>,
    /// Keep the addresses in `stored` from being given to other trackers.
    trackers: Vec<Weak<Tracker>>,
    until: Option<Instant>,
}

impl Repeats {
    pub fn unresolved(&mut self, unresolved: Vec<Unresolved>) {
        self.unresolved.extend(unresolved);
    }

    /// The sequence ids to look for, ascending.
    pub fn wanted(&self) -> Vec<u64> {
        self.unresolved.iter().map(|unresolved| unresolved.sequence).collect()
    }

    /// These sequence ids are in the topic; the others that were wanted are not, or cannot be seen.
    pub fn found(&mut self, found: &HashSet<u64>) -> usize {
        self.forget();
        for unresolved in std::mem::take(&mut self.unresolved) {
            if found.contains(&unresolved.sequence) {
                for (tracker, position) in unresolved.messages {
                    self.stored.insert((tracker.as_ptr() as usize, position));
                    if self.trackers.last().is_none_or(|last| !last.ptr_eq(&tracker)) {
                        self.trackers.push(tracker);
                    }
                }
            }
        }
        self.until = Some(Instant::now() + REMEMBERED);
        self.stored.len()
    }

    /// How many messages at the front of the unit are stored already.
    pub fn skip(&mut self, unit: &[Slice]) -> usize {
        if self.stored.is_empty() {
            return 0;
        }
        if self.until.is_none_or(|until| until < Instant::now()) {
            self.forget();
            return 0;
        }
        let front = ids(unit).take_while(|(tracker, position)| {
            // Once is enough: whatever comes a third time was asked for.
            self.stored.remove(&(Arc::as_ptr(tracker) as usize, *position))
        });
        front.count()
    }

    fn forget(&mut self) {
        self.stored.clear();
        self.trackers.clear();
    }
}

/// Every message of a unit by its assignment and position.
pub(super) fn ids(unit: &[Slice]) -> impl Iterator<Item = (&Arc<Tracker>, Position)> {
    unit.iter().flat_map(|slice| {
        let tracker = slice.batch().ack.tracker();
        slice.iter().map(move |message| (tracker, message.position))
    })
}

#[cfg(test)]
mod tests {
    use trestle_core::{Message, PartitionId};

    use super::*;

    fn unit(tracker: &Arc<Tracker>, offsets: std::ops::Range<u64>) -> Vec<Slice> {
        let message = |offset| Message::at(Position::Offset(offset));
        vec![Slice::whole(Arc::new(tracker.admit(offsets.map(message).collect()).unwrap()))]
    }

    fn repeats_of(unit: &[Slice], found: &[u64]) -> Repeats {
        let mut repeats = Repeats::default();
        let messages: Vec<MessageId> = ids(unit).map(|(t, p)| (Arc::downgrade(t), p)).collect();
        let (front, back) = messages.split_at(2);
        repeats.unresolved(vec![
            Unresolved { sequence: 10, messages: front.to_vec() },
            Unresolved { sequence: 12, messages: back.to_vec() },
        ]);
        assert_eq!(repeats.wanted(), [10, 12]);
        repeats.found(&found.iter().copied().collect());
        repeats
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_found_in_the_topic_is_skipped_once() {
        let tracker = Tracker::new(PartitionId(0), || {});
        let unit = unit(&tracker, 0..5);
        let mut repeats = repeats_of(&unit, &[10]);
        assert_eq!(repeats.skip(&unit), 2);
        assert_eq!(repeats.skip(&unit), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn another_assignment_or_a_much_later_time_is_another_message() {
        let tracker = Tracker::new(PartitionId(0), || {});
        let other = Tracker::new(PartitionId(0), || {});
        let (mine, foreign) = (unit(&tracker, 0..5), unit(&other, 0..5));
        let mut repeats = repeats_of(&mine, &[10, 12]);
        assert_eq!(repeats.skip(&foreign), 0);
        tokio::time::advance(REMEMBERED * 2).await;
        assert_eq!(repeats.skip(&mine), 0);
    }
}
