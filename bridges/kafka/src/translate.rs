//! Records to messages and back. Pure, but for the copy out of librdkafka's buffers.

use bytes::{Bytes, BytesMut};
use trestle_core::{Cause, Defect, Headers, Message, Position};

use crate::native::Record;

/// Carries a time that a record's own cannot say: decimal milliseconds, or [`NONE`]. Last of the headers, and taken off on
/// the way out.
pub(crate) const TIME_HEADER: &[u8] = b"trestle-time";

/// librdkafka takes 0 for "now", and in a record -1 is "none": these two travel in [`TIME_HEADER`].
const UNSAYABLE: [i64; 2] = [0, NO_TIME];
/// What a record says when its producer gave no time (`RecordBatch.NO_TIMESTAMP`).
pub(crate) const NO_TIME: i64 = -1;
/// Said only where the last header of a message without a time would be taken for one of ours.
const NONE: &str = "none";

/// The time for the record, and the header that says what the record cannot.
pub(crate) fn record_time(message: &Message) -> (i64, Option<String>) {
    match message.time {
        None => {
            let last = message.headers.iter().next_back().filter(|header| header.name == TIME_HEADER);
            let misread = last.and_then(|header| said_time(header.value.as_deref()?)).is_some();
            (NO_TIME, misread.then(|| NONE.to_owned()))
        }
        Some(time) if UNSAYABLE.contains(&time) => (NO_TIME, Some(time.to_string())),
        Some(time) => (time, None),
    }
}

/// Messages of one partition, with all their bytes copied into one slab of their own: librdkafka's buffers hold whole
/// fetches.
pub(crate) fn messages(records: &[Record], largest: usize) -> Vec<Message> {
    let mut slab = BytesMut::with_capacity(records.iter().map(record_bytes).sum());
    let mut take = |bytes: &[u8]| -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        slab.extend_from_slice(bytes);
        slab.split().freeze()
    };
    records.iter().map(|record| message(record, largest, &mut take)).collect()
}

/// Bytes of key, value and headers.
pub(crate) fn record_bytes(record: &Record) -> usize {
    let headers: usize = record.headers().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
    record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len) + headers
}

fn message(record: &Record, largest: usize, take: &mut impl FnMut(&[u8]) -> Bytes) -> Message {
    let mut time = Some(record.time()).filter(|time| *time != NO_TIME);
    let count = record.header_count();
    let mut headers = Headers::with_capacity(count);
    for (index, (name, value)) in record.headers().enumerate() {
        if index + 1 == count
            && time.is_none()
            && name == TIME_HEADER
            && let Some(said) = value.and_then(said_time)
        {
            time = said;
            continue;
        }
        headers.push(take(name), value.map(&mut *take));
    }
    let mut message = Message {
        key: record.key().map(&mut *take),
        value: record.value().map(&mut *take),
        headers,
        time,
        position: Position::Offset(record.offset().unsigned_abs()),
        defect: None,
    };
    message.defect = defect(&message, largest);
    message
}

/// What a header of ours says; `None` of one that is not.
fn said_time(value: &[u8]) -> Option<Option<i64>> {
    let text = std::str::from_utf8(value).ok()?;
    if text == NONE {
        return Some(None);
    }
    // As it is written, and no other way: `+0` or `00` is somebody else's.
    text.parse().ok().filter(|time: &i64| time.to_string() == text).map(Some)
}

fn defect(message: &Message, largest: usize) -> Option<Box<Defect>> {
    let size = message.size();
    (size > largest).then(|| {
        let detail = format!("the message has {size} bytes, and `memory.largest_message` allows {largest}");
        Box::new(Defect { cause: Cause::TooLarge, detail })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_a_record_cannot_say_travels_in_a_header_and_others_do_not() {
        let of = |time| record_time(&Message { time, ..Message::at(Position::Offset(0)) });
        assert_eq!(of(Some(1_700_000_000_000)), (1_700_000_000_000, None));
        assert_eq!(of(None), (-1, None));
        assert_eq!(of(Some(0)), (-1, Some("0".into())));
        assert_eq!(of(Some(-1)), (-1, Some("-1".into())));
        for time in UNSAYABLE {
            assert_eq!(said_time(time.to_string().as_bytes()), Some(Some(time)));
        }
        assert_eq!(said_time(b"12"), Some(Some(12)), "a topic may not take a time that a record can say");
        for other in [&b"+0"[..], b"-01", b"", b"\xff", b"1.5"] {
            assert_eq!(said_time(other), None, "only what this connector writes is undone");
        }
    }

    #[test]
    fn a_header_of_the_user_that_looks_like_ours_stays_where_there_is_no_time() {
        for (value, said) in [
            (&b"0"[..], Some("none")),
            (b"-1", Some("none")),
            (b"none", Some("none")),
            (b"12", Some("none")),
            (b"x", None),
        ] {
            let mut message = Message::at(Position::Offset(0));
            message.headers.push(TIME_HEADER, Some(Bytes::from_static(value)));
            assert_eq!(record_time(&message), (-1, said.map(str::to_owned)));
            message.headers.push("behind", None);
            assert_eq!(record_time(&message), (-1, None), "only the last header is ever undone");
        }
        assert_eq!(said_time(NONE.as_bytes()), Some(None));
    }

    #[test]
    fn a_message_over_the_limit_keeps_its_value_and_is_marked() {
        let message = Message { value: Some(Bytes::from(vec![7; 1000])), ..Message::at(Position::Offset(3)) };
        assert_eq!(defect(&message, 1000).map(|d| d.cause), Some(Cause::TooLarge));
        assert_eq!(defect(&message, 2000), None);
    }
}
