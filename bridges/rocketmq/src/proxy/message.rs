//! A message as the proxy takes it.

use std::collections::HashMap;

use bytes::BytesMut;
use trestle_core::{Cause, Fault, Message, PartitionId};

use crate::{
    stamp::Stamps,
    translate::{self, Extras, KEYS, SHARDING_KEY, TAGS},
};

/// `ProxyConfig.java`: `maxMessageSize`.
const MOST_BODY_BYTES: usize = 4 << 20;
/// `maxUserPropertySize`: of keys, tag, and the names and values of properties.
const MOST_PROPERTY_BYTES: usize = 16 << 10;
/// `userPropertyMaxNum`. Kept by what the translator makes of many headers.
const MOST_PROPERTIES: usize = 128;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outgoing {
    pub keys: Option<String>,
    pub tag: Option<String>,
    pub group: Option<String>,
    pub properties: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// `partition` is the source's. A fault is the message's own: no proxy would take it.
pub fn outgoing(message: &Message, partition: PartitionId, stamps: &Stamps) -> Result<Outgoing, Fault> {
    let body = translate::body(message);
    if body.len() > MOST_BODY_BYTES {
        let detail = format!("a value of {} bytes; a gRPC proxy takes {MOST_BODY_BYTES} (maxMessageSize)", body.len());
        return Err(Fault::rejected(Cause::TooLarge, detail));
    }
    let mut stamp = stamps.stamp(message)?;
    if stamps.options.message_group.is_some() && stamp.group.is_none() {
        // Topics of the type FIFO take no message without a group.
        stamp.group = Some(format!("partition:{partition}").into());
    }
    let id = stamps.options.id.then(|| format!("{}/{partition}/{}", stamps.route, message.position));
    let mut written = BytesMut::new();
    // On its way through the proxy it is a map.
    let extras = Extras { stamp, id: id.as_deref(), unordered: true };
    let untranslatable = |why: String| Fault::rejected(Cause::Untranslatable, why);
    translate::write_properties(message, extras, &mut written).map_err(untranslatable)?;
    let mut outgoing = Outgoing { body: body.to_vec(), ..Outgoing::default() };
    let mut bytes = 0;
    for (name, value) in translate::pairs(&written.freeze()) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|error| untranslatable(error.to_string()));
        let (name, value) = (text(&name)?, text(&value)?);
        bytes += if name == SHARDING_KEY { 0 } else { value.len() };
        match name.as_str() {
            KEYS => outgoing.keys = Some(value),
            TAGS => outgoing.tag = Some(value),
            SHARDING_KEY => outgoing.group = Some(value),
            _ => {
                bytes += name.len();
                outgoing.properties.insert(name, value);
            }
        }
    }
    if bytes > MOST_PROPERTY_BYTES || outgoing.properties.len() > MOST_PROPERTIES {
        let detail = format!(
            "key and headers come to {} properties of {bytes} bytes; a gRPC proxy takes {MOST_PROPERTIES} and {MOST_PROPERTY_BYTES}",
            outgoing.properties.len()
        );
        return Err(Fault::rejected(Cause::IllegalProperty, detail));
    }
    Ok(outgoing)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use trestle_core::{FaultKind, Header, Position};

    use super::*;
    use crate::{sink_options::SinkOptions, stamp::DEFAULT_LEVELS, translate::Stored};

    fn stamps(options: &[(&str, &str)]) -> Stamps {
        let options: BTreeMap<_, _> = options.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Stamps { options: SinkOptions::read(&options).unwrap(), route: "orders".into(), levels: DEFAULT_LEVELS }
    }

    fn written(message: &Message, options: &[(&str, &str)]) -> Result<Outgoing, Fault> {
        outgoing(message, PartitionId(3), &stamps(options))
    }

    fn message(key: Option<&[u8]>, headers: &[(&[u8], &[u8])]) -> Message {
        let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let headers = headers.iter().map(|(n, v)| Header { name: owned(n), value: Some(owned(v)) }).collect();
        Message { key: key.map(owned), value: Some(owned(b"v")), headers, ..Message::at(Position::Offset(7)) }
    }

    /// What the proxy checks (`SendMessageActivity.java`), and what the broker then stores.
    fn stored(sent: &Outgoing, random: &mut SmallRng) -> Stored {
        let mut all: Vec<(&str, &str)> = sent.properties.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert!(all.len() <= 128 && all.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() <= 16_384);
        let own = [(KEYS, &sent.keys), (TAGS, &sent.tag), (SHARDING_KEY, &sent.group)];
        all.extend(own.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        for (name, value) in &all {
            let blank = own.iter().any(|(own, _)| own == name) && value.trim().is_empty();
            assert!(!name.is_empty() && !value.is_empty() && !blank, "{name:?} {value:?}");
            // `Character.isISOControl`.
            assert!(!name.chars().chain(value.chars()).any(char::is_control), "{name:?} {value:?}");
        }
        assert!(sent.group.as_ref().is_none_or(|group| group.len() < 64));
        assert!(!sent.body.is_empty());
        let at = random.random_range(0..=all.len());
        all.rotate_left(at);
        all.extend([("UNIQ_KEY", "01AB"), ("PGROUP", "t"), ("RECONSUME_TIME", "0"), ("BORN_TIMESTAMP", "5000")]);
        let properties = all.iter().flat_map(|(n, v)| [n.as_bytes(), b"\x01", v.as_bytes(), b"\x02"].concat());
        Stored { offset: 7, born: 5_000, body: sent.body.clone().into(), properties: properties.collect() }
    }

    #[test]
    fn any_message_is_legal_and_comes_back_byte_for_byte() {
        let mut random = SmallRng::seed_from_u64(42);
        let names: [&[u8]; 9] = [
            b"a",
            b"KEYS",
            b"TAGS",
            b"trestle-envelope",
            b"",
            b"\xC3\x28",
            b"n\x01m",
            b"\x02",
            "c1\u{85}\u{7f}".as_bytes(),
        ];
        for _ in 0..20_000 {
            let mut bytes = |max: usize| -> Option<Bytes> {
                let length = random.random_range(0..=max);
                let text: String = (0..length).map(|_| char::from(random.random_range(0..=255_u8))).collect();
                let raw: Vec<u8> = (0..length).map(|_| random.random()).collect();
                let chosen = if random.random_bool(0.5) { text.into_bytes() } else { raw };
                random.random_bool(0.9).then(|| chosen.into())
            };
            let (key, value, shape) = (bytes(6), bytes(8), bytes(6).unwrap_or_default());
            let header = |pick: &u8| {
                let named = names.get(usize::from(pick % 12)).map(|name| Bytes::from_static(name));
                Header { name: named.unwrap_or_else(|| bytes(3).unwrap_or_default()), value: bytes(4) }
            };
            let headers = shape.iter().map(header).collect();
            let original = Message { key, value, headers, time: Some(-1), ..Message::at(Position::Offset(7)) };
            let options: &[(&str, &str)] =
                if shape.len() % 2 == 0 { &[] } else { &[("messageGroup", "key"), ("trestleId", "true")] };
            let sent = written(&original, options).unwrap();
            assert_eq!(translate::read(stored(&sent, &mut random)), original);
        }
    }

    #[test]
    fn keys_tag_and_group_go_where_grpc_clients_look_for_them() {
        let sent = written(&message(Some(b"order-1"), &[(b"TAGS", b"red")]), &[("messageGroup", "key")]).unwrap();
        let shown = (sent.keys.as_deref(), sent.tag.as_deref(), sent.group.as_deref());
        assert_eq!(shown, (Some("order-1"), Some("red"), Some("order-1")));
        assert_eq!(sent.properties.keys().collect::<Vec<_>>(), ["trestle-time"]);
    }

    #[test]
    fn without_a_key_the_source_partition_is_the_group() {
        let sent = written(&message(None, &[]), &[("messageGroup", "key")]).unwrap();
        assert_eq!(sent.group.as_deref(), Some("partition:3"));
        assert_eq!(written(&message(None, &[]), &[]).unwrap().group, None);
    }

    #[test]
    fn what_no_proxy_takes_is_refused_with_its_cause() {
        let cause = |message: &Message| written(message, &[]).unwrap_err().kind;
        let large = Message { value: Some(vec![1; MOST_BODY_BYTES + 1].into()), ..message(None, &[]) };
        assert_eq!(cause(&large), FaultKind::Rejected(Cause::TooLarge));
        let fits = Message { value: Some(vec![1; MOST_BODY_BYTES].into()), ..message(None, &[]) };
        assert!(written(&fits, &[]).is_ok());
        let (fits, wide) = (vec![b'x'; MOST_PROPERTY_BYTES - 100], vec![b'x'; MOST_PROPERTY_BYTES]);
        assert!(written(&message(None, &[(b"h", &fits)]), &[]).is_ok());
        assert_eq!(cause(&message(None, &[(b"h", &wide)])), FaultKind::Rejected(Cause::IllegalProperty));
        assert_eq!(cause(&message(Some(&wide), &[])), FaultKind::Rejected(Cause::IllegalProperty));
    }

    #[test]
    fn many_headers_are_few_properties() {
        let names: Vec<String> = (0..500).map(|n| format!("h{n}")).collect();
        let headers: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_bytes(), &b"1"[..])).collect();
        assert!(written(&message(None, &headers), &[]).unwrap().properties.len() <= MOST_PROPERTIES);
    }
}
