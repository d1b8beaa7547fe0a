//! What may be acknowledged of a partition, message by message.
//!
//! A position names a message, an acknowledgement an entry. An entry of which messages are still to come is acknowledged with
//! the set of those (`ack_set`), which a broker keeps for the next consumer, or ignores where
//! `acknowledgmentAtBatchIndexLevelEnabled` is off: it then gives the whole entry again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pulsar::message::proto::MessageIdData;
use trestle_core::{Message, Position};

use crate::batch::EntryId;

/// Entries remembered after the broker has confirmed them: one that was being read at that moment still arrives.
const REMEMBERED: usize = 4096;

#[derive(Default)]
pub(super) struct Acks {
    entries: BTreeMap<EntryId, Left>,
    /// Confirmed of late, the oldest first.
    done: VecDeque<EntryId>,
    known_done: BTreeSet<EntryId>,
    /// Nothing of them is wanted, but the broker counts them as being with us.
    again: BTreeSet<EntryId>,
}

/// What of an entry is not settled.
struct Left {
    /// Messages in the entry.
    size: u32,
    /// Bit by bit; 1 is left.
    words: Vec<i64>,
}

/// One acknowledgement.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Due {
    /// What is settled with it.
    pub points: Vec<Position>,
    pub ids: Vec<MessageIdData>,
    /// Entries of which nothing is left.
    whole: Vec<EntryId>,
}

impl Acks {
    /// An entry of `size` messages was read; those that were settled before are taken out.
    pub fn read(&mut self, id: EntryId, size: u32, messages: &mut Vec<Message>) {
        if self.known_done.contains(&id) {
            messages.clear();
            self.again.insert(id);
            return;
        }
        let there = Left::of(size, messages);
        let left = self.entries.entry(id).or_insert_with(|| Left::of(size, messages));
        for (word, there) in left.words.iter_mut().zip(there.words) {
            *word &= there;
        }
        messages.retain(|message| index(message.position).is_some_and(|index| left.has(index)));
        if left.is_empty() {
            self.again.insert(id);
        }
    }

    /// An acknowledgement is to be sent even where nothing was settled.
    pub fn is_owing(&self) -> bool {
        !self.again.is_empty()
    }

    /// The acknowledgement for these settled positions; nothing where nothing is to be said.
    pub fn due(&mut self, points: Vec<Position>) -> Option<Due> {
        let mut touched = std::mem::take(&mut self.again);
        for (id, index) in points.iter().filter_map(|point| EntryId::of(*point)) {
            // Of an entry that is not known any more nothing can be said: it comes again.
            if let Some(left) = self.entries.get_mut(&id) {
                left.settle(index);
                touched.insert(id);
            }
        }
        let mut due = Due { points, ..Due::default() };
        for id in touched {
            let mut message = id.message_id();
            match self.entries.get(&id).filter(|left| !left.is_empty()) {
                None => due.whole.push(id),
                Some(left) => {
                    message.ack_set = left.words.clone();
                    message.batch_size = Some(left.size as i32);
                }
            }
            due.ids.push(message);
        }
        (!due.ids.is_empty() || !due.points.is_empty()).then_some(due)
    }

    /// The broker confirmed it.
    pub fn confirm(&mut self, due: &Due) {
        for id in &due.whole {
            self.entries.remove(id);
            if self.known_done.insert(*id) {
                self.done.push_back(*id);
            }
        }
        while self.done.len() > REMEMBERED {
            if let Some(oldest) = self.done.pop_front() {
                self.known_done.remove(&oldest);
            }
        }
    }

    /// Everything that is not settled goes back to the group; `settled` is, and not yet acknowledged.
    pub fn give_back(&mut self, settled: &[Position]) {
        let kept: BTreeSet<EntryId> =
            settled.iter().filter_map(|point| EntryId::of(*point)).map(|(id, _)| id).collect();
        self.entries.retain(|id, _| kept.contains(id));
        self.again.clear();
    }

    /// Another consumer: what the broker gives it from now on it wants to have delivered, whatever was confirmed to the one
    /// before (an operator may have set the subscription back).
    pub fn reopened(&mut self) {
        self.again.clear();
        self.done.clear();
        self.known_done.clear();
    }
}

impl Left {
    fn of(size: u32, messages: &[Message]) -> Left {
        let mut words = vec![0i64; size.max(1).div_ceil(64) as usize];
        for index in messages.iter().filter_map(|message| index(message.position)) {
            if let Some(word) = words.get_mut(index as usize / 64) {
                *word |= 1 << (index % 64);
            }
        }
        Left { size, words }
    }

