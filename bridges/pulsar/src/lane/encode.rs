//! Messages to frames: batches, single messages, chunks. Pure but for the clock.

use std::{
    mem,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use pulsar::message::proto::{BaseCommand, CommandSend, CompressionType, MessageMetadata, base_command::Type};
use trestle_core::{Cause, Fault, Message};

use crate::{
    compress::compress,
    connection::command,
    frame::{self, Encoded, SEND_OVERHEAD},
    schema::Restored,
    translate::{fill_metadata, put_single},
};

/// Bytes of a batch before compression, at most. One write and one receipt per MiB cost nothing, and a sink that has to
/// split it further is spared the memory.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;
/// Kept free of `max_message` for a batch's own metadata: names, numbers and times.
const BATCH_METADATA_ROOM: usize = 1024;
/// A chunk carries this much at least; with less room beside the headers the message is too large however it is cut.
const SMALLEST_CHUNK: usize = 1024;

/// What does not change between the sends of one producer.
pub(crate) struct Encoder {
    pub producer_id: u64,
    pub name: String,
    /// For the detail of a fault: the topic's full name.
    pub topic: String,
    /// Bytes of metadata and payload of one entry at most.
    pub max_message: usize,
    pub compression: CompressionType,
    pub split_large: bool,
}

/// Frames that become one batch, one message, or the chunks of one message: stored or not as a whole.
pub(crate) struct Planned {
    /// That of its first message.
    pub sequence: u64,
    pub messages: usize,
    pub frames: Vec<Encoded>,
}

#[derive(Default)]
pub(crate) struct Plan {
    pub parts: Vec<Planned>,
    /// Why the message behind those of `parts` cannot be sent, when it cannot. Nothing behind it is encoded.
    pub refused: Option<Fault>,
}

impl Encoder {
    /// Encodes messages under ascending sequence ids from `sequence` on, and moves it past them.
    pub fn plan<'a>(
        &self,
        sequence: &mut u64,
        messages: impl ExactSizeIterator<Item = &'a Message>,
        schemas: &Restored,
    ) -> Plan {
        let mut plan = Plan::default();
        // Alone it travels without a batch around it.
        let alone = messages.len() == 1;
        let limit = BATCH_BYTES.min(self.max_message.saturating_sub(BATCH_METADATA_ROOM));
        let mut batch = Batch { sequence: *sequence, messages: 0, schema: &[], payload: BytesMut::new() };
        for message in messages {
            let (message, schema) = match schemas.of(message) {
                Ok(typed) => typed,
                Err(fault) => {
                    plan.refused = Some(fault);
                    break;
                }
            };
            if schema != batch.schema {
                self.finish(&mut plan, &mut batch);
                batch.schema = schema;
            }
            // What cannot fit is not copied to find that out.
            let hopeless = message.value.as_ref().is_some_and(|value| value.len() > limit);
            if !alone
                && !hopeless
                && (batch.add(&message, sequence, limit) || {
                    self.finish(&mut plan, &mut batch);
                    batch.add(&message, sequence, limit)
                })
            {
                continue;
            }
            self.finish(&mut plan, &mut batch);
            self.single(&mut plan, sequence, &message, schema);
            if plan.refused.is_some() {
                return plan;
            }
        }
        self.finish(&mut plan, &mut batch);
        plan
    }

    /// Ends the batch, and empties it.
    fn finish(&self, plan: &mut Plan, batch: &mut Batch<'_>) {
        let (sequence, messages) = (batch.sequence, mem::take(&mut batch.messages));
        if messages == 0 {
            return;
        }
        let mut metadata = self.metadata(sequence, batch.schema);
        let body = self.compressed(&mut metadata, mem::take(&mut batch.payload).freeze());
        let highest = sequence + messages as u64 - 1;
        metadata.highest_sequence_id = Some(highest);
        metadata.num_messages_in_batch = Some(messages as i32);
        let send = CommandSend {
            producer_id: self.producer_id,
            sequence_id: sequence,
            num_messages: Some(messages as i32),
            highest_sequence_id: Some(highest),
            ..Default::default()
        };
        plan.parts.push(Planned {
            sequence,
            messages,
            frames: vec![frame::encode_send(&to_send(send), &metadata, body)],
        });
    }

    /// A message in a frame of its own, or in as many as it needs.
    fn single(&self, plan: &mut Plan, sequence: &mut u64, message: &Message, schema: &[u8]) {
        let mut metadata = self.metadata(*sequence, schema);
        fill_metadata(&mut metadata, message);
        let body = self.compressed(&mut metadata, message.value.clone().unwrap_or_default());
        let send = CommandSend { producer_id: self.producer_id, sequence_id: *sequence, ..Default::default() };
        let size = SEND_OVERHEAD + metadata.encoded_len() + body.len();
        let frames = if size <= self.max_message {
            vec![frame::encode_send(&to_send(send), &metadata, body)]
        } else {
            match self.chunks(&mut metadata, send, &body) {
                Some(frames) => frames,
                None => {
                    plan.refused = Some(self.too_large(message, size));
                    return;
                }
            }
        };
        plan.parts.push(Planned { sequence: *sequence, messages: 1, frames });
        *sequence += 1;
    }

    /// PIP-37: every chunk has the message's sequence id and its whole metadata.
    fn chunks(&self, metadata: &mut MessageMetadata, mut send: CommandSend, body: &Bytes) -> Option<Vec<Encoded>> {
        if !self.split_large {
            return None;
        }
        let total = i32::try_from(body.len()).ok()?;
        // The same message may be sent again under another sequence id, and a restarted producer may count from 0.
        metadata.uuid = Some(format!("{}-{}-{}", self.name, metadata.sequence_id, metadata.publish_time));
        metadata.total_chunk_msg_size = Some(total);
        // Numbers of any chunk take no more room than these.
        (metadata.num_chunks_from_msg, metadata.chunk_id) = (Some(total), Some(total));
        let room = self.max_message.checked_sub(SEND_OVERHEAD + metadata.encoded_len())?;
        if room < SMALLEST_CHUNK {
            return None;
        }
        let chunks = body.len().div_ceil(room);
        metadata.num_chunks_from_msg = Some(chunks as i32);
        send.is_chunk = Some(true);
        let command = to_send(send);
        let frames = (0..chunks).map(|chunk| {
            metadata.chunk_id = Some(chunk as i32);
            let end = body.len().min((chunk + 1) * room);
            frame::encode_send(&command, metadata, body.slice(chunk * room..end))
        });
        Some(frames.collect())
    }

    fn metadata(&self, sequence_id: u64, schema: &[u8]) -> MessageMetadata {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        MessageMetadata {
            producer_name: self.name.clone(),
            sequence_id,
            publish_time: now.as_millis() as u64,
            schema_version: (!schema.is_empty()).then(|| schema.to_vec()),
            ..Default::default()
        }
    }

    /// Compresses where that makes it smaller.
    fn compressed(&self, metadata: &mut MessageMetadata, plain: Bytes) -> Bytes {
        if self.compression == CompressionType::None || plain.is_empty() {
            return plain;
        }
        match compress(self.compression, plain.clone()) {
            Ok((kind, packed)) if packed.len() < plain.len() => {
                metadata.compression = Some(kind as i32);
                metadata.uncompressed_size = Some(plain.len() as u32);
                packed
            }
            _ => plain,
        }
    }

    fn too_large(&self, message: &Message, size: usize) -> Fault {
        let value = message.value.as_ref().map_or(0, Bytes::len);
        let detail = format!(
            "a message of {size} bytes (value {value}, the rest key, headers and metadata) for {}, which takes {}; raise \
             the broker's maxMessageSize, or send less",
            self.topic, self.max_message
        );
        Fault::rejected(Cause::TooLarge, detail)
    }
}

