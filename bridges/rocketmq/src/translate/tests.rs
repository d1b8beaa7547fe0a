use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

fn message(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&[u8], Option<&[u8]>)]) -> Message {
    let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    Message {
        key: key.map(owned),
        value: value.map(owned),
        headers: headers.iter().map(|(n, v)| Header { name: owned(n), value: v.map(owned) }).collect(),
        time: Some(1_700_000_000_123),
        position: Position::Offset(7),
        defect: None,
    }
}

fn properties(message: &Message, extras: &Extras<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    write_properties(message, extras.clone(), &mut out).unwrap();
    out
}

fn shown(message: &Message) -> String {
    String::from_utf8(properties(message, &Extras::default()).to_vec())
        .unwrap()
        .replace('\u{1}', "=")
        .replace('\u{2}', ";")
}

fn round_trip(message: &Message, extras: &Extras<'_>, added_by_broker: &[u8]) -> Message {
    let mut properties = properties(message, extras);
    properties.extend_from_slice(added_by_broker);
    let body = Bytes::copy_from_slice(body(message));
    assert!(!body.is_empty(), "RocketMQ refuses an empty body");
    read(Stored { offset: 7, born: 5, body, properties: properties.freeze() })
}

#[test]
fn plain_headers_and_keys_are_properties_that_people_and_java_clients_can_read() {
    let plain =
        message(Some(b"order-1"), Some(b"v"), &[(b"a", Some("Grüße 世界".as_bytes())), (b"TAGS", Some(b"red"))]);
    assert_eq!(shown(&plain), "KEYS=order-1;a=Grüße 世界;TAGS=red;trestle-time=1700000000123;");
}

#[test]
fn what_properties_cannot_say_goes_into_the_envelope_in_order() {
    let odd = message(
        None,
        Some(b"v"),
        &[(b"a", Some(b"1")), (b"b", Some(b"x\x01y\x02z")), (b"b", None), (b"\xFF", Some(b""))],
    );
    let expected = r#"a=1;trestle-envelope=[["a"],["b","x\u0001y\u0002z"],["b",null],[{"b":"/w=="},""]];trestle-time=1700000000123;"#;
    assert_eq!(shown(&odd), expected);
    assert_eq!(round_trip(&odd, &Extras::default(), b""), odd);
}

#[test]
fn reserved_names_never_become_properties() {
    for name in
        ["KEYS", "WAIT", "DELAY", "UNIQ_KEY", "CLUSTER", "TIMER_DELIVER_MS", "trestle-time", "__RMQ.TRANSIENT.X"]
    {
        let message = message(None, Some(b"v"), &[(name.as_bytes(), Some(b"1"))]);
        assert!(!shown(&message).contains(&format!("{name}=1;")), "{name}");
        assert_eq!(round_trip(&message, &Extras::default(), b"CLUSTER\x01c\x02"), message, "{name}");
    }
    for tag in ["a b", "a|b"] {
        let message = message(None, Some(b"v"), &[(b"TAGS", Some(tag.as_bytes()))]);
        assert!(!shown(&message).contains("TAGS="));
        assert_eq!(round_trip(&message, &Extras::default(), b""), message);
    }
}

#[test]
fn null_and_empty_keys_and_values_stay_apart() {
    for key in [None, Some(&b""[..]), Some(b"a b"), Some(b"\xFF\x02"), Some(b"a\x01")] {
        for value in [None, Some(&b""[..]), Some(b"-"), Some(b"\0")] {
            let message = message(key, value, &[]);
            assert_eq!(round_trip(&message, &Extras::default(), b""), message);
        }
    }
}

#[test]
fn the_time_is_the_messages_own_and_none_stays_none() {
    for time in [None, Some(0), Some(-1), Some(i64::MAX), Some(i64::MIN)] {
        let message = Message { time, ..message(None, Some(b"v"), &[]) };
        assert_eq!(round_trip(&message, &Extras::default(), b"").time, time);
    }
}

