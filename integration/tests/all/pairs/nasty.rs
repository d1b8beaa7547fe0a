//! Messages that some protocol cannot say natively, the same ones for the same seed.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand::{RngCore, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use trestle_core::{Headers, Message, Position};

/// Names that a broker or a client acts upon.
pub const BROKERS_OWN: [&str; 16] = [
    "KEYS",
    "TAGS",
    "DELAY",
    "WAIT",
    "UNIQ_KEY",
    "TTL",
    "CLUSTER",
    "__SHARDINGKEY",
    "TIMER_DELIVER_MS",
    "TIMER_DELAY_SEC",
    "TRAN_MSG",
    "INSTANCE_ID",
    "INNER_NUM",
    "MSG_REGION",
    "__CRC32#",
    "REAL_TOPIC",
];

/// Names that Trestle itself uses on one of the protocols.
const OURS: [&str; 9] = [
    "trestle-envelope",
    "trestle-time",
    "trestle-key",
    "trestle-value",
    "trestle-id",
    "trestle-pulsar-ordering-key",
    "trestle-pulsar-deliver-at",
    "trestle-dlq-id",
    "trestle-dlq-part",
];

const DAY: i64 = 86_400_000;

pub struct Nasty {
    random: SmallRng,
    /// Milliseconds since 1970, the time of plain messages.
    now: i64,
}

impl Nasty {
    pub fn new(seed: u64) -> Nasty {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        Nasty { random: SmallRng::seed_from_u64(seed), now }
    }

    /// Each kind of key, value, headers and time once in a plain message, then `mixed` messages of any of them, and now and
    /// then a plain one.
    pub fn messages(&mut self, mixed: usize) -> Vec<Message> {
        let (keys, values, headers, times) = (self.keys(), self.values(), self.headers(), self.times());
        let plain = self.plain();
        let mut all = Vec::new();
        all.extend(keys.iter().map(|key| Message { key: key.clone(), ..plain.clone() }));
        all.extend(values.iter().map(|value| Message { value: value.clone(), ..plain.clone() }));
        all.extend(headers.iter().map(|headers| Message { headers: headers.clone(), ..plain.clone() }));
        all.extend(times.iter().map(|time| Message { time: *time, ..plain.clone() }));
        // Where a message has no time, what stands last may be taken for what says so.
        let last = |name: &str, value: &str| [text("before", "1"), text(name, value)].into_iter().collect();
        let unsaid =
            [("trestle-time", "0"), ("trestle-time", "-1"), ("trestle-time", "none"), ("trestle-envelope", "AQA=")];
        all.extend(unsaid.map(|(name, value)| Message { time: None, headers: last(name, value), ..plain.clone() }));
        let small: Vec<_> = values.iter().filter(|v| v.as_ref().is_none_or(|v| v.len() < 10_000)).cloned().collect();
        let short: Vec<_> = headers.iter().filter(|h| header_bytes(h) < 10_000).cloned().collect();
        for at in 0..mixed {
            let random = &mut self.random;
            let any = |random: &mut SmallRng| Message {
                key: keys.choose(random).cloned().flatten(),
                value: small.choose(random).cloned().flatten(),
                headers: short.choose(random).cloned().unwrap_or_default(),
                time: times.choose(random).copied().flatten(),
                ..plain.clone()
            };
            all.push(if at % 7 == 0 { plain.clone() } else { any(random) });
        }
        all
    }

    /// What every protocol says natively.
    pub fn plain(&self) -> Message {
        Message {
            key: Some(Bytes::from_static(b"order-1")),
            value: Some(Bytes::from_static(b"{\"amount\": 1}")),
            headers: [("trace", "7f3a")].into_iter().map(|(name, value)| text(name, value)).collect(),
            time: Some(self.now),
            ..Message::at(Position::Offset(0))
        }
    }

    fn bytes(&mut self, length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        self.random.fill_bytes(&mut bytes);
        bytes.into()
    }

    fn keys(&mut self) -> Vec<Option<Bytes>> {
        let fixed: [&[u8]; 12] = [
            b"",
            b"order-7",
            b"two words",
            b" ",
            "Umläute, 名前".as_bytes(),
            b"\x00\x01\x02\n\x7f",
            b"\xff\xfe\x00\x80",
            b"\xc3\x28",
            b"YWJj",
            b"YWJj=",
            b"b64:YWJj",
            b"a|b,c;d=e",
        ];
        let mut keys: Vec<_> = fixed.into_iter().map(|key| Some(Bytes::from_static(key))).collect();
        keys.extend([None, Some(self.bytes(300)), Some(Bytes::from(vec![b'k'; 300]))]);
        keys
    }

    fn values(&mut self) -> Vec<Option<Bytes>> {
        let fixed: [&[u8]; 7] = [b"", b"\0", b"-", b"null", b"empty", b"\xff\xfe\x80", b"{\"name\": \"\xc3\xbc\"}"];
        let mut values: Vec<_> = fixed.into_iter().map(|value| Some(Bytes::from_static(value))).collect();
        values.extend([None, Some(self.bytes(1_000)), Some(self.bytes(900 << 10))]);
        // Compresses to nothing.
        values.push(Some(Bytes::from(vec![b'x'; 300 << 10])));
        values
    }

