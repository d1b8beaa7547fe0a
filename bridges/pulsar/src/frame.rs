//! Frames of the Pulsar binary protocol: bytes <-> command and payload. Pure, and total on any input.
//!
//! `[total: u32][command: u32 + bytes]`, and for commands that carry messages
//! `[0x0e02 broker entry metadata: u32 + bytes]? [0x0e01 crc32c: u32]? [metadata: u32 + bytes][payload]`.
//! Source: Pulsar's "binary protocol specification"; broker entry metadata: PIP-70.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use pulsar::message::proto::{BaseCommand, MessageMetadata};

const MAGIC_CHECKSUM: u16 = 0x0e01;
const MAGIC_BROKER_ENTRY: u16 = 0x0e02;
/// What a frame may hold beyond `max_message_size`; the broker's own allowance (`Commands.MESSAGE_SIZE_FRAME_PADDING`).
pub const FRAME_PADDING: usize = 10 * 1024;

/// A frame that was read.
#[derive(Debug)]
pub struct Frame {
    pub command: BaseCommand,
    pub payload: Option<Payload>,
}

/// What a MESSAGE command carries: one entry of the topic.
#[derive(Debug)]
pub struct Payload {
    /// Why the entry cannot be read, when it cannot; the connection is fine all the same.
    pub metadata: Result<MessageMetadata, Broken>,
    /// With metadata: what follows it, still compressed. Without: every byte behind the command, for a dead letter.
    pub data: Bytes,
}

/// Why the payload of a frame cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("the payload is cut off")]
    CutOff,
    #[error("checksum {said:08x} in the frame, {is:08x} of its bytes")]
    Checksum { said: u32, is: u32 },
    #[error("the message metadata is not readable: {0}")]
    Metadata(String),
}

/// The stream is not, or no longer, made of frames: nothing behind this point can be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {size} bytes, more than the {limit} allowed")]
    TooLarge { size: usize, limit: usize },
    #[error("a command of {command} bytes in a frame of {frame}")]
    Length { command: usize, frame: usize },
    #[error("the command is not readable: {0}")]
    Command(String),
}

/// Takes one whole frame off the front of `buffer`; `None` until it is there. `limit` is the largest frame, in bytes.
pub fn decode(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    let Some(size) = buffer.first_chunk().map(|size| u32::from_be_bytes(*size) as usize) else { return Ok(None) };
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
    }
    if buffer.len() < size + 4 {
        buffer.reserve(size + 4 - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(size + 4).freeze();
    frame.advance(4);
    let command = match frame.try_get_u32() {
        Ok(command) if command as usize <= frame.len() => command as usize,
        Ok(command) => return Err(FrameError::Length { command: command as usize, frame: size }),
        Err(_) => return Err(FrameError::Length { command: 4, frame: size }),
    };
    let command = BaseCommand::decode(frame.split_to(command)).map_err(|e| FrameError::Command(e.to_string()))?;
    let payload = command.message.is_some().then(|| decode_payload(frame));
    Ok(Some(Frame { command, payload }))
}

fn decode_payload(frame: Bytes) -> Payload {
    let mut data = frame.clone();
    match take_metadata(&mut data) {
        Ok(metadata) => Payload { metadata: Ok(metadata), data },
        Err(broken) => Payload { metadata: Err(broken), data: frame },
    }
}

fn take_metadata(data: &mut Bytes) -> Result<MessageMetadata, Broken> {
    if take_magic(data, MAGIC_BROKER_ENTRY) {
        take_sized(data)?;
    }
    if take_magic(data, MAGIC_CHECKSUM) {
        let said = data.try_get_u32().map_err(|_| Broken::CutOff)?;
        let is = crc32c::crc32c(data);
        if said != is {
            return Err(Broken::Checksum { said, is });
        }
    }
    MessageMetadata::decode(take_sized(data)?).map_err(|e| Broken::Metadata(e.to_string()))
}

fn take_magic(data: &mut Bytes, magic: u16) -> bool {
    let found = data.starts_with(&magic.to_be_bytes());
    if found {
        data.advance(2);
    }
    found
}

fn take_sized(data: &mut Bytes) -> Result<Bytes, Broken> {
    let size = data.try_get_u32().map_err(|_| Broken::CutOff)? as usize;
    if size > data.len() {
        return Err(Broken::CutOff);
    }
    Ok(data.split_to(size))
}

/// A frame to be written: `body` is the payload, kept apart so that it is not copied.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub head: Bytes,
    pub body: Bytes,
}

/// A command without a payload.
pub fn encode(command: &BaseCommand) -> Encoded {
    let size = command.encoded_len();
    let mut head = BytesMut::with_capacity(size + 8);
    head.put_u32(size as u32 + 4);
    head.put_u32(size as u32);
    command.encode_raw(&mut head);
    Encoded { head: head.freeze(), body: Bytes::new() }
}

/// A SEND command with one entry: `body` is the (compressed) payload that `metadata` describes.
pub fn encode_send(command: &BaseCommand, metadata: &MessageMetadata, body: Bytes) -> Encoded {
    let (command_size, metadata_size) = (command.encoded_len(), metadata.encoded_len());
    let mut head = BytesMut::with_capacity(command_size + metadata_size + 18);
    head.put_u32((4 + command_size + SEND_OVERHEAD + metadata_size + body.len()) as u32);
    head.put_u32(command_size as u32);
    command.encode_raw(&mut head);
    head.put_u16(MAGIC_CHECKSUM);
    let checksum_at = head.len();
    head.put_u32(0);
    head.put_u32(metadata_size as u32);
    metadata.encode_raw(&mut head);
    let summed = checksum_at + 4;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head[summed..]), &body);
    head[checksum_at..summed].copy_from_slice(&checksum.to_be_bytes());
    Encoded { head: head.freeze(), body }
}

