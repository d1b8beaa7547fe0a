//! From frames to batches: what of a partition was read and not yet handed out. No I/O.

use std::sync::Arc;

use pulsar::message::proto::CommandMessage;
use trestle_core::{Batch, Cause, Message, Position, Tracker};

use super::{
    flow::{Flow, permits},
    held::Held,
    options::Options,
    seen::Seen,
};
use crate::{
    acks::Acks,
    batch::{self, EntryId, Unpacked},
    chunks::{Chunks, Taken},
    frame::Payload,
    schema::Known,
};

/// Beyond its credit a partition holds one entry, or as many small ones as this.
const HELD_BYTES: usize = 128 << 10;

pub(super) struct Reading {
    pub flow: Flow,
    pub schemas: Known,
    /// What is acknowledged of the assignment.
    pub acks: Acks,
    pub seen: Seen,
    /// Out-of-budget entries were dropped: reading has to go back once there is credit.
    pub missed: bool,
    /// Messages in front of it are not wanted.
    pub floor: Option<Position>,
    chunks: Chunks,
    held: Held,
    largest_message: usize,
}

/// Entries that were delivered before do not come again: the first of them, and what came instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub from: EntryId,
    pub to: EntryId,
}

impl Reading {
    pub fn new(options: &Options, largest_message: usize) -> Self {
        Reading {
            flow: Flow::new(options.receiver_queue),
            schemas: Known::new(options.keep_schemas),
            acks: Acks::default(),
            seen: Seen::default(),
            missed: false,
            floor: None,
            chunks: Chunks::default(),
            held: Held::default(),
            largest_message,
        }
    }

    /// A new assignment begins: what was held and known belongs to the one before.
    pub fn assign(&mut self) {
        self.acks = Acks::default();
        self.seen = Seen::default();
        self.floor = None;
        self.flow.grant(0);
        self.back(None, false);
    }

    /// What is held comes again, from `next` on where that is known; `again` with a new consumer, see [`Seen::rewind`].
    pub fn back(&mut self, next: Option<EntryId>, again: bool) {
        self.drop_held();
        self.seen.rewind(next, again);
    }

    /// A new consumer begins at the acknowledged position, without permits.
    pub fn reopened(&mut self) {
        self.drop_held();
        self.flow.reset();
        self.seen.reopened();
    }

    fn drop_held(&mut self) {
        self.missed = false;
        self.chunks = Chunks::default();
        self.held.clear();
    }

    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes a frame. Unless `wanted` only its permits count.
    pub fn take(&mut self, message: CommandMessage, payload: Payload, wanted: bool) -> Result<(), Gone> {
        self.flow.arrived(permits(&message, &payload));
        let id = EntryId::named(&message.message_id);
        if !wanted {
            self.seen.delivered(id);
            return Ok(());
        }
        self.seen.arrives(id).map_err(|from| Gone { from, to: id })?;
        self.missed |= self.flow.credit() == 0 && self.held.bytes >= HELD_BYTES;
        if self.missed {
            return Ok(());
        }
        let (given_up, taken) = self.chunks.take(id, payload, self.largest_message);
        for gone in given_up {
            self.acks.chunked(gone.first, Some(gone.message.position));
            self.flow.measure(gone.message.size());
            self.hold(gone.message);
        }
        let unpacked = match taken {
            Taken::Entry { payload, first } => {
                if let Some(first) = first {
                    self.acks.chunked(first, Some(id.message(0)));
                }
                let schema = self.schemas.header(&payload).cloned();
                batch::unpack(id, payload, &message.ack_set, schema.as_ref(), self.largest_message)
            }
            Taken::Broken { first, detail, raw } => {
                self.acks.chunked(first, Some(id.message(0)));
                batch::defect(id, Cause::Untranslatable, detail, raw, 1)
            }
            Taken::Open { first } => {
                self.acks.chunked(first, None);
                Unpacked { messages: Vec::new(), batch_size: 1 }
            }
            Taken::Repeated => Unpacked { messages: Vec::new(), batch_size: 1 },
        };
        let last = unpacked.messages.last().and_then(|m| EntryId::of(m.position)).map_or(0, |(_, index)| index);
        self.acks.read(id, last, unpacked.batch_size);
        self.flow.measure(unpacked.messages.iter().map(Message::size).sum());
        unpacked.messages.into_iter().for_each(|message| self.hold(message));
        Ok(())
    }