/// Messages that are to share an entry: all of one schema.
struct Batch<'s> {
    /// That of the first message.
    sequence: u64,
    messages: usize,
    /// The version; empty without one.
    schema: &'s [u8],
    payload: BytesMut,
}

impl Batch<'_> {
    /// Takes a message in under the next sequence id, unless the batch would be larger than `limit`.
    fn add(&mut self, message: &Message, sequence: &mut u64, limit: usize) -> bool {
        let before = self.payload.len();
        put_single(&mut self.payload, message, *sequence);
        if self.payload.len() > limit {
            self.payload.truncate(before);
            return false;
        }
        if self.messages == 0 {
            self.sequence = *sequence;
        }
        self.messages += 1;
        *sequence += 1;
        true
    }
}

fn to_send(send: CommandSend) -> BaseCommand {
    BaseCommand { send: Some(send), ..command(Type::Send) }
}

#[cfg(test)]
mod tests {
    use trestle_core::{FaultKind, Position};

    use super::*;
    use crate::schema;

    const MAX: usize = 20_000;

    fn encoder(split_large: bool) -> Encoder {
        let compression = CompressionType::None;
        Encoder { producer_id: 1, name: "p".into(), topic: "t".into(), max_message: MAX, compression, split_large }
    }

    fn message(size: usize) -> Message {
        let value = Some(Bytes::from(vec![7; size]));
        Message { value, time: Some(1), ..Message::at(Position::Offset(0)) }
    }

    fn plan(encoder: &Encoder, sizes: &[usize]) -> (Plan, u64) {
        let messages: Vec<_> = sizes.iter().map(|size| message(*size)).collect();
        let mut sequence = 100;
        let plan = encoder.plan(&mut sequence, messages.iter(), &Restored::new(false));
        (plan, sequence)
    }

    fn shape(plan: &Plan) -> Vec<(u64, usize, usize)> {
        plan.parts.iter().map(|part| (part.sequence, part.messages, part.frames.len())).collect()
    }