    fn has(&self, index: u32) -> bool {
        self.words.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn settle(&mut self, index: u32) {
        if let Some(word) = self.words.get_mut(index as usize / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

fn index(position: Position) -> Option<u32> {
    EntryId::of(position).map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(entry: u64) -> EntryId {
        EntryId { ledger: 1, entry }
    }

    fn messages(entry: u64, indexes: impl IntoIterator<Item = u32>) -> Vec<Message> {
        indexes.into_iter().map(|index| Message::at(id(entry).message(index))).collect()
    }

    fn read(acks: &mut Acks, entry: u64, size: u32, indexes: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut messages = messages(entry, indexes);
        acks.read(id(entry), size, &mut messages);
        messages.iter().filter_map(|message| index(message.position)).collect()
    }

    fn due(acks: &mut Acks, points: &[(u64, u32)]) -> Option<Due> {
        acks.due(points.iter().map(|(entry, index)| id(*entry).message(*index)).collect())
    }

    fn said(due: &Option<Due>) -> Vec<(u64, Vec<i64>)> {
        due.iter().flat_map(|due| &due.ids).map(|id| (id.entry_id, id.ack_set.clone())).collect()
    }

    #[test]
    fn an_entry_is_acknowledged_with_what_is_left_of_it_until_nothing_is() {
        let mut acks = Acks::default();
        assert_eq!(read(&mut acks, 7, 3, 0..3), [0, 1, 2]);
        read(&mut acks, 8, 1, 0..1);
        assert_eq!(said(&due(&mut acks, &[(7, 1)])), [(7, vec![0b101])]);
        assert_eq!(said(&due(&mut acks, &[(7, 0), (8, 0)])), [(7, vec![0b100]), (8, vec![])]);
        let last = due(&mut acks, &[(7, 2)]);
        assert_eq!(said(&last), [(7, vec![])]);
        assert_eq!(due(&mut acks, &[]), None);
    }

    #[test]
    fn nothing_is_said_of_what_was_not_read() {
        let mut acks = Acks::default();
        assert_eq!(said(&due(&mut acks, &[(3, 1)])), []);
        read(&mut acks, 3, 2, 0..2);
        due(&mut acks, &[(3, 0)]);
        acks.give_back(&[]);
        assert_eq!(said(&due(&mut acks, &[(3, 1)])), [], "it went back to the group");
    }

    #[test]
    fn what_is_settled_of_an_entry_that_comes_again_is_left_out() {
        let mut acks = Acks::default();
        read(&mut acks, 1, 70, 0..70);
        let sent = due(&mut acks, &[(1, 0), (1, 69)]).unwrap();
        acks.confirm(&sent);
        assert_eq!(read(&mut acks, 1, 70, 0..70).len(), 68, "from a broker that does not keep the set");
        acks.give_back(&[id(1).message(0)]);
        assert_eq!(read(&mut acks, 1, 70, 10..70), (10..69).collect::<Vec<_>>(), "another member settled up to 9");
        assert_eq!(said(&due(&mut acks, &[(1, 10)]))[0].1, [!0 << 11, 0b1_1111]);
    }

    #[test]
    fn an_entry_that_arrives_after_its_acknowledgement_is_acknowledged_again_and_not_handed_out() {
        let mut acks = Acks::default();
        read(&mut acks, 1, 1, [0]);
        let sent = due(&mut acks, &[(1, 0)]).unwrap();
        acks.confirm(&sent);
        assert_eq!(read(&mut acks, 1, 1, [0]), [0; 0]);
        assert!(acks.is_owing());
        assert_eq!(said(&due(&mut acks, &[])), [(1, vec![])]);
        acks.reopened();
        assert_eq!(read(&mut acks, 1, 1, [0]), [0], "an operator set the subscription back");
    }

    #[test]
    fn a_batch_of_which_nothing_is_left_to_hand_out_is_acknowledged() {
        let mut acks = Acks::default();
        assert!(read(&mut acks, 1, 5, []).is_empty());
        assert_eq!(said(&due(&mut acks, &[])), [(1, vec![])]);
    }

    #[test]
    fn what_was_confirmed_is_remembered_for_a_while_only() {
        let mut acks = Acks::default();
        for entry in 0..REMEMBERED as u64 + 10 {
            read(&mut acks, entry, 1, [0]);
            let sent = due(&mut acks, &[(entry, 0)]).unwrap();
            acks.confirm(&sent);
        }
        assert_eq!((acks.done.len(), acks.known_done.len(), acks.entries.len()), (REMEMBERED, REMEMBERED, 0));
    }
}
