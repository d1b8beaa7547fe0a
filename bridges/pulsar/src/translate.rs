//! A message as Pulsar's metadata says it, and back: pure, lossless, and never a panic on anything that arrives.
//!
//! | of the message | in Pulsar |
//! |---|---|
//! | key | `partition_key` as it is when it is UTF-8, else base64 with `partition_key_b64_encoded`; no key: not set, which differs from an empty one |
//! | value | the payload; a tombstone is `null_value` and no payload |
//! | headers | properties one to one where a map of strings can hold them, else the [`envelope`](crate::envelope) |
//! | time | `event_time` in ms from 1 on; none, zero and negative ones in the envelope |
//!
//! **Time of messages that others wrote.** The protocol says that `publish_time`, which the producer sets, may stand in for
//! a missing `event_time`, and most producers set no event time. So it does here: a target that keeps a create time gets
//! the producer's, not the bridge's. What Trestle wrote without a time says so in the envelope and comes back without one.
//!
//! **What only Pulsar has.** An ordering key arrives as the last header, [`ORDERING_KEY`], and a message whose last header
//! is called so is written with it; a delivery time arrives as the header [`DELIVER_AT`] (ms) and stays a header; for a schema
//! see [`schema`](crate::schema). Not carried: the producer's sequence id and the cluster a message was replicated from, which
//! mean nothing in another topic.

use std::borrow::Cow;

use base64::Engine;
use bytes::{BufMut, Bytes, BytesMut};
use pulsar::message::proto::{KeyValue, MessageMetadata};
use trestle_core::{Cause, Defect, Header, Headers, Message, Position};

use crate::{
    envelope::{self, BASE64, Envelope, Time},
    protobuf::{Field, Malformed, key_value, put_bytes, put_key_value, put_number, take_field},
    schema,
};

/// Header that carries a Pulsar message's ordering key.
pub(crate) const ORDERING_KEY: &str = "trestle-pulsar-ordering-key";
/// Header that says when Pulsar would have delivered a delayed message, in ms since 1970.
pub(crate) const DELIVER_AT: &str = "trestle-pulsar-deliver-at";

/// Appends a message as a batch holds it: the length of its metadata, the metadata, the payload.
pub(crate) fn put_single(out: &mut BytesMut, message: &Message, sequence_id: u64) {
    let payload = message.value.as_deref().unwrap_or_default();
    out.reserve(payload.len() + 256);
    let start = out.len();
    out.put_u32(0);
    let wire = Wire::of(message);
    wire.properties(|key, value| put_key_value(out, 1, key.as_bytes(), value.as_bytes()));
    if let Some(key) = &wire.key {
        put_bytes(out, 2, key.as_bytes());
    }
    // `payload_size` is an int32, and no frame comes near its end.
    put_number(out, 3, payload.len() as u64);
    if let Some(time) = wire.event_time {
        put_number(out, 5, time);
    }
    if wire.base64 {
        put_number(out, 6, 1);
    }
    if let Some(key) = wire.ordering_key {
        put_bytes(out, 7, key);
    }
    put_number(out, 8, sequence_id);
    if message.value.is_none() {
        put_number(out, 9, 1);
    }
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out.put_slice(payload);
}

/// Says of an entry that holds one message, or a chunk of it, all but its payload.
pub(crate) fn fill_metadata(metadata: &mut MessageMetadata, message: &Message) {
    let wire = Wire::of(message);
    wire.properties(|key, value| metadata.properties.push(KeyValue { key: key.into(), value: value.into() }));
    metadata.event_time = wire.event_time;
    metadata.partition_key_b64_encoded = wire.base64.then_some(true);
    metadata.ordering_key = wire.ordering_key.map(|key| key.to_vec());
    metadata.null_value = message.value.is_none().then_some(true);
    metadata.partition_key = wire.key.map(Cow::into_owned);
}

