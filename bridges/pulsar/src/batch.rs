//! One entry of a topic taken apart into messages.
//!
//! Whatever arrives becomes messages: what cannot be read is one message with a defect and the raw bytes, so that it is
//! dead-lettered and the reader lives on.

use bytes::{Buf, Bytes};
use pulsar::message::proto::{MessageIdData, MessageMetadata};
use trestle_core::{Cause, Defect, Message, Position};

use crate::{
    compress::{Unreadable, decompress},
    frame::Payload,
    protobuf::take,
    translate::Said,
};

/// A batch may hold this many times the largest message in plain; what says to hold more is not unpacked.
const PLAIN_FACTOR: usize = 8;
/// A payload smaller than this is copied out of the connection's buffer: kept as a slice, a small one would hold the whole
/// buffer, and what else arrived in it, in memory.
const SLICE_FROM: usize = 128 << 10;

/// Where an entry stands in its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct EntryId {
    pub ledger: u64,
    pub entry: u64,
}

impl EntryId {
    pub fn message(self, index: u32) -> Position {
        Position::Entry { ledger: self.ledger, entry: self.entry, index }
    }

    /// As commands name the whole entry.
    pub fn message_id(self) -> MessageIdData {
        MessageIdData { ledger_id: self.ledger, entry_id: self.entry, ..Default::default() }
    }

    /// The entry that a message id names, or stands in.
    pub fn named(id: &MessageIdData) -> EntryId {
        EntryId { ledger: id.ledger_id, entry: id.entry_id }
    }

    /// The entry and index of a position; `None` for one of another protocol.
    pub fn of(position: Position) -> Option<(EntryId, u32)> {
        match position {
            Position::Entry { ledger, entry, index } => Some((EntryId { ledger, entry }, index)),
            Position::Offset(_) => None,
        }
    }
}

/// Messages of one entry in ascending position, and how many the entry holds in all, acknowledged ones included.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub messages: Vec<Message>,
    pub batch_size: u32,
}

/// Unpacks an entry that is no chunk. Messages whose bit in `ack_set` is 0 are acknowledged already and left out; an empty
/// set says that none is. `schema` is the header of its schema. `largest` is the largest message allowed, in bytes.
pub(crate) fn unpack(
    id: EntryId,
    payload: Payload,
    ack_set: &[i64],
    schema: Option<&Bytes>,
    largest: usize,
) -> Unpacked {
    let metadata = match payload.metadata {
        Ok(metadata) => metadata,
        Err(broken) => return defect(id, Cause::Untranslatable, broken.to_string(), payload.data, 1),
    };
    let batch_size = metadata.num_messages_in_batch.map(|n| n.max(0) as u32);
    let whole = batch_size.unwrap_or(1).max(1);
    if !metadata.encryption_keys.is_empty() {
        let detail = "the message is encrypted; decrypt it before it reaches the bridge".to_owned();
        return defect(id, Cause::Untranslatable, detail, payload.data, whole);
    }
    let limit = largest.saturating_mul(PLAIN_FACTOR);
    let plain = match decompress(
        metadata.compression.unwrap_or(0),
        payload.data.clone(),
        metadata.uncompressed_size(),
        limit,
    ) {
        Ok(plain) => plain,
        Err(Unreadable::TooLarge(detail)) => return defect(id, Cause::TooLarge, detail, payload.data, whole),
        Err(Unreadable::Corrupt(detail)) => return defect(id, Cause::Untranslatable, detail, payload.data, whole),
    };
    let received = plain.as_ptr() == payload.data.as_ptr();
    let plain = if received && plain.len() < SLICE_FROM { Bytes::copy_from_slice(&plain) } else { plain };
    match batch_size {
        None => single(id, metadata, plain, schema, largest),
        Some(size) => split(id, size, metadata.publish_time, plain, ack_set, schema, largest),
    }
}

/// One message that an entry, or the chunks of several, hold alone.
fn single(id: EntryId, metadata: MessageMetadata, plain: Bytes, schema: Option<&Bytes>, largest: usize) -> Unpacked {
    let publish_time = metadata.publish_time;
    let said = Said { schema: schema.cloned(), ..said(metadata) };
    let mut message = said.message(plain, publish_time, id.message(0));
    check_size(&mut message, largest);
    Unpacked { messages: vec![message], batch_size: 1 }
}

/// One message with a defect, for an entry of `batch_size` messages.
pub(crate) fn defect(id: EntryId, cause: Cause, detail: String, raw: Bytes, batch_size: u32) -> Unpacked {
    Unpacked { messages: vec![defective(id.message(0), cause, detail, raw)], batch_size }
}

