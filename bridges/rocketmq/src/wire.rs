//! Messages in bytes: as a batch send takes them, and as a pull hands them out (`MessageDecoder.java`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{compression, translate::Stored};

/// Bytes of a message in a batch beyond its body and properties.
const ITEM_OVERHEAD: usize = 22;
const BODY_AT: usize = 20;

/// Appends one message to a batch send's body: total size, magic, checksum, flag, body, properties.
pub fn put_item(out: &mut BytesMut, body: &[u8], properties: &[u8]) {
    out.put_u32((ITEM_OVERHEAD + body.len() + properties.len()) as u32);
    // The broker computes magic and checksum itself.
    out.put_bytes(0, 12);
    out.put_u32(body.len() as u32);
    out.put_slice(body);
    out.put_u16(properties.len() as u16);
    out.put_slice(properties);
}

/// Takes a batch body of one message apart again, for a send that is no batch: body and properties.
pub fn only_item(item: &Bytes) -> Option<(Bytes, Bytes)> {
    let length = item.get(BODY_AT - 4..BODY_AT)?.try_into().ok().map(u32::from_be_bytes)? as usize;
    (item.len() >= ITEM_OVERHEAD + length)
        .then(|| (item.slice(BODY_AT..BODY_AT + length), item.slice(ITEM_OVERHEAD + length..)))
}

const MAGIC_V1: u32 = 0xDAA3_20A7;
const MAGIC_V2: u32 = 0xDAA3_20AB;

// MessageSysFlag.java
const BORN_HOST_V6: u32 = 1 << 4;
const STORE_HOST_V6: u32 = 1 << 5;
const NEED_UNWRAP: u32 = 1 << 6;
const INNER_BATCH: u32 = 1 << 7;

/// A message of a pull's answer, or what stands in its place.
pub enum Record {
    Message(Stored),
    /// Cannot be read: its offset where that is known, its bytes, and why.
    Defect {
        offset: Option<u64>,
        raw: Bytes,
        detail: String,
    },
}

/// The messages in a pull's answer, in order. `largest_body` is the most that is decompressed.
pub fn records(mut answer: Bytes, largest_body: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while !answer.is_empty() {
        let size = answer.first_chunk().map(|size| u32::from_be_bytes(*size) as usize);
        let Some(size) = size.filter(|size| (4..=answer.len()).contains(size)) else {
            // Where the next one begins is not known.
            records.push(Record::Defect { offset: None, raw: answer, detail: "a record's size is no size".into() });
            break;
        };
        let raw = answer.split_to(size);
        record(raw, largest_body, &mut records);
    }
    records
}

/// Appends the record, or the messages of an inner batch.
fn record(raw: Bytes, largest_body: usize, records: &mut Vec<Record>) {
    let mut offset = None;
    match read_record(raw.clone(), largest_body, &mut offset) {
        Ok((stored, sys_flag)) if sys_flag & INNER_BATCH != 0 && sys_flag & NEED_UNWRAP != 0 => {
            match unwrap_batch(&stored) {
                Some(inner) => records.extend(inner.into_iter().map(Record::Message)),
                None => records.push(Record::Defect { offset, raw, detail: "an inner batch is no batch".into() }),
            }
        }
        Ok((stored, _)) => records.push(Record::Message(stored)),
        Err(detail) => records.push(Record::Defect { offset, raw, detail }),
    }
}

fn read_record(mut raw: Bytes, largest_body: usize, offset: &mut Option<u64>) -> Result<(Stored, u32), String> {
    let cut = |_| "a record is cut off".to_owned();
    let _size = raw.try_get_u32().map_err(cut)?;
    let magic = raw.try_get_u32().map_err(cut)?;
    let _checksum_queue_flag = raw.try_get_u64().and_then(|_| raw.try_get_u32()).map_err(cut)?;
    let queue_offset = raw.try_get_u64().map_err(cut)?;
    *offset = Some(queue_offset);
    let _physical = raw.try_get_u64().map_err(cut)?;
    let sys_flag = raw.try_get_u32().map_err(cut)?;
    let born = raw.try_get_i64().map_err(cut)?;
    let host = |v6: u32| if sys_flag & v6 != 0 { 20 } else { 8 };
    skip(&mut raw, host(BORN_HOST_V6) + 8 + host(STORE_HOST_V6) + 4 + 8)?;
    let body_length = raw.try_get_u32().map_err(cut)? as usize;
    let body = take(&mut raw, body_length)?;
    let topic_length = match magic {
        MAGIC_V1 => usize::from(raw.try_get_u8().map_err(cut)?),
        MAGIC_V2 => usize::from(raw.try_get_u16().map_err(cut)?),
        _ => return Err(format!("a record's magic number is {magic:#x}")),
    };
    skip(&mut raw, topic_length)?;
    let properties_length = usize::from(raw.try_get_u16().map_err(cut)?);
    let properties = take(&mut raw, properties_length)?;
    let body = compression::decompress(body, sys_flag, largest_body)?;
    Ok((Stored { offset: queue_offset, born, body, properties }, sys_flag))
}