#[test]
fn a_foreign_message_keeps_its_properties_and_takes_its_born_time() {
    let properties = b"KEYS\x01k1 k2\x02TAGS\x01red\x02a\x01b=c\x02__SHARDINGKEY\x01s\x02UNIQ_KEY\x01U1\x02WAIT\x01true\x02CLUSTER\x01c\x02";
    let read =
        read(Stored { offset: 9, born: 5, body: Bytes::from_static(b"v"), properties: Bytes::from_static(properties) });
    assert_eq!((read.key.as_deref(), read.time, read.position), (Some(&b"k1 k2"[..]), Some(5), Position::Offset(9)));
    let names: Vec<_> = read.headers.iter().map(|h| String::from_utf8_lossy(&h.name).into_owned()).collect();
    assert_eq!(names, ["TAGS", "a", "__SHARDINGKEY", "UNIQ_KEY"]);
}

#[test]
fn extras_are_written_and_undone() {
    let message = message(Some(b"k"), Some(b"v"), &[(b"b", Some(b"1")), (b"a", Some(b"2"))]);
    let stamp = Stamp { group: Some("k".into()), ..Stamp::default() };
    let extras = Extras { stamp, id: Some("orders/3/17"), unordered: true };
    let text = String::from_utf8(properties(&message, &extras).to_vec()).unwrap();
    for part in
        ["__SHARDINGKEY\u{1}k\u{2}", "trestle-id\u{1}orders/3/17\u{2}", "trestle-envelope\u{1}[[\"b\"],[\"a\"]]\u{2}"]
    {
        assert!(text.contains(part), "{text:?}");
    }
    assert_eq!(round_trip(&message, &extras, b""), message);
}

#[test]
fn keys_tag_and_delay_that_the_route_says_are_native_and_undone() {
    let with = |message: &Message, stamp: Stamp<'_>| {
        let extras = Extras { stamp, ..Extras::default() };
        let text = String::from_utf8(properties(message, &extras).to_vec()).unwrap();
        assert_eq!(&round_trip(message, &extras, b"UNIQ_KEY\x01U\x02TIMER_OUT_MS\x011\x02"), message);
        text.replace('\u{1}', "=").replace('\u{2}', ";").replace("trestle-time=1700000000123;", "")
    };
    let keys = |keys| Stamp { keys: Some(keys), ..Stamp::default() };
    let tag = |tag| Stamp { tag: Some(tag), ..Stamp::default() };
    let key = message(Some(b"k"), Some(b"v"), &[]);
    assert_eq!(with(&key, keys(Some("a b"))), "KEYS=a b;trestle-key=b64:aw==;");
    assert_eq!(with(&key, keys(Some("k"))), "KEYS=k;");
    assert_eq!(with(&key, keys(None)), "trestle-key=b64:aw==;");
    let none = message(None, Some(b"v"), &[]);
    assert_eq!(with(&none, keys(Some("a"))), "KEYS=a;trestle-key=none;");
    assert_eq!(with(&none, keys(None)), "");
    assert_eq!(with(&none, tag(Some("red"))), "TAGS=red;trestle-tag=added;");
    let tagged = message(None, Some(b"v"), &[(b"TAGS", Some(b"red"))]);
    assert_eq!(with(&tagged, tag(Some("red"))), "TAGS=red;");
    let other = r#"TAGS=blue;trestle-tag=added;trestle-envelope=[["TAGS","red"]];"#;
    assert_eq!(with(&tagged, tag(Some("blue"))), other);
    assert_eq!(with(&tagged, tag(None)), r#"trestle-envelope=[["TAGS","red"]];"#);
    for (delay, text) in [(Delay::At(17), "TIMER_DELIVER_MS=17;"), (Delay::Level(3), "DELAY=3;")] {
        assert_eq!(with(&none, Stamp { delay: Some(delay), ..Stamp::default() }), text);
    }
}