    fn times(&self) -> Vec<Option<i64>> {
        let now = self.now;
        vec![
            None,
            Some(0),
            Some(1),
            Some(-1),
            Some(now),
            Some(now - 30 * DAY + 1),
            Some(now + 365 * DAY),
            Some(i64::MAX),
        ]
    }

    fn headers(&mut self) -> Vec<Headers> {
        type List<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];
        let lists: [List<'_>; 15] = [
            &[],
            &[(b"b", Some(b"2")), (b"a", Some(b"1"))],
            &[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3")), (b"a", Some(b"1"))],
            &[(b"", Some(b"no name"))],
            &[(b"", None), (b"", Some(b""))],
            &[(b"null", None)],
            &[(b"empty", Some(b"")), (b"null", None), (b"full", Some(b"1")), (b"null", Some(b"no"))],
            &[(b"raw", Some(b"\x80\x00\xff")), (b"fine", Some(b"1"))],
            &[(b"\xff\xfe", Some(b"raw name")), (b"\xc3\x28", Some(b"\xc3\x28")), (b"\xff", None)],
            &[(b"a\x01b", Some(b"1\x022")), (b"\x02", Some(b"\x01")), (b"line\nend", Some(b"x\r\ny"))],
            &[(b"a\0b", Some(b"nul in the name")), (b"a", Some(b"nul\0in the value")), (b"c\0", Some(b""))],
            &[("名前".as_bytes(), Some("値".as_bytes())), (" name ".as_bytes(), Some(b" value "))],
            // Two that only differ in case, and one that looks like a place in a list.
            &[(b"Case", Some(b"1")), (b"case", Some(b"2")), (b"0", Some(b"x"))],
            &[(b"TAGS", Some(b"two words")), (b"KEYS", Some(b"k1 k2"))],
            &[(b"TAGS", Some(b"a||b")), (b"TAGS", Some(b"second"))],
        ];
        let list = |list: List<'_>| -> Headers {
            list.iter().map(|(name, value)| raw(name, value.map(Bytes::copy_from_slice))).collect()
        };
        let mut all: Vec<Headers> = lists.into_iter().map(list).collect();
        all.extend(BROKERS_OWN.chunks(4).map(|names| names.iter().map(|name| text(name, "3")).collect()));
        for name in OURS {
            // First among others, and alone, where something that is undone would stand.
            all.push([text(name, "0"), text("behind", "1")].into_iter().collect());
            all.push([text("before", "1"), text(name, "0")].into_iter().collect());
        }
        all.push([raw(b"trestle-time", None)].into_iter().collect());
        all.push(
            [text("trestle-envelope", "[[\"a\"]]"), text("a", "1"), text("trestle-envelope", "AQA=")]
                .into_iter()
                .collect(),
        );
        all.push([text("trestle-key", "b64:YQ=="), text("trestle-value", "null")].into_iter().collect());
        all.push([raw(b"trestle-pulsar-ordering-key", Some(self.bytes(20)))].into_iter().collect());
        for count in [100, 101] {
            all.push((0..count).map(|at| text(&format!("name-{at}"), &format!("value {at}"))).collect());
        }
        let long = 20 << 10;
        all.push([text("long", &"x".repeat(long))].into_iter().collect());
        all.push([raw(b"long", Some(self.bytes(long)))].into_iter().collect());
        all.push([raw(b"long", Some(Bytes::from(vec![1; long])))].into_iter().collect());
        all
    }
}

fn text(name: &str, value: &str) -> trestle_core::Header {
    raw(name.as_bytes(), Some(Bytes::copy_from_slice(value.as_bytes())))
}

fn raw(name: &[u8], value: Option<Bytes>) -> trestle_core::Header {
    trestle_core::Header { name: Bytes::copy_from_slice(name), value }
}

pub fn header_bytes(headers: &Headers) -> usize {
    headers.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len)).sum()
}

/// What differs, in one line; payloads are not printed whole.
pub fn difference(sent: &Message, got: &Message) -> Option<String> {
    let short = |bytes: &Option<Bytes>| match bytes {
        None => "null".to_owned(),
        Some(bytes) if bytes.len() > 60 => format!("{} bytes", bytes.len()),
        Some(bytes) => format!("{bytes:?}"),
    };
    let list = |headers: &Headers| {
        let shown = headers.iter().take(8).map(|h| format!("{:?}={}", h.name, short(&h.value)));
        format!("{} headers: {}", headers.len(), shown.collect::<Vec<_>>().join(", "))
    };
    if let Some(defect) = &got.defect {
        return Some(format!("a defect: {}", defect.detail));
    }
    if sent.key != got.key {
        return Some(format!("key {} became {}", short(&sent.key), short(&got.key)));
    }
    if sent.value != got.value {
        return Some(format!("value {} became {}", short(&sent.value), short(&got.value)));
    }
    if sent.headers != got.headers {
        return Some(format!("{} became {}", list(&sent.headers), list(&got.headers)));
    }
    (sent.time != got.time).then(|| format!("time {:?} became {:?}", sent.time, got.time))
}
