//! What was sent comes back unchanged.

use bytes::Bytes;
use trestle_core::{Headers, Message};

use crate::{Subject, rig::*};

pub async fn every_message_comes_back_byte_for_byte(subject: &dyn Subject) {
    let cases = cases();
    round_trip(subject, cases).await;
}

pub async fn a_message_without_a_time_comes_back_without_one(subject: &dyn Subject) {
    if subject.features().absent_time {
        round_trip(subject, vec![("no time", Message { time: None, ..plain() }), ("a time", plain())]).await;
    }
}

pub async fn what_is_sent_to_a_partition_is_read_from_it(subject: &dyn Subject) {
    let rig = Rig::new(subject, 4).await;
    for partition in 0..4 {
        rig.write(partition, u64::from(partition) * 10..u64::from(partition) * 10 + 10).await;
    }
    let mut member = rig.member().await;
    let mut batches = member.batches(40).await;
    batches.sort_by_key(|b| b.partition);
    for batch in &batches {
        assert!(numbers(batch).iter().all(|n| n / 10 == u64::from(batch.partition.0)), "{}", batch.partition);
    }
    assert_eq!(all_numbers(&batches), upto(40));
    member.close().await;
}

async fn round_trip(subject: &dyn Subject, cases: Vec<(&'static str, Message)>) {
    let rig = Rig::new(subject, 1).await;
    let mut writer = rig.writer(0).await;
    writer.write(cases.iter().map(|(_, message)| message.clone()).collect()).await;
    let mut member = rig.member().await;
    let batches = member.batches(cases.len()).await;
    assert_eq!(count(&batches), cases.len(), "each message comes once");
    for ((case, sent), read) in cases.iter().zip(batches.iter().flat_map(|b| &b.messages)) {
        assert_eq!(read.defect, None, "{case}");
        assert_eq!(read.key, sent.key, "key: {case}");
        assert!(read.value == sent.value, "value: {case}: {:?} bytes came", read.value.as_ref().map(Bytes::len));
        assert_eq!(read.headers, sent.headers, "headers: {case}");
        assert_eq!(read.time, sent.time, "time: {case}");
    }
    member.close().await;
}

fn cases() -> Vec<(&'static str, Message)> {
    let key = |key: &'static [u8]| Message { key: Some(Bytes::from_static(key)), ..plain() };
    let value = |value: Vec<u8>| Message { value: Some(value.into()), ..plain() };
    let time = |time| Message { time: Some(time), ..plain() };
    vec![
        ("plain", plain()),
        ("empty key", key(b"")),
        ("text key", key("a key with blanks and Umläute".as_bytes())),
        ("key of control characters", key(b"\x00\x01\x02\n\x7f")),
        ("key of odd bytes", key(b"\xff\xfe\x00\x80")),
        ("key that looks encoded", key(b"YWJj=")),
        ("null value", Message { value: None, ..plain() }),
        ("null value with a key", Message { value: None, ..key(b"gone") }),
        ("empty value", value(vec![])),
        ("value of one zero byte", value(vec![0])),
        ("value of all bytes", value((0..=255).cycle().take(1000).collect())),
        (
            "value of one mebibyte",
            value((0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ),
        ("time of the beginning", time(0)),
        ("time of the beginning plus one", time(1)),
        ("time before the beginning", time(-1)),
        ("time with milliseconds", time(1_600_000_000_001)),
        ("simple headers", headers(&[(b"b", Some(b"2")), (b"a", Some(b"1"))])),
        (
            "repeated headers",
            headers(&[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3")), (b"a", Some(b"1"))]),
        ),
        ("null and empty headers", headers(&[(b"null", None), (b"empty", Some(b"")), (b"null", Some(b"no"))])),
        ("headers of control characters", headers(&[(b"a\x01b", Some(b"1\x022")), (b"\x02", Some(b"\x01"))])),
        ("headers of odd bytes", headers(&[(b"\xff\xfe", Some(b"\x80\x00")), (b"fine", Some(b"\xc3\x28"))])),
        ("header without a name", headers(&[(b"", Some(b"value"))])),
        (
            "names that mean something to a broker",
            headers(&[(b"KEYS", Some(b"k")), (b"TAGS", Some(b"t")), (b"DELAY", Some(b"3")), (b"UNIQ_KEY", Some(b"u"))]),
        ),
        ("text of many bytes a letter", headers(&[("名前".as_bytes(), Some("値".as_bytes()))])),
        ("fifty headers", Message { headers: fifty(), ..plain() }),
        (
            "all at once",
            Message { key: Some(Bytes::new()), value: None, ..headers(&[(b"a", None), (b"a", Some(b"\x01"))]) },
        ),
        ("plain again", plain()),
    ]
}

fn headers(all: &[(&'static [u8], Option<&'static [u8]>)]) -> Message {
    let mut headers = Headers::default();
    all.iter().for_each(|(name, value)| headers.push(*name, value.map(Bytes::from_static)));
    Message { headers, ..plain() }
}

fn fifty() -> Headers {
    let mut headers = Headers::default();
    (0..50).for_each(|n| headers.push(format!("name-{n}"), Some(format!("value {n}").into())));
    headers
}
