//! What may be acknowledged of a partition, as a cumulative acknowledgement says it.
//!
//! A position names a message, an acknowledgement an entry: one that ends inside a batch carries the set of messages still
//! to come (`ack_set`), and one must never pass the first chunk of a message that is not settled. Kept for the whole
//! assignment, across rewinds.

use std::collections::BTreeMap;

use pulsar::message::proto::MessageIdData;
use trestle_core::Position;

use crate::batch::{EntryId, ack_set_behind};

#[derive(Default)]
pub(crate) struct Acks {
    /// Entries read since the newest confirmed acknowledgement.
    entries: BTreeMap<EntryId, Shape>,
    /// First entry of chunked messages and where they stand; nowhere while that is not known.
    chunked: BTreeMap<EntryId, Option<Position>>,
    confirmed: Option<Position>,
}

struct Shape {
    /// Index of the last message handed out; those behind it were acknowledged before.
    last: u32,
    /// Messages in the entry.
    size: u32,
}

/// A cumulative acknowledgement: all messages up to and with `position`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ack {
    pub position: Position,
    pub id: MessageIdData,
}

impl Acks {
    /// An entry was read of which the message at `last` is the last to be handed out.
    pub fn read(&mut self, id: EntryId, last: u32, size: u32) {
        if self.confirmed.is_none_or(|confirmed| id.message(last) > confirmed) {
            self.entries.insert(id, Shape { last, size });
        }
    }

    /// A chunked message begins at `first` and stands at `position`, where that is known.
    pub fn chunked(&mut self, first: EntryId, position: Option<Position>) {
        if self.confirmed.is_none_or(|confirmed| first.message(0) > confirmed) {
            self.chunked.insert(first, position);
        }
    }

    /// The acknowledgement for a settled prefix that ends with `prefix`, if there is one to send.
    pub fn due(&self, prefix: Position) -> Option<Ack> {
        let (id, index) = EntryId::of(prefix)?;
        let unsettled = |at: &Option<Position>| at.is_none_or(|at| at > prefix);
        let held = self.chunked.range(..=id).find(|(_, at)| unsettled(at)).map(|(first, _)| *first);
        let ack = match (held, self.entries.get(&id)) {
            (None, Some(shape)) if index < shape.last => partial(id, index, shape.size),
            (None, Some(_)) => whole(id, index),
            // The newest entry in front of what must not be acknowledged.
            (held, _) => {
                let (id, shape) = self.entries.range(..held.unwrap_or(id)).next_back()?;
                whole(*id, shape.last)
            }
        };
        self.confirmed.is_none_or(|confirmed| ack.position > confirmed).then_some(ack)
    }

    /// The broker confirmed an acknowledgement up to this position.
    pub fn confirm(&mut self, position: Position) {
        if self.confirmed.is_some_and(|confirmed| confirmed >= position) {
            return;
        }
        self.confirmed = Some(position);
        let Some((id, index)) = EntryId::of(position) else { return };
        let behind = self.entries.split_off(&id);
        self.entries = behind;
        if self.entries.get(&id).is_some_and(|shape| index >= shape.last) {
            self.entries.remove(&id);
        }
        self.chunked.retain(|_, at| at.is_none_or(|at| at > position));
    }

    /// The first entry that is not wholly settled when the settled prefix ends with `prefix`.
    pub fn behind(&self, prefix: Position) -> Option<EntryId> {
        let (id, index) = EntryId::of(prefix)?;
        let inside = self.entries.get(&id).is_some_and(|shape| index < shape.last);
        Some(if inside { id } else { EntryId { entry: id.entry.saturating_add(1), ..id } })
    }

    pub fn confirmed(&self) -> Option<Position> {
        self.confirmed
    }
}

fn whole(id: EntryId, index: u32) -> Ack {
    Ack { position: id.message(index), id: id.message_id() }
}

fn partial(id: EntryId, index: u32, size: u32) -> Ack {
    let mut ack = whole(id, index);
    ack.id.ack_set = ack_set_behind(index, size);
    ack.id.batch_size = Some(size as i32);
    ack
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(entry: u64) -> EntryId {
        EntryId { ledger: 1, entry }
    }

    fn due(acks: &Acks, entry: u64, index: u32) -> Option<(u64, Vec<i64>, Option<i32>)> {
        acks.due(id(entry).message(index)).map(|ack| (ack.id.entry_id, ack.id.ack_set, ack.id.batch_size))
    }

    #[test]
    fn a_prefix_that_ends_inside_a_batch_leaves_the_rest_of_it_unacknowledged() {
        let mut acks = Acks::default();
        acks.read(id(1), 0, 1);
        acks.read(id(2), 69, 70);
        assert_eq!(due(&acks, 1, 0), Some((1, vec![], None)));
        assert_eq!(due(&acks, 2, 1), Some((2, vec![!0b11, 0b11_1111], Some(70))));
        assert_eq!(due(&acks, 2, 68), Some((2, vec![0, 0b10_0000], Some(70))));
        assert_eq!(due(&acks, 2, 69), Some((2, vec![], None)));
    }

    #[test]
    fn a_batch_whose_last_messages_were_acknowledged_before_is_whole_without_them() {
        let mut acks = Acks::default();
        acks.read(id(1), 5, 10);
        assert_eq!(due(&acks, 1, 5), Some((1, vec![], None)));
    }

    #[test]
    fn nothing_behind_the_first_chunk_of_an_unsettled_message_is_acknowledged() {
        let mut acks = Acks::default();
        acks.read(id(1), 3, 4);
        acks.chunked(id(2), None);
        acks.read(id(3), 0, 1);
        assert_eq!(due(&acks, 3, 0), Some((1, vec![], None)), "its end is not known");
        acks.chunked(id(2), Some(id(4).message(0)));
        acks.read(id(4), 0, 1);
        assert_eq!(due(&acks, 3, 0), Some((1, vec![], None)), "it is whole and not settled");
        acks.confirm(id(1).message(3));
        assert_eq!(due(&acks, 3, 0), None, "nor is the same acknowledged again");
        assert_eq!(due(&acks, 4, 0), Some((4, vec![], None)));
        acks.confirm(id(4).message(0));
        assert!(acks.entries.is_empty() && acks.chunked.is_empty());
    }

    #[test]
    fn what_was_confirmed_is_forgotten_but_not_the_batch_it_ends_in() {
        let mut acks = Acks::default();
        acks.read(id(1), 9, 10);
        acks.read(id(2), 9, 10);
        acks.confirm(id(2).message(4));
        assert_eq!(due(&acks, 2, 4), None);
        assert_eq!(due(&acks, 2, 5).unwrap().0, 2);
        acks.confirm(id(2).message(9));
        assert!(acks.entries.is_empty());
        acks.read(id(2), 9, 10);
        assert!(acks.entries.is_empty(), "read again after a reconnect");
    }

    #[test]
    fn a_message_given_up_behind_an_entry_acknowledges_that_entry_whole() {
        let mut acks = Acks::default();
        acks.read(id(1), 9, 10);
        assert_eq!(due(&acks, 1, u32::MAX - 3), Some((1, vec![], None)));
        acks.chunked(id(1), Some(id(1).message(u32::MAX - 3)));
        assert_eq!(due(&acks, 1, 9), None, "and not before it is settled itself");
        assert_eq!(due(&acks, 1, u32::MAX - 3), Some((1, vec![], None)));
    }
}
