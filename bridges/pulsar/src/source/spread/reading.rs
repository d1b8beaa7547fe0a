//! From frames to batches where several instances read a partition: in the order of arrival, which is no order. No I/O.

use std::sync::Arc;

use pulsar::message::proto::CommandMessage;
use trestle_core::{Batch, Cause, Message, Tracker};

use super::acks::Acks;
use crate::{
    batch::{self, EntryId},
    frame::Payload,
    schema::Known,
    source::{
        flow::{Flow, permits},
        held::Held,
        options::{Options, RECEIVER_QUEUE_BYTES},
    },
};

/// Beyond its credit a partition holds so much: as much as is on its way at most, unless entries suddenly grow. What is
/// dropped costs another consumer, and so the end of the epoch.
const HELD_BYTES: usize = RECEIVER_QUEUE_BYTES as usize;

pub(super) struct Reading {
    pub flow: Flow,
    pub schemas: Known,
    pub acks: Acks,
    /// Entries were dropped: they come with another consumer.
    pub missed: bool,
    held: Held,
    largest_message: usize,
}

impl Reading {
    pub fn new(options: &Options, largest_message: usize) -> Self {
        Reading {
            flow: Flow::held_back(options.receiver_queue),
            schemas: Known::new(options.keep_schemas),
            acks: Acks::default(),
            missed: false,
            held: Held::default(),
            largest_message,
        }
    }

    /// A new consumer, without permits, is given whatever is not acknowledged.
    pub fn reopened(&mut self) {
        self.drop_held();
        self.flow.reset();
        self.acks.reopened();
    }

    pub fn drop_held(&mut self) {
        self.missed = false;
        self.held.clear();
    }

    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes a frame. Unless `wanted` only its permits count.
    pub fn take(&mut self, message: CommandMessage, payload: Payload, wanted: bool) {
        self.flow.arrived(permits(&message, &payload));
        self.missed |= wanted && self.flow.credit() == 0 && self.held.bytes >= HELD_BYTES;
        if !wanted || self.missed {
            return;
        }
        let id = EntryId::named(&message.message_id);
        let mut unpacked = match chunk(&payload) {
            Some(detail) => batch::defect(id, Cause::Untranslatable, detail, payload.data, 1),
            None => {
                let schema = self.schemas.header(&payload).cloned();
                batch::unpack(id, payload, &message.ack_set, schema.as_ref(), self.largest_message)
            }
        };
        self.flow.measure(unpacked.messages.iter().map(Message::size).sum());
        self.acks.read(id, unpacked.batch_size, &mut unpacked.messages);
        unpacked.messages.into_iter().for_each(|message| self.held.push(message));
    }

    /// The next batch that credit allows, as far as positions grow.
    pub fn next_batch(&mut self, tracker: &Arc<Tracker>) -> Option<Batch> {
        self.held.next_batch(&mut self.flow, tracker)
    }
}

/// Why a chunk cannot be put together with the others of its message.
fn chunk(payload: &Payload) -> Option<String> {
    let metadata = payload.metadata.as_ref().ok()?;
    let chunks = metadata.num_chunks_from_msg.filter(|chunks| *chunks > 1)?;
    metadata.uuid.as_ref().map(|uuid| {
        format!(
            "chunk {} of {chunks} of message {uuid}: where several consumers share a partition each may be given a part, so \
             it is not put together; read the topic with `subscriptionType: Failover`",
            metadata.chunk_id() + 1,
        )
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pulsar::message::proto::{MessageIdData, MessageMetadata};
    use trestle_core::PartitionId;

    use super::*;

    fn take(reading: &mut Reading, entry: u64, bytes: usize, metadata: MessageMetadata) {
        let message_id = MessageIdData { ledger_id: 1, entry_id: entry, ..Default::default() };
        let message = CommandMessage { message_id, ..Default::default() };
        reading.take(message, Payload { metadata: Ok(metadata), data: Bytes::from(vec![b'x'; bytes]) }, true);
    }

    fn plain() -> MessageMetadata {
        MessageMetadata { publish_time: 1, ..Default::default() }
    }

    fn reading() -> (Reading, Arc<Tracker>) {
        (Reading::new(&Options::default(), 4 << 20), Tracker::unordered(PartitionId(0), || {}))
    }

    fn entries(batch: &Batch) -> Vec<u64> {
        batch.messages.iter().filter_map(|m| EntryId::of(m.position)).map(|(id, _)| id.entry).collect()
    }

    #[test]
    fn what_comes_again_behind_newer_messages_is_a_batch_of_its_own() {
        let (mut reading, tracker) = reading();
        reading.flow.grant(1 << 20);
        for entry in [5, 6, 2, 3, 9] {
            take(&mut reading, entry, 10, plain());
        }
        let batches: Vec<_> = std::iter::from_fn(|| reading.next_batch(&tracker)).collect();
        assert_eq!(batches.iter().map(entries).collect::<Vec<_>>(), [vec![5, 6], vec![2, 3, 9]]);
    }

    #[test]
    fn without_credit_as_much_is_held_as_may_be_on_its_way_and_nothing_passes_what_was_dropped() {
        let (mut reading, tracker) = reading();
        take(&mut reading, 0, HELD_BYTES - 10_000, plain());
        take(&mut reading, 1, 20_000, plain());
        assert!(!reading.missed);
        take(&mut reading, 2, 10, plain());
        assert!(reading.missed);
        reading.flow.grant(1 << 30);
        take(&mut reading, 3, 10, plain());
        assert_eq!(entries(&reading.next_batch(&tracker).unwrap()), [0, 1]);
        assert!(!reading.is_holding() && reading.next_batch(&tracker).is_none());
    }

    #[test]
    fn a_chunk_is_a_defect_that_says_what_to_do() {
        let (mut reading, tracker) = reading();
        reading.flow.grant(1 << 20);
        let metadata = MessageMetadata {
            uuid: Some("p-1".into()),
            chunk_id: Some(1),
            num_chunks_from_msg: Some(3),
            num_messages_in_batch: Some(1),
            ..plain()
        };
        take(&mut reading, 0, 10, metadata);
        let batch = reading.next_batch(&tracker).unwrap();
        let defect = batch.messages[0].defect.as_ref().unwrap();
        assert_eq!(defect.cause, Cause::Untranslatable);
        assert!(defect.detail.contains("chunk 2 of 3") && defect.detail.contains("Failover"), "{}", defect.detail);
        batch.ack.settle(0..1);
        let due = reading.acks.due(tracker.commit_points(9)).unwrap();
        assert!(due.ids.len() == 1 && due.ids[0].ack_set.is_empty(), "the whole entry");
    }
}