/// Magic, checksum and the metadata's length: with the metadata and the payload this is what the broker and its clients
/// hold against `max_message_size` (`ProducerImpl.isMessageSizeExceeded`).
pub const SEND_OVERHEAD: usize = 2 + 4 + 4;

#[cfg(test)]
mod tests {
    use pulsar::message::proto::{CommandMessage, CommandPing, CommandSend, MessageIdData, base_command::Type};

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn message_command() -> BaseCommand {
        let message_id = MessageIdData { ledger_id: 3, entry_id: 4, ..Default::default() };
        let message = CommandMessage { consumer_id: 1, message_id, ..Default::default() };
        BaseCommand { r#type: Type::Message as i32, message: Some(message), ..Default::default() }
    }

    fn metadata() -> MessageMetadata {
        MessageMetadata { producer_name: "p".into(), sequence_id: 7, publish_time: 8, ..Default::default() }
    }

    fn bytes(encoded: &Encoded) -> BytesMut {
        let mut all = BytesMut::from(&encoded.head[..]);
        all.extend_from_slice(&encoded.body);
        all
    }

    fn message_frame() -> BytesMut {
        bytes(&encode_send(&message_command(), &metadata(), Bytes::from_static(b"payload")))
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut buffer = message_frame();
        let ping = BaseCommand { r#type: Type::Ping as i32, ping: Some(CommandPing {}), ..Default::default() };
        buffer.extend_from_slice(&bytes(&encode(&ping)));
        let frame = decode(&mut buffer, LIMIT).unwrap().unwrap();
        let payload = frame.payload.unwrap();
        assert_eq!((payload.metadata.unwrap(), &payload.data[..]), (metadata(), &b"payload"[..]));
        let frame = decode(&mut buffer, LIMIT).unwrap().unwrap();
        assert!(frame.command.ping.is_some() && frame.payload.is_none());
        assert!(decode(&mut buffer, LIMIT).unwrap().is_none());
    }

    #[test]
    fn a_frame_that_is_not_whole_yet_is_waited_for() {
        let whole = message_frame();
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert!(decode(&mut part, LIMIT).unwrap().is_none(), "{cut}");
            assert_eq!(part.len(), cut, "nothing is taken off");
        }
    }

    #[test]
    fn broker_entry_metadata_is_stepped_over() {
        let whole = message_frame();
        let command = message_command().encoded_len();
        let mut buffer = BytesMut::new();
        buffer.put_u32((whole.len() - 4 + 9) as u32);
        buffer.extend_from_slice(&whole[4..8 + command]);
        buffer.put_u16(MAGIC_BROKER_ENTRY);
        buffer.put_u32(3);
        buffer.extend_from_slice(b"abc");
        buffer.extend_from_slice(&whole[8 + command..]);
        let payload = decode(&mut buffer, LIMIT).unwrap().unwrap().payload.unwrap();
        assert_eq!(payload.metadata.unwrap(), metadata());
    }

    #[test]
    fn a_broken_entry_is_handed_up_and_the_next_frame_is_still_read() {
        let mut buffer = message_frame();
        let last = buffer.len() - 1;
        buffer[last] ^= 1;
        buffer.extend_from_slice(&message_frame());
        let broken = decode(&mut buffer, LIMIT).unwrap().unwrap().payload.unwrap();
        assert!(matches!(broken.metadata, Err(Broken::Checksum { .. })));
        assert!(broken.data.ends_with(b"payloae"), "all its bytes are there");
        assert!(decode(&mut buffer, LIMIT).unwrap().unwrap().payload.unwrap().metadata.is_ok());
    }

    #[test]
    fn a_frame_over_the_limit_is_an_error_before_it_is_buffered() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        let size = u32::MAX as usize;
        assert_eq!(decode(&mut buffer, LIMIT).unwrap_err(), FrameError::TooLarge { size, limit: LIMIT });
    }

    #[test]
    fn no_bytes_panic_the_decoder() {
        // A xorshift walk over mutations of a good frame: lengths, magics and protobuf alike.
        let good = message_frame();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..200_000 {
            let mut buffer = good.clone();
            for _ in 0..1 + random(4) {
                // The size is kept most of the time, so that the inside is reached.
                let at = if random(8) == 0 { random(4) } else { 4 + random(buffer.len() - 4) };
                buffer[at] = random(256) as u8;
            }
            let _ = decode(&mut buffer, LIMIT);
        }
    }

    #[test]
    fn the_overhead_of_a_send_is_what_size_checks_count() {
        let send = CommandSend { producer_id: 1, ..Default::default() };
        let command = BaseCommand { r#type: Type::Send as i32, send: Some(send), ..Default::default() };
        let frame = encode_send(&command, &metadata(), Bytes::from_static(b"xyz"));
        let behind_the_command = frame.head.len() + frame.body.len() - 8 - command.encoded_len();
        assert_eq!(behind_the_command, SEND_OVERHEAD + metadata().encoded_len() + 3);
    }
}