#[test]
fn of_a_foreign_message_stays_what_says_something_of_it() {
    let properties = "REAL_TOPIC=t;TRAN_MSG=true;PGROUP=g;UNIQ_KEY=U;__transactionId__=U;TIMER_DELIVER_MS=1;TIMER_OUT_MS=0;REAL_QID=0;INSTANCE_ID=i;";
    let properties = Bytes::from(properties.replace('=', "\u{1}").replace(';', "\u{2}"));
    let read = read(Stored { offset: 9, born: 5, body: Bytes::from_static(b"v"), properties });
    let names: Vec<_> = read.headers.iter().map(|h| String::from_utf8_lossy(&h.name).into_owned()).collect();
    assert_eq!(names, ["UNIQ_KEY", "TIMER_DELIVER_MS"]);
}

#[test]
fn properties_of_ours_that_make_no_sense_are_a_defect_with_the_raw_body() {
    for bad in [
        &b"trestle-key\x01zz\x02"[..],
        b"trestle-tag\x01x\x02",
        b"trestle-key\x01b64:?\x02",
        b"trestle-value\x01x\x02",
        b"trestle-time\x01x\x02",
        b"trestle-envelope\x01[\x02",
        b"trestle-envelope\x01[[{\"b\":\"?\"}]]\x02",
    ] {
        let read = read(Stored {
            offset: 1,
            born: 0,
            body: Bytes::from_static(b"raw"),
            properties: Bytes::copy_from_slice(bad),
        });
        assert!(read.defect.is_some() && read.value.as_deref() == Some(b"raw"), "{bad:?}");
    }
}

#[test]
fn any_message_comes_back_byte_for_byte() {
    let mut random = SmallRng::seed_from_u64(42);
    let names: [&[u8]; 8] = [b"a", b"KEYS", b"TAGS", b"trestle-envelope", b"", b"\xC3\x28", b"n\x01m", b"\x02"];
    for _ in 0..20_000 {
        let mut bytes = |max: usize| -> Option<Bytes> {
            let length = random.random_range(0..=max);
            let alphabet = if random.random_bool(0.5) { 0..=255_u8 } else { b'a'..=b'f' };
            random.random_bool(0.9).then(|| (0..length).map(|_| random.random_range(alphabet.clone())).collect())
        };
        let (key, value, shape) = (bytes(6), bytes(8), bytes(6).unwrap_or_default());
        let headers = shape.iter().map(|pick| {
            let name = names
                .get(usize::from(pick % 12))
                .map_or_else(|| bytes(3).unwrap_or_default(), |n| Bytes::from_static(n));
            Header { name, value: bytes(4) }
        });
        let headers = headers.collect();
        let original = Message { key, value, headers, time: Some(1), position: Position::Offset(7), defect: None };
        let pick = |at: usize, options: [Option<Option<&'static str>>; 3]| options.get(shape.len() % at).copied();
        let stamp = Stamp {
            keys: pick(4, [None, Some(None), Some(Some("a"))]).flatten(),
            tag: pick(5, [Some(Some("a")), Some(None), None]).flatten(),
            group: (shape.len() % 2 == 0).then(|| "g".into()),
            delay: (shape.len() == 6).then_some(Delay::Level(1)),
        };
        let extras = Extras { stamp, unordered: shape.len() % 3 == 0, id: Some("x") };
        assert_eq!(round_trip(&original, &extras, b"UNIQ_KEY\x01FD00\x02CLUSTER\x01DefaultCluster\x02"), original);
    }
}

#[test]
fn any_properties_are_read_without_a_panic() {
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut properties: Vec<u8> = b"trestle-envelope\x01[[\"a\"]]\x02trestle-key\x01b64:YQ==\x02".to_vec();
        for _ in 0..random.random_range(0..6) {
            let at = random.random_range(0..properties.len());
            properties[at] = random.random();
        }
        read(Stored { offset: 0, born: 0, body: Bytes::new(), properties: properties.into() });
    }
}