    fn hold(&mut self, message: Message) {
        if self.floor.is_none_or(|floor| message.position >= floor) {
            self.held.push(message);
        }
    }

    /// The next batch that credit allows.
    pub fn next_batch(&mut self, tracker: &Arc<Tracker>) -> Option<Batch> {
        self.held.next_batch(&mut self.flow, tracker)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pulsar::message::proto::{MessageIdData, MessageMetadata};
    use trestle_core::PartitionId;

    use super::*;

    fn frame(entry: u64, bytes: usize) -> (CommandMessage, Payload) {
        let message_id = MessageIdData { ledger_id: 1, entry_id: entry, ..Default::default() };
        let message = CommandMessage { message_id, ..Default::default() };
        let data = Bytes::from(vec![b'x'; bytes]);
        (message, Payload { metadata: Ok(MessageMetadata { publish_time: 1, ..Default::default() }), data })
    }

    fn reading() -> (Reading, Arc<Tracker>) {
        (Reading::new(&Options::default(), 1 << 20), Tracker::new(PartitionId(0), || {}))
    }

    fn take(reading: &mut Reading, entry: u64, bytes: usize) -> Result<(), Gone> {
        let (message, payload) = frame(entry, bytes);
        reading.take(message, payload, true)
    }

    fn entries(batch: &Batch) -> Vec<u64> {
        batch.messages.iter().filter_map(|m| EntryId::of(m.position)).map(|(id, _)| id.entry).collect()
    }

    #[test]
    fn entries_that_arrived_together_are_one_batch_up_to_the_credit() {
        let (mut reading, tracker) = reading();
        (0..10).for_each(|entry| take(&mut reading, entry, 840).unwrap());
        assert!(reading.next_batch(&tracker).is_none(), "no credit");
        reading.flow.grant(2500);
        let first = reading.next_batch(&tracker).unwrap();
        assert_eq!(entries(&first), [0, 1, 2], "the one that crosses the line is handed out whole");
        assert!(reading.next_batch(&tracker).is_none());
        reading.flow.grant(1 << 20);
        let rest = reading.next_batch(&tracker).unwrap();
        assert_eq!(entries(&rest), [3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn beyond_the_credit_one_entry_is_held_and_the_rest_comes_again() {
        let (mut reading, tracker) = reading();
        take(&mut reading, 0, HELD_BYTES).unwrap();
        assert!(!reading.missed);
        take(&mut reading, 1, 10).unwrap();
        take(&mut reading, 2, 10).unwrap();
        assert!(reading.missed);
        reading.flow.grant(1 << 20);
        take(&mut reading, 3, 10).unwrap();
        let first = reading.next_batch(&tracker).unwrap();
        assert_eq!(entries(&first), [0], "nothing is handed out past what was dropped");
        reading.back(Some(EntryId { ledger: 1, entry: 0 }), true);
        (0..4).for_each(|entry| take(&mut reading, entry, 10).unwrap());
        assert_eq!(entries(&reading.next_batch(&tracker).unwrap()), [1, 2, 3], "0 was handed out in this epoch");
    }

    #[test]
    fn frames_that_nobody_wants_cost_permits_and_nothing_else() {
        let (mut reading, tracker) = reading();
        reading.flow.grant(1 << 20);
        assert_eq!(reading.flow.due(), Some(1));
        let (message, payload) = frame(6, 10);
        reading.take(message, payload, false).unwrap();
        assert_eq!(reading.flow.due(), Some(1), "given back");
        assert!(reading.next_batch(&tracker).is_none());
    }

    #[test]
    fn entries_that_came_before_and_do_not_come_again_are_noticed() {
        let (mut reading, _) = reading();
        (0..4).for_each(|entry| take(&mut reading, entry, 10).unwrap());
        reading.back(Some(EntryId { ledger: 1, entry: 1 }), true);
        let gone = take(&mut reading, 3, 10).unwrap_err();
        assert_eq!((gone.from.entry, gone.to.entry), (1, 3));
    }
}
