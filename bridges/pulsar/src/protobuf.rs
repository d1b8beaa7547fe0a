//! Reading and writing protobuf fields in place.
//!
//! One struct with its strings a message costs several times what the bridge does with it, and a strict decoder refuses a
//! whole frame for one odd byte in a string; here a string is a slice of the frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bytes end inside a field, or are no protobuf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// One field: its number and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Field {
    Varint(u32, u64),
    /// A string, bytes or a nested message, sharing the buffer it was read from.
    Bytes(u32, Bytes),
    /// A fixed-size number; Pulsar's messages have none.
    Fixed,
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// Takes the next field off `input`; `None` at its end.
pub(crate) fn take_field(input: &mut Bytes) -> Result<Option<Field>, Malformed> {
    if input.is_empty() {
        return Ok(None);
    }
    let tag = take_varint(input)?;
    let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
    Ok(Some(match tag & 7 {
        VARINT => Field::Varint(number, take_varint(input)?),
        LENGTH => Field::Bytes(number, take_bytes(input)?),
        FIXED64 => take(input, 8).map(|_| Field::Fixed)?,
        FIXED32 => take(input, 4).map(|_| Field::Fixed)?,
        _ => return Err(Malformed),
    }))
}

/// A `KeyValue { key = 1, value = 2 }`.
pub(crate) fn key_value(mut input: Bytes) -> Result<(Bytes, Bytes), Malformed> {
    let (mut key, mut value) = (Bytes::new(), Bytes::new());
    while let Some(field) = take_field(&mut input)? {
        match field {
            Field::Bytes(1, bytes) => key = bytes,
            Field::Bytes(2, bytes) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

pub(crate) fn take_varint(input: &mut Bytes) -> Result<u64, Malformed> {
    let mut value = 0;
    for (at, byte) in input.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            input.advance(at + 1);
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// A length and that many bytes.
pub(crate) fn take_bytes(input: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = usize::try_from(take_varint(input)?).map_err(|_| Malformed)?;
    take(input, length)
}

/// The next `length` bytes.
pub(crate) fn take(input: &mut Bytes, length: usize) -> Result<Bytes, Malformed> {
    if length > input.len() { Err(Malformed) } else { Ok(input.split_to(length)) }
}

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(crate) fn put_number(out: &mut BytesMut, field: u32, value: u64) {
    put_varint(out, u64::from(field) << 3 | VARINT);
    put_varint(out, value);
}

pub(crate) fn put_bytes(out: &mut BytesMut, field: u32, value: &[u8]) {
    put_varint(out, u64::from(field) << 3 | LENGTH);
    put_varint(out, value.len() as u64);
    out.put_slice(value);
}

/// A `KeyValue` as field `field`.
pub(crate) fn put_key_value(out: &mut BytesMut, field: u32, key: &[u8], value: &[u8]) {
    put_varint(out, u64::from(field) << 3 | LENGTH);
    let length = |bytes: &[u8]| 1 + varint_length(bytes.len() as u64) + bytes.len();
    put_varint(out, (length(key) + length(value)) as u64);
    put_bytes(out, 1, key);
    put_bytes(out, 2, value);
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_come_back() {
        for value in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_length(value));
            assert_eq!(take_varint(&mut out.freeze()), Ok(value));
        }
    }

    #[test]
    fn a_cut_or_endless_field_is_malformed() {
        let mut out = BytesMut::new();
        put_bytes(&mut out, 3, b"hello");
        let whole = out.freeze();
        for cut in 1..whole.len() {
            assert_eq!(take_field(&mut whole.slice(..cut)), Err(Malformed));
        }
        assert_eq!(take_varint(&mut Bytes::from_static(&[0xff; 11])), Err(Malformed));
        assert_eq!(take_field(&mut Bytes::from_static(&[0x0b])), Err(Malformed), "groups are not used");
    }
}