    fn entry_size(frame: &Encoded) -> usize {
        let command = u32::from_be_bytes(frame.head[4..8].try_into().unwrap()) as usize;
        frame.head.len() - 8 - command + frame.body.len()
    }

    #[test]
    fn messages_share_a_batch_as_long_as_they_fit() {
        let (plan, next) = plan(&encoder(false), &[100; 10]);
        assert_eq!((shape(&plan), next), (vec![(100, 10, 1)], 110));
    }

    #[test]
    fn a_batch_is_cut_where_the_broker_would_refuse_it() {
        let (plan, next) = plan(&encoder(false), &[6_000; 7]);
        assert_eq!((shape(&plan), next), (vec![(100, 3, 1), (103, 3, 1), (106, 1, 1)], 107));
        assert!(plan.parts.iter().all(|part| entry_size(&part.frames[0]) <= MAX));
    }

    #[test]
    fn a_message_that_is_too_large_takes_no_neighbour_with_it() {
        let (plan, next) = plan(&encoder(false), &[10, 10, 30_000, 10]);
        assert_eq!((shape(&plan), next), (vec![(100, 2, 1)], 102));
        let fault = plan.refused.unwrap();
        assert_eq!(fault.kind, FaultKind::Rejected(Cause::TooLarge));
        assert!(fault.detail.contains("value 30000") && fault.detail.contains("takes 20000"), "{}", fault.detail);
    }

    #[test]
    fn the_largest_message_that_fits_is_sent_and_one_byte_more_is_not() {
        let overhead = {
            let (plan, _) = plan(&encoder(false), &[MAX - 1_000]);
            entry_size(&plan.parts[0].frames[0]) - (MAX - 1_000)
        };
        let (fits, _) = plan(&encoder(false), &[MAX - overhead]);
        assert_eq!(entry_size(&fits.parts[0].frames[0]), MAX);
        let (over, _) = plan(&encoder(false), &[MAX - overhead + 1]);
        assert!(over.parts.is_empty() && over.refused.is_some());
    }

    #[test]
    fn a_large_message_is_cut_into_chunks_that_each_fit() {
        let (plan, next) = plan(&encoder(true), &[10, 50_000, 10]);
        assert_eq!((shape(&plan), next), (vec![(100, 1, 1), (101, 1, 3), (102, 1, 1)], 103));
        let chunks = &plan.parts[1].frames;
        assert!(chunks.iter().all(|frame| entry_size(frame) <= MAX));
        assert_eq!(chunks.iter().map(|frame| frame.body.len()).sum::<usize>(), 50_000);
    }

    #[test]
    fn headers_larger_than_an_entry_are_refused_even_where_chunks_are_allowed() {
        let mut message = message(10);
        message.headers.push("big", Some(Bytes::from("x".repeat(MAX))));
        let mut sequence = 0;
        let plan = encoder(true).plan(&mut sequence, [message].iter(), &Restored::new(false));
        assert!(plan.parts.is_empty() && plan.refused.is_some());
    }

    #[test]
    fn a_batch_is_cut_where_the_schema_changes_and_before_one_that_is_refused() {
        let message = |schema: Option<&'static str>| {
            let mut message = message(10);
            if let Some(schema) = schema {
                message.headers.push(schema::NAME, Some(Bytes::from(schema)));
            }
            message
        };
        let known = [("a", Ok(1)), ("b", Ok(2)), ("bad", Err("no"))];
        let schemas = Restored::knowing(&known);
        let order = [None, Some("a"), Some("a"), Some("b"), None, None, Some("bad"), Some("a")];
        let messages: Vec<_> = order.into_iter().map(message).collect();
        let mut sequence = 100;
        let plan = encoder(false).plan(&mut sequence, messages.iter(), &schemas);
        assert_eq!(shape(&plan), [(100, 1, 1), (101, 2, 1), (103, 1, 1), (104, 2, 1)]);
        assert_eq!(plan.refused.unwrap().detail, "no");
        let version = |part: &Planned| {
            let command = u32::from_be_bytes(part.frames[0].head[4..8].try_into().unwrap()) as usize;
            let metadata = &part.frames[0].head[8 + command + 10..];
            MessageMetadata::decode(metadata).unwrap().schema_version
        };
        assert_eq!(plan.parts.iter().map(version).collect::<Vec<_>>(), [None, Some(vec![1]), Some(vec![2]), None]);
    }

    #[test]
    fn what_compression_makes_larger_travels_plain() {
        let compression = CompressionType::Lz4;
        let encoder = Encoder { compression, ..encoder(false) };
        let (shrinks, _) = plan(&encoder, &[5_000; 3]);
        assert!(shrinks.parts[0].frames[0].body.len() < 1_000);
        let (grows, _) = plan(&encoder, &[1]);
        assert_eq!(grows.parts[0].frames[0].body.len(), 1);
    }
}