/// A message in Pulsar's terms.
struct Wire<'a> {
    /// Headers that are properties of their own, except those at the `enveloped` places.
    headers: &'a Headers,
    enveloped: Vec<(usize, Header)>,
    envelope: Option<String>,
    key: Option<Cow<'a, str>>,
    base64: bool,
    event_time: Option<u64>,
    ordering_key: Option<&'a Bytes>,
}

impl<'a> Wire<'a> {
    fn of(message: &'a Message) -> Self {
        let mut enveloped = envelope::unspeakable(&message.headers);
        let ordering_key = ordering_key(&message.headers);
        if ordering_key.is_some() && enveloped.last().is_some_and(|(place, _)| place + 1 == message.headers.len()) {
            enveloped.pop();
        }
        let (event_time, time) = match message.time {
            None => (None, Time::Absent),
            Some(time @ 1..) => (Some(time as u64), Time::Native),
            Some(time) => (None, Time::Exact(time)),
        };
        let (key, base64) = match message.key.as_deref().map(|key| (key, std::str::from_utf8(key))) {
            None => (None, false),
            Some((_, Ok(text))) => (Some(Cow::Borrowed(text)), false),
            Some((bytes, Err(_))) => (Some(Cow::Owned(BASE64.encode(bytes))), true),
        };
        let said = Envelope { time, headers: enveloped };
        let envelope = (!said.is_empty()).then(|| said.encode());
        Wire { headers: &message.headers, enveloped: said.headers, envelope, key, base64, event_time, ordering_key }
    }

    fn properties(&self, mut put: impl FnMut(&str, &str)) {
        let native = self.headers.len() - usize::from(self.ordering_key.is_some());
        let mut enveloped = self.enveloped.iter().map(|(place, _)| *place).peekable();
        for (place, header) in self.headers.iter().take(native).enumerate() {
            if enveloped.next_if_eq(&place).is_some() {
                continue;
            }
            let (Ok(name), Some(Ok(value))) =
                (std::str::from_utf8(&header.name), header.value.as_deref().map(std::str::from_utf8))
            else {
                continue; // in the envelope
            };
            put(name, value);
        }
        if let Some(envelope) = &self.envelope {
            put(envelope::NAME, envelope);
        }
    }
}

/// The ordering key that the last header says, unless an earlier one has the same name.
fn ordering_key(headers: &Headers) -> Option<&Bytes> {
    let last = headers.iter().next_back().filter(|h| h.name == ORDERING_KEY)?;
    let alone = headers.iter().filter(|h| h.name == ORDERING_KEY).count() == 1;
    last.value.as_ref().filter(|_| alone)
}

/// What one message's metadata says, in a batch or of an entry of its own.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub headers: Headers,
    pub envelope: Option<Envelope>,
    pub key: Option<Bytes>,
    pub base64: bool,
    pub null_key: bool,
    pub ordering_key: Option<Bytes>,
    pub event_time: u64,
    pub deliver_at: Option<i64>,
    /// The header of the entry's schema.
    pub schema: Option<Bytes>,
    pub null_value: bool,
    /// Of a message in a batch.
    pub payload_size: u64,
    /// Of a message in a batch: compaction took it away.
    pub compacted_out: bool,
}

impl Said {
    /// Reads the `SingleMessageMetadata` of a message in a batch.
    pub fn read_single(mut input: Bytes) -> Result<Said, Malformed> {
        let mut said = Said::default();
        while let Some(field) = take_field(&mut input)? {
            match field {
                Field::Bytes(1, property) => {
                    let (name, value) = key_value(property)?;
                    said.property(name, value);
                }
                Field::Bytes(2, key) => said.key = Some(key),
                Field::Varint(3, size) => said.payload_size = size,
                Field::Varint(4, flag) => said.compacted_out = flag != 0,
                Field::Varint(5, time) => said.event_time = time,
                Field::Varint(6, flag) => said.base64 = flag != 0,
                Field::Bytes(7, key) => said.ordering_key = Some(key),
                Field::Varint(9, flag) => said.null_value = flag != 0,
                Field::Varint(10, flag) => said.null_key = flag != 0,
                _ => {}
            }
        }
        Ok(said)
    }

