//! What a Pulsar message cannot say natively, in one property.
//!
//! Pulsar's clients see properties as a map of strings. A header whose name and value are UTF-8 and whose name is unique
//! is a property of its own, so that people and other clients read it; every other one travels here with its place in the
//! list. So do times that `event_time` cannot hold: none at all, zero, and those before 1970.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::{BufMut, Bytes, BytesMut};
use trestle_core::{Header, Headers};

use crate::protobuf::{Malformed, put_varint, take, take_bytes, take_varint};

/// Name of the property.
pub(crate) const NAME: &str = "trestle-envelope";

/// Standard alphabet, padded as Java writes it; read with or without padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// First byte of what the property holds, before base64.
const VERSION: u8 = 1;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Envelope {
    pub time: Time,
    /// Place in the message's header list, and the header; ascending.
    pub headers: Vec<(usize, Header)>,
}

/// How the message's time travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Time {
    /// In `event_time`.
    #[default]
    Native,
    /// The message has none.
    Absent,
    Exact(i64),
}

impl Envelope {
    /// True when the message needs no envelope.
    pub fn is_empty(&self) -> bool {
        *self == Envelope::default()
    }

    /// The property's value.
    pub fn encode(&self) -> String {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match self.time {
            Time::Native => out.put_u8(0),
            Time::Absent => out.put_u8(1),
            Time::Exact(time) => {
                out.put_u8(2);
                out.put_i64(time);
            }
        }
        for (place, header) in &self.headers {
            put_varint(&mut out, *place as u64);
            put_varint(&mut out, header.name.len() as u64);
            out.put_slice(&header.name);
            out.put_u8(u8::from(header.value.is_some()));
            if let Some(value) = &header.value {
                put_varint(&mut out, value.len() as u64);
                out.put_slice(value);
            }
        }
        BASE64.encode(&out)
    }

    /// Reads the property's value back.
    pub fn decode(value: &[u8]) -> Result<Envelope, Malformed> {
        let mut input = Bytes::from(BASE64.decode(value).map_err(|_| Malformed)?);
        if take_byte(&mut input)? != VERSION {
            return Err(Malformed);
        }
        let time = match take_byte(&mut input)? {
            0 => Time::Native,
            1 => Time::Absent,
            2 => Time::Exact(i64::from_be_bytes(take(&mut input, 8)?[..].try_into().map_err(|_| Malformed)?)),
            _ => return Err(Malformed),
        };
        let mut headers = Vec::new();
        while !input.is_empty() {
            let place = usize::try_from(take_varint(&mut input)?).map_err(|_| Malformed)?;
            if headers.last().is_some_and(|(last, _)| *last >= place) {
                return Err(Malformed);
            }
            let name = take_bytes(&mut input)?;
            let value = match take_byte(&mut input)? {
                0 => None,
                1 => Some(take_bytes(&mut input)?),
                _ => return Err(Malformed),
            };
            headers.push((place, Header { name, value }));
        }
        Ok(Envelope { time, headers })
    }

    /// Puts the enveloped headers back to their places among the native ones.
    pub fn merge(self, native: Headers) -> Headers {
        if self.headers.is_empty() {
            return native;
        }
        let mut merged = Headers::with_capacity(native.len() + self.headers.len());
        let mut native = native.into_iter();
        for (place, header) in self.headers {
            while merged.len() < place
                && let Some(header) = native.next()
            {
                merged.push(header.name, header.value);
            }
            merged.push(header.name, header.value);
        }
        for header in native {
            merged.push(header.name, header.value);
        }
        merged
    }
}

/// Takes out of `headers` what cannot be a property of its own.
///
/// Of a name that repeats all go: a map would show one of them, and which one differs between clients.
pub(crate) fn unspeakable(headers: &Headers) -> Vec<(usize, Header)> {
    let repeats = Repeats::of(headers);
    let speakable = |header: &Header| {
        header.value.as_deref().is_some_and(|value| std::str::from_utf8(value).is_ok())
            && std::str::from_utf8(&header.name).is_ok()
            && header.name != NAME
            && !repeats.contains(&header.name)
    };
    headers.iter().enumerate().filter(|(_, h)| !speakable(h)).map(|(at, h)| (at, h.clone())).collect()
}

/// Names that a header list has more than once.
struct Repeats<'a>(Vec<&'a [u8]>);

/// Up to this many headers, comparing each with each is faster than sorting.
const FEW: usize = 8;

impl<'a> Repeats<'a> {
    fn of(headers: &'a Headers) -> Self {
        let mut repeats = Vec::new();
        if headers.len() <= FEW {
            for (at, header) in headers.iter().enumerate() {
                if headers.iter().skip(at + 1).any(|other| other.name == header.name) {
                    repeats.push(&header.name[..]);
                }
            }
        } else {
            let mut names: Vec<&[u8]> = headers.iter().map(|h| &h.name[..]).collect();
            names.sort_unstable();
            repeats.extend(names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]));
        }
        Repeats(repeats)
    }

    fn contains(&self, name: &[u8]) -> bool {
        // Sorted when there are many; few are searched as fast either way.
        if self.0.len() <= FEW { self.0.contains(&name) } else { self.0.binary_search(&name).is_ok() }
    }
}

fn take_byte(input: &mut Bytes) -> Result<u8, Malformed> {
    take(input, 1).map(|byte| byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&[u8], Option<&[u8]>)]) -> Headers {
        let header = |(name, value): &(&[u8], Option<&[u8]>)| Header {
            name: Bytes::copy_from_slice(name),
            value: value.map(Bytes::copy_from_slice),
        };
        list.iter().map(header).collect()
    }

    #[test]
    fn only_what_a_map_of_strings_cannot_hold_goes_into_the_envelope() {
        let list = headers(&[
            (b"plain", Some(b"1")),
            (b"twice", Some(b"a")),
            (b"null", None),
            (b"bytes", Some(&[0xff])),
            (&[0xfe], Some(b"x")),
            (b"", Some(b"")),
            (b"twice", Some(b"b")),
            (NAME.as_bytes(), Some(b"user's own")),
            (b"trestle-dlq-id", Some(b"7")),
        ]);
        let places: Vec<usize> = unspeakable(&list).iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 2, 3, 4, 6, 7]);
    }

    #[test]
    fn repeats_are_found_in_short_and_long_lists() {
        for length in [2usize, 8, 9, 40] {
            let name = |at: usize| Bytes::from(format!("{}", at % (length - 1)));
            let list: Headers =
                (0..length).map(|at| Header { name: name(at), value: Some(Bytes::from_static(b"v")) }).collect();
            let places: Vec<usize> = unspeakable(&list).iter().map(|(place, _)| *place).collect();
            assert_eq!(places, [0, length - 1]);
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused_and_never_panics() {
        let envelope =
            Envelope { time: Time::Exact(-5), headers: unspeakable(&headers(&[(b"a", None), (&[0xff], Some(b"v"))])) };
        let value = envelope.encode();
        assert_eq!(Envelope::decode(value.as_bytes()), Ok(envelope));
        let bytes = BASE64.decode(&value).unwrap();
        for cut in 0..bytes.len() {
            let _ = Envelope::decode(BASE64.encode(&bytes[..cut]).as_bytes());
        }
        assert_eq!(Envelope::decode(b"not base64!"), Err(Malformed));
        assert_eq!(Envelope::decode(b""), Err(Malformed));
    }
}
