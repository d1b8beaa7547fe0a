//! A message as a proxy delivers it -> [`Message`], without I/O.
//!
//! A proxy shows the properties of a stored message as a map and takes apart what it knows: they are put together again, by name,
//! so that the translation is that of what a broker hands out itself. It hides some that say how the message was sent (`DELAY`,
//! `CORRELATION_ID` and other names of `MessageConst.java`), and makes up an id where there was none.

use bytes::{BufMut, Bytes, BytesMut};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use trestle_core::{Cause, Defect, Message, Position};

use crate::{
    compression,
    proxy::protocol::{CRC32, Delivered, Digest, GZIP, IDENTITY, MD5, SHA1, SystemProperties, UNSPECIFIED},
    translate::{self, DELIVER_AT, KEYS, SHARDING_KEY, Stored, TAGS, UNIQ_KEY},
};

/// A message, and what its delivery is called.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub message: Message,
    /// The message's id, the same in every delivery.
    pub id: String,
    /// By which this delivery is acknowledged.
    pub handle: String,
    /// 1 the first time.
    pub attempt: i32,
}

/// A value of more than `largest` bytes is a defect. Nothing where there is no handle: it can only be waited for.
pub fn incoming(delivered: Delivered, largest: usize) -> Option<Incoming> {
    let system = delivered.system_properties.clone().unwrap_or_default();
    let handle = system.receipt_handle.clone().filter(|handle| !handle.is_empty())?;
    let (id, attempt) = (system.message_id.clone(), system.delivery_attempt.unwrap_or(1));
    let position = position(&system, &delivered.body);
    let raw = delivered.body.clone();
    let mut message = match read(delivered, system, largest) {
        Ok(message) => message,
        Err((cause, detail)) => {
            let mut message = translate::defect(0, raw, detail.clone());
            message.defect = Some(Box::new(Defect { cause, detail }));
            message
        }
    };
    message.position = position;
    Some(Incoming { message, id, handle, attempt })
}

/// The protocol knows no position that stays: a message that comes again lies elsewhere. This one is made of what stays, and
/// grows with the time at which the message was made.
fn position(system: &SystemProperties, body: &Bytes) -> Position {
    let mut hash = Sha1::new();
    hash.update((system.message_id.len() as u64).to_be_bytes());
    hash.update(&system.message_id);
    match &system.body_digest {
        Some(digest) => hash.update(&digest.checksum),
        None => hash.update(body),
    }
    let entry = hash.finalize().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    Position::Entry { ledger: u64::try_from(born(system)).unwrap_or(0), entry, index: 0 }
}

fn born(system: &SystemProperties) -> i64 {
    system.born.as_ref().map_or(0, |born| born.millis())
}

type Wrong = (Cause, String);

fn read(delivered: Delivered, system: SystemProperties, largest: usize) -> Result<Message, Wrong> {
    let untranslatable = |detail| (Cause::Untranslatable, detail);
    if let Some(digest) = &system.body_digest {
        check(digest, &delivered.body).map_err(untranslatable)?;
    }
    let body = match system.body_encoding {
        UNSPECIFIED | IDENTITY => delivered.body,
        // So it is called, whatever the producer compressed it with.
        GZIP => compression::decompress_unnamed(delivered.body, largest).map_err(untranslatable)?,
        other => return Err(untranslatable(format!("the body has an unknown encoding ({other})"))),
    };
    if body.len() > largest {
        return Err((Cause::TooLarge, format!("{} bytes; at most {largest} are carried", body.len())));
    }
    let born = born(&system);
    let mut properties = delivered.user_properties;
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            properties.entry(name.to_owned()).or_insert(value);
        }
    };
    add(KEYS, (!system.keys.is_empty()).then(|| system.keys.join(" ")));
    add(TAGS, system.tag);
    add(SHARDING_KEY, system.message_group);
    add(DELIVER_AT, system.deliver_at.map(|at| at.millis().to_string()));
    add(UNIQ_KEY, (!system.message_id.is_empty()).then_some(system.message_id));
    let mut written = BytesMut::new();
    for (name, value) in &properties {
        if !translate::is_property(name) || !translate::is_property(value) {
            return Err(untranslatable(format!("the property {name:?} cannot have been stored so")));
        }
        written.put_slice(name.as_bytes());
        written.put_u8(translate::SEPARATOR);
        written.put_slice(value.as_bytes());
        written.put_u8(translate::END);
    }
    Ok(translate::read(Stored { offset: 0, born, body, properties: written.freeze() }))
}