    /// Takes a property in.
    pub fn property(&mut self, name: Bytes, value: Bytes) {
        if self.envelope.is_none() && name == envelope::NAME {
            // One that cannot be read is somebody else's property.
            self.envelope = Envelope::decode(&value).ok();
            if self.envelope.is_some() {
                return;
            }
        }
        self.headers.push(name, Some(value));
    }

    /// The message, with a defect if its key is not what it says to be. `publish_time` is the entry's, in ms.
    pub fn message(self, payload: Bytes, publish_time: u64, position: Position) -> Message {
        let envelope = self.envelope.unwrap_or_default();
        let time = match envelope.time {
            // Java's times are signed, so a huge one is a negative one.
            Time::Native if self.event_time != 0 => Some(self.event_time as i64),
            Time::Native => Some(publish_time as i64).filter(|time| *time > 0),
            Time::Absent => None,
            Time::Exact(time) => Some(time),
        };
        let mut headers = envelope.merge(self.headers);
        if let Some(time) = self.deliver_at {
            headers.push(Bytes::from_static(DELIVER_AT.as_bytes()), Some(Bytes::from(time.to_string())));
        }
        if let Some(schema) = self.schema {
            headers.push(Bytes::from_static(schema::NAME.as_bytes()), Some(schema));
        }
        if let Some(key) = self.ordering_key {
            headers.push(Bytes::from_static(ORDERING_KEY.as_bytes()), Some(key));
        }
        let mut defect = None;
        let key = match self.key.filter(|_| !self.null_key) {
            Some(text) if self.base64 => match BASE64.decode(&text) {
                Ok(key) => Some(Bytes::from(key)),
                Err(error) => {
                    let detail = format!("the key is marked as base64 and is none: {error}");
                    defect = Some(Box::new(Defect { cause: Cause::Untranslatable, detail }));
                    Some(text)
                }
            },
            key => key,
        };
        Message { key, value: (!self.null_value).then_some(payload), headers, time, position, defect }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use prost::Message as _;
    use pulsar::message::proto::SingleMessageMetadata;
    use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::protobuf::take;

    const HERE: Position = Position::Entry { ledger: 1, entry: 2, index: 3 };

    pub(crate) fn random_bytes(random: &mut SmallRng, most: usize) -> Bytes {
        let mut bytes = vec![0; random.random_range(0..=most)];
        match random.random_range(0..3) {
            0 => random.fill_bytes(&mut bytes),
            1 => bytes.fill_with(|| random.random_range(b' '..=b'~')),
            _ => bytes.fill_with(|| random.random_range(0..4)),
        }
        bytes.into()
    }

    pub(crate) fn random_message(random: &mut SmallRng) -> Message {
        let names: [&[u8]; 8] = [
            b"",
            b"a",
            b"b",
            envelope::NAME.as_bytes(),
            ORDERING_KEY.as_bytes(),
            DELIVER_AT.as_bytes(),
            &[0xc3, 0x28],
            "\u{0}\u{1F980}".as_bytes(),
        ];
        let mut headers = Headers::default();
        for _ in 0..random.random_range(0..14) {
            let name = match random.random_range(0..10) {
                fixed @ 0..8 => Bytes::from_static(names[fixed]),
                _ => random_bytes(random, 12),
            };
            headers.push(name, random.random_bool(0.8).then(|| random_bytes(random, 20)));
        }
        Message {
            key: random.random_bool(0.7).then(|| random_bytes(random, 20)),
            value: random.random_bool(0.8).then(|| random_bytes(random, 300)),
            headers,
            time: match random.random_range(0..6) {
                0 => None,
                1 => Some(0),
                2 => Some(i64::MIN),
                3 => Some(-1),
                4 => Some(i64::MAX),
                _ => Some(random.random_range(1..2_000_000_000_000)),
            },
            position: HERE,
            defect: None,
        }
    }

    fn through_a_batch(message: &Message) -> Message {
        let mut out = BytesMut::new();
        put_single(&mut out, message, 7);
        let mut input = out.freeze();
        let length = u32::from_be_bytes(take(&mut input, 4).unwrap()[..].try_into().unwrap());
        let said = Said::read_single(take(&mut input, length as usize).unwrap()).unwrap();
        assert_eq!(said.payload_size as usize, input.len());
        said.message(input, 1_700_000_000_000, HERE)
    }

    #[test]
    fn every_message_comes_back_byte_for_byte() {
        let mut random = SmallRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let message = random_message(&mut random);
            assert_eq!(through_a_batch(&message), message);
        }
    }