/// The messages that a producer sent as one: their offsets follow the outer one's.
fn unwrap_batch(outer: &Stored) -> Option<Vec<Stored>> {
    let (mut items, mut inner) = (outer.body.clone(), Vec::new());
    while !items.is_empty() {
        let size = items.first_chunk().map(|size| u32::from_be_bytes(*size) as usize)?;
        if size < ITEM_OVERHEAD || size > items.len() {
            return None;
        }
        let (body, mut properties) = only_item(&items.split_to(size))?;
        // The separator between the last property and what the broker appended.
        if properties.last() == Some(&0) {
            properties.truncate(properties.len() - 1);
        }
        let offset = outer.offset.checked_add(inner.len() as u64)?;
        inner.push(Stored { offset, born: outer.born, body, properties });
    }
    Some(inner)
}

fn skip(raw: &mut Bytes, bytes: usize) -> Result<(), String> {
    take(raw, bytes).map(drop)
}

fn take(raw: &mut Bytes, bytes: usize) -> Result<Bytes, String> {
    if bytes > raw.len() {
        return Err("a record is cut off".into());
    }
    Ok(raw.split_to(bytes))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn stored(offset: u64, sys_flag: u32, magic: u32, body: &[u8], properties: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_u32(0);
        out.put_u32(magic);
        out.put_bytes(0, 12);
        out.put_u64(offset);
        out.put_u64(0);
        out.put_u32(sys_flag);
        out.put_i64(55);
        let host = |v6: u32| if sys_flag & v6 != 0 { 20 } else { 8 };
        out.put_bytes(0, host(BORN_HOST_V6) + 8 + host(STORE_HOST_V6) + 12);
        out.put_u32(body.len() as u32);
        out.put_slice(body);
        if magic == MAGIC_V1 {
            out.put_u8(1)
        } else {
            out.put_u16(1)
        }
        out.put_slice(b"t");
        out.put_u16(properties.len() as u16);
        out.put_slice(properties);
        let size = out.len() as u32;
        out[..4].copy_from_slice(&size.to_be_bytes());
        out
    }

    fn offsets(records: &[Record]) -> Vec<Option<u64>> {
        let offset = |record: &Record| match record {
            Record::Message(stored) => Some(stored.offset),
            Record::Defect { .. } => None,
        };
        records.iter().map(offset).collect()
    }

    #[test]
    fn both_formats_and_both_kinds_of_address_are_read() {
        let mut answer = stored(3, 0, MAGIC_V1, b"one", b"a\x01b\x02");
        answer.unsplit(stored(4, BORN_HOST_V6 | STORE_HOST_V6, MAGIC_V2, b"two", b""));
        let records = records(answer.freeze(), 1 << 20);
        assert_eq!(offsets(&records), [Some(3), Some(4)]);
        let Record::Message(first) = &records[0] else { panic!() };
        assert_eq!((&first.body[..], &first.properties[..], first.born), (&b"one"[..], &b"a\x01b\x02"[..], 55));
    }

    #[test]
    fn an_inner_batch_is_its_messages_at_following_offsets() {
        let mut items = BytesMut::new();
        put_item(&mut items, b"one", b"a\x01b\x02");
        put_item(&mut items, b"two", b"");
        let answer = stored(10, INNER_BATCH | NEED_UNWRAP, MAGIC_V1, &items, b"");
        assert_eq!(offsets(&records(answer.freeze(), 1 << 20)), [Some(10), Some(11)]);
    }

    #[test]
    fn a_bad_record_is_a_defect_and_its_neighbours_are_read() {
        let mut answer = stored(3, 0, MAGIC_V1, b"one", b"");
        answer.unsplit(stored(4, 0, 0x1234_5678, b"two", b""));
        answer.unsplit(stored(5, 1, MAGIC_V1, b"not compressed", b""));
        answer.unsplit(stored(6, 0, MAGIC_V1, b"three", b""));
        answer.put_slice(b"\xFF\xFF\xFF\xFF rest");
        let records = records(answer.freeze(), 1 << 20);
        assert_eq!(offsets(&records), [Some(3), None, None, Some(6), None]);
        assert!(matches!(&records[1], Record::Defect { offset: Some(4), .. }));
        assert!(matches!(&records[4], Record::Defect { offset: None, .. }));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_or_an_endless_loop() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut items = BytesMut::new();
        put_item(&mut items, b"one", b"a\x01b\x02");
        let good = stored(3, INNER_BATCH | NEED_UNWRAP, MAGIC_V1, &items, b"a\x01b\x02");
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..random.random_range(1..5) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            bytes.truncate(random.random_range(0..=bytes.len()));
            records(bytes.into(), 1 << 16);
        }
    }

    #[test]
    fn a_batch_of_one_comes_apart_again() {
        let mut out = BytesMut::new();
        put_item(&mut out, b"body", b"p\x01q\x02");
        let (body, properties) = only_item(&out.freeze()).unwrap();
        assert_eq!((&body[..], &properties[..]), (&b"body"[..], &b"p\x01q\x02"[..]));
    }
}
