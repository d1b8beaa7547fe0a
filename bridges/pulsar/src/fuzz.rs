//! What reads bytes of others, as functions of any bytes: for `integration/fuzz`. None may panic, and each checks what must
//! hold whatever comes.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;
use pulsar::message::proto::MessageMetadata;

use crate::{
    batch::{EntryId, unpack},
    chunks::{Chunks, Taken},
    envelope::Envelope,
    frame::{self, Broken, Payload},
};

const LARGEST: usize = 1 << 20;

/// What a broker writes to its connection: frames, and the entry in each.
pub fn frames(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let mut entry = 0;
    while let Ok(Some(frame)) = frame::decode(&mut buffer, LARGEST) {
        if let (Some(message), Some(payload)) = (&frame.command.message, frame.payload) {
            read(EntryId { ledger: 1, entry }, payload, &message.ack_set);
            entry += 1;
        }
    }
}

/// Entries of one topic, chunks among them. Each is the length of its metadata and of its data (`u16` both), and these.
pub fn entries(bytes: &[u8]) {
    let mut input = Bytes::copy_from_slice(bytes);
    let mut chunks = Chunks::default();
    for entry in 0.. {
        let (Ok(metadata), Ok(data)) = (input.try_get_u16(), input.try_get_u16()) else { break };
        let mut take = |bytes: u16| input.split_to(usize::from(bytes).min(input.len()));
        let (metadata, data) = (take(metadata), take(data));
        let metadata = MessageMetadata::decode(metadata).map_err(|error| Broken::Metadata(error.to_string()));
        let id = EntryId { ledger: 1, entry };
        if let (_, Taken::Entry { payload, .. }) = chunks.take(id, Payload { metadata, data }, LARGEST) {
            read(id, payload, &[]);
        }
    }
}

fn read(id: EntryId, payload: Payload, ack_set: &[i64]) {
    let unpacked = unpack(id, payload, ack_set, None, LARGEST);
    let positions: Vec<_> = unpacked.messages.iter().map(|message| message.position).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "positions do not ascend");
    assert!(unpacked.messages.iter().all(|m| m.defect.is_some() || m.size() <= LARGEST), "larger than allowed");
}

/// The property in which headers travel that Pulsar cannot say.
pub fn envelope(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::decode(bytes) {
        assert_eq!(Envelope::decode(envelope.encode().as_bytes()), Ok(envelope));
    }
}