    #[test]
    fn other_clients_can_read_what_is_written() {
        let mut random = SmallRng::seed_from_u64(2);
        for _ in 0..2_000 {
            let message = random_message(&mut random);
            let mut out = BytesMut::new();
            put_single(&mut out, &message, 7);
            let length = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
            let strict = SingleMessageMetadata::decode(&out[4..4 + length]).unwrap();
            assert_eq!(strict.sequence_id, Some(7));
            assert_eq!(strict.payload_size as usize, out.len() - 4 - length);
            let mut names: Vec<_> = strict.properties.iter().map(|p| &p.key).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), strict.properties.len(), "a map holds them all");
            let mut entry = MessageMetadata::default();
            fill_metadata(&mut entry, &message);
            assert_eq!(
                (entry.properties, entry.partition_key, entry.ordering_key, entry.event_time, entry.null_value),
                (strict.properties, strict.partition_key, strict.ordering_key, strict.event_time, strict.null_value),
            );
        }
    }

    #[test]
    fn simple_headers_keys_and_times_stay_readable() {
        let mut headers = Headers::default();
        headers.push("trace", Some(Bytes::from("1")));
        headers.push("null", None);
        headers.push(ORDERING_KEY, Some(Bytes::from_static(&[0, 255])));
        let message = Message {
            key: Some(Bytes::from("order-7")),
            value: None,
            headers,
            time: Some(42),
            position: HERE,
            defect: None,
        };
        let mut metadata = MessageMetadata::default();
        fill_metadata(&mut metadata, &message);
        assert_eq!(metadata.properties[0], KeyValue { key: "trace".into(), value: "1".into() });
        assert_eq!(metadata.properties.len(), 2, "and the envelope with the null one");
        assert_eq!(metadata.partition_key.as_deref(), Some("order-7"));
        assert_eq!(metadata.partition_key_b64_encoded, None);
        assert_eq!(metadata.ordering_key.as_deref(), Some(&[0, 255][..]));
        assert_eq!((metadata.event_time, metadata.null_value), (Some(42), Some(true)));
    }

    #[test]
    fn a_foreign_message_without_event_time_has_its_publish_time() {
        let said = Said::default();
        assert_eq!(said.clone().message(Bytes::new(), 5, HERE).time, Some(5));
        assert_eq!(said.message(Bytes::new(), 0, HERE).time, None);
    }

    #[test]
    fn a_key_that_is_not_the_base64_it_says_to_be_is_a_defect() {
        let said = Said { key: Some(Bytes::from("?")), base64: true, ..Said::default() };
        let message = said.message(Bytes::from("payload"), 0, HERE);
        assert_eq!(message.defect.unwrap().cause, Cause::Untranslatable);
        assert_eq!(message.value, Some(Bytes::from("payload")));
    }

    #[test]
    fn arbitrary_bytes_as_metadata_never_panic() {
        let mut random = SmallRng::seed_from_u64(3);
        for _ in 0..20_000 {
            let mut out = BytesMut::new();
            put_single(&mut out, &random_message(&mut random), 7);
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..out.len());
                out[at] = random.random();
            }
            if let Ok(said) = Said::read_single(out.freeze().slice(4..)) {
                said.message(Bytes::new(), random.random(), HERE);
            }
        }
    }
}