pub(crate) fn defective(position: Position, cause: Cause, detail: String, raw: Bytes) -> Message {
    let defect = Some(Box::new(Defect { cause, detail }));
    Message { key: None, value: Some(raw), headers: Default::default(), time: None, position, defect }
}

fn split(
    id: EntryId,
    size: u32,
    publish_time: u64,
    mut rest: Bytes,
    ack_set: &[i64],
    schema: Option<&Bytes>,
    largest: usize,
) -> Unpacked {
    if size == 0 {
        return defect(id, Cause::Untranslatable, "a batch that says to hold no message".to_owned(), rest, 1);
    }
    // Each message takes 4 bytes of length at least, so what a batch says to hold cannot reserve more than it is worth.
    let mut messages = Vec::with_capacity((size as usize).min(rest.len() / 4));
    for index in 0..size {
        let start = rest.clone();
        match take_single(&mut rest) {
            Some((mut said, payload)) => {
                if is_unacknowledged(ack_set, index) && !said.compacted_out {
                    said.schema = schema.cloned();
                    let mut message = said.message(payload, publish_time, id.message(index));
                    check_size(&mut message, largest);
                    messages.push(message);
                }
            }
            None => {
                // The messages behind it cannot be found: they go with it, as one.
                let detail = format!("message {index} of the batch's {size}, and what follows it, is not readable");
                messages.push(defective(id.message(index), Cause::Untranslatable, detail, start));
                break;
            }
        }
    }
    Unpacked { messages, batch_size: size }
}

fn take_single(rest: &mut Bytes) -> Option<(Said, Bytes)> {
    let length = rest.try_get_u32().ok()? as usize;
    let said = Said::read_single(take(rest, length).ok()?).ok()?;
    let payload = take(rest, usize::try_from(said.payload_size).ok()?).ok()?;
    Some((said, payload))
}

fn check_size(message: &mut Message, largest: usize) {
    let size = message.value.as_ref().map_or(0, Bytes::len);
    if size > largest && message.defect.is_none() {
        let detail = format!("{size} bytes, more than the {largest} that a message may have here");
        message.defect = Some(Box::new(Defect { cause: Cause::TooLarge, detail }));
    }
}

/// Bit `index` of a set in which 1 says "still to be acknowledged"; an empty one says it of all. Words beyond its end are
/// 0, because the broker cuts trailing zeros off (`BitSet.toLongArray`).
fn is_unacknowledged(ack_set: &[i64], index: u32) -> bool {
    ack_set.is_empty() || ack_set.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

/// The set that says of a batch of `size` messages that all up to and with `last` are acknowledged.
pub(crate) fn ack_set_behind(last: u32, size: u32) -> Vec<i64> {
    let mut words = vec![0i64; size.div_ceil(64) as usize];
    for index in last.saturating_add(1)..size {
        if let Some(word) = words.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
        }
    }
    words
}