/// A digest of a kind that is not known says nothing.
fn check(digest: &Digest, body: &[u8]) -> Result<(), String> {
    let (kind, sum) = match digest.kind {
        CRC32 => ("CRC32", format!("{:08x}", crc32fast::hash(body))),
        MD5 => ("MD5", hex(&Md5::digest(body))),
        SHA1 => ("SHA-1", hex(&Sha1::digest(body))),
        _ => return Ok(()),
    };
    let said = digest.checksum.to_ascii_lowercase();
    // Some write a CRC without its leading zeros.
    if said == sum || (digest.kind == CRC32 && !said.is_empty() && said == sum.trim_start_matches('0')) {
        return Ok(());
    }
    Err(format!("the body is damaged: its {kind} is {sum}, and the proxy says {said:?}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Write};

    use trestle_core::Header;

    use super::*;
    use crate::proxy::protocol::Span;

    fn delivered(body: &[u8]) -> Delivered {
        let checksum = hex(&Md5::digest(body)).to_uppercase();
        let system = SystemProperties {
            message_id: "01AB".into(),
            body_digest: Some(Digest { kind: MD5, checksum }),
            body_encoding: IDENTITY,
            born: Some(Span { seconds: 5, nanos: 7_000_000 }),
            receipt_handle: Some("h".into()),
            ..Default::default()
        };
        Delivered {
            user_properties: BTreeMap::new(),
            system_properties: Some(system),
            body: Bytes::copy_from_slice(body),
        }
    }

    fn with(mut delivered: Delivered, change: impl FnOnce(&mut SystemProperties)) -> Message {
        change(delivered.system_properties.as_mut().unwrap());
        incoming(delivered, 1_000).unwrap().message
    }

    fn wrong(message: &Message) -> (Cause, String) {
        let defect = message.defect.as_ref().expect("a defect");
        (defect.cause, defect.detail.clone())
    }

    #[test]
    fn a_foreign_message_is_what_a_broker_would_hand_out() {
        let mut delivered = delivered(b"\x00\xFFbody");
        delivered.user_properties =
            [("b", "2"), ("a", "1"), ("__SHARDINGKEY", "g")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let message = with(delivered, |system| {
            system.keys = vec!["k1".into(), "k2".into()];
            system.tag = Some("red".into());
            system.message_group = Some("g".into());
            system.deliver_at = Some(Span { seconds: 9, nanos: 0 });
        });
        let header = |name: &'static str, value: &'static str| Header {
            name: Bytes::from_static(name.as_bytes()),
            value: Some(Bytes::from_static(value.as_bytes())),
        };
        let headers: Vec<Header> = message.headers.into_iter().collect();
        let told = [
            ("TAGS", "red"),
            ("TIMER_DELIVER_MS", "9000"),
            ("UNIQ_KEY", "01AB"),
            ("__SHARDINGKEY", "g"),
            ("a", "1"),
            ("b", "2"),
        ];
        assert_eq!(headers, told.map(|(name, value)| header(name, value)));
        assert_eq!((message.key.as_deref(), message.time), (Some(&b"k1 k2"[..]), Some(5_007)));
        assert_eq!(message.value.as_deref(), Some(&b"\x00\xFFbody"[..]));
        assert!(message.defect.is_none());
    }

    #[test]
    fn what_trestle_wrote_comes_back_as_it_was() {
        let mut delivered = delivered(b"-");
        let written = [("trestle-time", "none"), ("trestle-value", "null"), ("trestle-key", "b64:AP8="), ("h", "v")];
        delivered.user_properties = written.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let message = with(delivered, |_| {});
        assert_eq!((message.key.as_deref(), message.value, message.time), (Some(&b"\x00\xFF"[..]), None, None));
        assert_eq!(message.headers.len(), 1);
    }

    #[test]
    fn a_body_is_unpacked_whatever_it_is_packed_with_and_no_further_than_is_carried() {
        let plain = vec![b'x'; 900];
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(&plain).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&plain).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&plain).unwrap();
        let packed = [
            zlib.finish().unwrap(),
            gzip.finish().unwrap(),
            lz4.finish().unwrap(),
            zstd::encode_all(&plain[..], 0).unwrap(),
        ];
        for packed in packed {
            let message = with(delivered(&packed), |system| system.body_encoding = GZIP);
            assert_eq!(message.value.as_deref(), Some(&plain[..]));
            let bomb = Delivered { ..delivered(&packed) };
            let mut bomb = bomb;
            bomb.system_properties.as_mut().unwrap().body_encoding = GZIP;
            assert!(wrong(&incoming(bomb, 899).unwrap().message).1.contains("larger than 899"));
        }
        let (cause, detail) = wrong(&with(delivered(b"no such thing"), |system| system.body_encoding = GZIP));
        assert!(cause == Cause::Untranslatable && detail.contains("compressed"), "{detail}");
        let (_, detail) = wrong(&with(delivered(b"plain"), |system| system.body_encoding = 9));
        assert!(detail.contains("unknown encoding"), "{detail}");
    }

    #[test]
    fn a_damaged_body_and_one_that_is_too_large_are_defects_with_their_bytes() {
        for (kind, right) in [
            (MD5, "5F4DCC3B5AA765D61D8327DEB882CF99"),
            (SHA1, "5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8"),
            (CRC32, "35C246D5"),
            (77, "anything"),
        ] {
            let digest = |checksum: &str| Some(Digest { kind, checksum: checksum.into() });
            assert!(with(delivered(b"password"), |system| system.body_digest = digest(right)).defect.is_none());
            if kind != 77 {
                let message = with(delivered(b"Password"), |system| system.body_digest = digest(right));
                assert!(wrong(&message).1.contains("damaged"));
                assert_eq!(message.value.as_deref(), Some(&b"Password"[..]));
            }
        }
        assert_eq!(wrong(&with(delivered(&[1; 1_001]), |_| {})).0, Cause::TooLarge);
        let mut forged = delivered(b"v");
        forged.user_properties.insert("a".into(), "1\u{2}KEYS\u{1}x".into());
        assert_eq!(wrong(&with(forged, |_| {})).0, Cause::Untranslatable);
    }

    #[test]
    fn a_message_keeps_its_position_however_often_it_comes_and_others_have_others() {
        let at = |change: fn(&mut SystemProperties)| with(delivered(b"v"), change).position;
        let first = at(|_| {});
        assert_eq!(at(|system| (system.delivery_attempt, system.receipt_handle) = (Some(4), Some("x".into()))), first);
        assert_ne!(at(|system| system.message_id = "01AC".into()), first);
        assert_ne!(with(delivered(b"w"), |_| {}).position, first, "forwarded with another body");
        assert!(at(|system| system.born = Some(Span { seconds: 6, nanos: 0 })) > first);
        let mut nameless = delivered(b"v");
        nameless.system_properties = None;
        assert!(incoming(nameless, 9).is_none(), "without a handle");
    }
}
