//! Work on messages with no I/O, for micro-benchmarks.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use pulsar::message::proto::{BaseCommand, CommandMessage, CompressionType, base_command::Type};
use trestle_core::Message;

use crate::{
    batch::{EntryId, unpack},
    frame::{self, Encoded},
    lane::Encoder,
    schema::Restored,
};

const LARGEST: usize = 5 << 20;
/// As many as a lane sends at once.
const UNIT: usize = crate::lane::UNIT_MESSAGES;

/// The frames of SEND commands.
pub fn write(messages: &[Message]) -> Vec<Bytes> {
    let encoder = Encoder {
        producer_id: 1,
        name: "trestle".into(),
        topic: "topic".into(),
        max_message: LARGEST,
        compression: CompressionType::None,
        split_large: false,
    };
    let (mut sequence, schemas) = (0, Restored::new(true));
    let plans = messages.chunks(UNIT).map(|unit| encoder.plan(&mut sequence, unit.iter(), &schemas));
    let frames = plans.flat_map(|plan| plan.parts).flat_map(|part| part.frames);
    frames.map(|Encoded { head, body }| [head, body].concat().into()).collect()
}

/// How many messages there are in what [`write`] has made, when a broker hands it out again.
pub fn read(frames: Vec<Bytes>) -> usize {
    let mut messages = 0;
    for (entry, frame) in (0..).zip(frames) {
        let decoded = frame::decode(&mut handed_out(&frame), LARGEST).ok().flatten();
        if let Some(payload) = decoded.and_then(|frame| frame.payload) {
            messages += unpack(EntryId { ledger: 1, entry }, payload, &[], None, LARGEST).messages.len();
        }
    }
    messages
}

/// The frame of a MESSAGE command in place of a SEND command, with the same entry.
fn handed_out(sent: &Bytes) -> BytesMut {
    let mut rest = sent.clone();
    rest.advance(4);
    let command = rest.get_u32() as usize;
    rest.advance(command);
    let mut message = BaseCommand { r#type: Type::Message as i32, ..Default::default() };
    message.message = Some(CommandMessage { consumer_id: 1, ..Default::default() });
    let command = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(8 + command.len() + rest.len());
    frame.put_u32((4 + command.len() + rest.len()) as u32);
    frame.put_u32(command.len() as u32);
    frame.put_slice(&command);
    frame.put_slice(&rest);
    frame
}