fn said(metadata: MessageMetadata) -> Said {
    let mut said = Said {
        key: metadata.partition_key.map(Bytes::from),
        base64: metadata.partition_key_b64_encoded.unwrap_or(false),
        null_key: metadata.null_partition_key.unwrap_or(false),
        ordering_key: metadata.ordering_key.map(Bytes::from),
        event_time: metadata.event_time.unwrap_or(0),
        deliver_at: metadata.deliver_at_time,
        null_value: metadata.null_value.unwrap_or(false),
        ..Said::default()
    };
    for property in metadata.properties {
        said.property(property.key.into(), property.value.into());
    }
    said
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use pulsar::message::proto::{CompressionType, EncryptionKeys};
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{
        compress::compress,
        frame::Broken,
        translate::{put_single, tests::random_message},
    };

    const ID: EntryId = EntryId { ledger: 5, entry: 6 };
    const LARGEST: usize = 1 << 20;

    fn messages(count: usize, seed: u64) -> Vec<Message> {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut messages: Vec<_> = (0..count).map(|_| random_message(&mut random)).collect();
        for (index, message) in messages.iter_mut().enumerate() {
            message.position = ID.message(index as u32);
        }
        messages
    }

    fn entry(messages: &[Message], kind: CompressionType) -> Payload {
        let mut out = BytesMut::new();
        for (sequence, message) in messages.iter().enumerate() {
            put_single(&mut out, message, sequence as u64);
        }
        let plain_size = out.len() as u32;
        let (kind, data) = compress(kind, out.freeze()).unwrap();
        let metadata = MessageMetadata {
            num_messages_in_batch: Some(messages.len() as i32),
            compression: Some(kind as i32),
            uncompressed_size: Some(plain_size),
            publish_time: 77,
            ..Default::default()
        };
        Payload { metadata: Ok(metadata), data }
    }

    #[test]
    fn a_batch_comes_apart_into_what_was_put_in() {
        for kind in [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd] {
            let sent = messages(100, 9);
            let unpacked = unpack(ID, entry(&sent, kind), &[], None, LARGEST);
            assert_eq!((unpacked.messages, unpacked.batch_size), (sent, 100));
        }
    }

    #[test]
    fn messages_that_are_acknowledged_are_left_out() {
        let sent = messages(70, 10);
        for last in [0, 3, 63, 64, 68] {
            let unpacked = unpack(ID, entry(&sent, CompressionType::None), &ack_set_behind(last, 70), None, LARGEST);
            assert_eq!(unpacked.messages, sent[last as usize + 1..]);
            assert_eq!(unpacked.batch_size, 70);
        }
        let first_word = &ack_set_behind(0, 3)[..1];
        assert_eq!(unpack(ID, entry(&sent, CompressionType::None), first_word, None, LARGEST).messages, sent[1..3]);
    }

    #[test]
    fn what_cannot_be_read_is_one_defect_with_the_raw_bytes() {
        let sent = messages(3, 11);
        let good = entry(&sent, CompressionType::Lz4);
        let change = |change: &dyn Fn(&mut MessageMetadata)| {
            let mut metadata = good.metadata.clone().unwrap();
            change(&mut metadata);
            Payload { metadata: Ok(metadata), data: good.data.clone() }
        };
        let broken = [
            Payload { metadata: Err(Broken::CutOff), data: good.data.clone() },
            change(&|m| m.compression = Some(17)),
            change(&|m| m.uncompressed_size = Some(3)),
            change(&|m| m.encryption_keys.push(EncryptionKeys::default())),
        ];
        for payload in broken {
            let unpacked = unpack(ID, payload, &[], None, LARGEST);
            assert_eq!(unpacked.messages.len(), 1);
            let message = &unpacked.messages[0];
            assert_eq!(message.defect.as_ref().unwrap().cause, Cause::Untranslatable);
            assert_eq!(message.value.as_ref(), Some(&good.data));
        }
        let huge = unpack(ID, change(&|m| m.uncompressed_size = Some(u32::MAX)), &[], None, LARGEST);
        assert_eq!(huge.messages[0].defect.as_ref().unwrap().cause, Cause::TooLarge);
    }

    #[test]
    fn the_readable_part_of_a_cut_batch_is_handed_out_and_the_rest_is_a_defect() {
        let sent = messages(5, 12);
        let mut payload = entry(&sent, CompressionType::None);
        payload.data.truncate(payload.data.len() - 1);
        let unpacked = unpack(ID, payload, &[], None, LARGEST);
        assert_eq!(unpacked.messages.len(), 5);
        assert_eq!(unpacked.messages[..4], sent[..4]);
        assert_eq!(unpacked.messages[4].position, ID.message(4));
        assert!(unpacked.messages[4].defect.is_some());
        assert_eq!(unpacked.batch_size, 5);
    }

    #[test]
    fn a_message_over_the_largest_is_a_defect_with_its_value() {
        let mut sent = messages(2, 13);
        sent[1].value = Some(Bytes::from(vec![1; 2000]));
        let unpacked = unpack(ID, entry(&sent, CompressionType::None), &[], None, 1000);
        assert_eq!(unpacked.messages[0].defect, None);
        assert_eq!(unpacked.messages[1].defect.as_ref().unwrap().cause, Cause::TooLarge);
        assert_eq!(unpacked.messages[1].value, sent[1].value);
    }

    #[test]
    fn spoiled_batches_never_panic_and_never_make_more_messages_than_they_say() {
        let mut random = SmallRng::seed_from_u64(14);
        let good = entry(&messages(4, 15), CompressionType::None);
        for _ in 0..20_000 {
            let mut metadata = good.metadata.clone().unwrap();
            let mut data = good.data.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..data.len());
                data[at] = random.random();
            }
            if random.random_bool(0.2) {
                metadata.num_messages_in_batch = Some(random.random());
            }
            let unpacked = unpack(ID, Payload { metadata: Ok(metadata), data: data.into() }, &[], None, LARGEST);
            assert!(!unpacked.messages.is_empty() && unpacked.messages.len() <= unpacked.batch_size as usize);
        }
    }
}
