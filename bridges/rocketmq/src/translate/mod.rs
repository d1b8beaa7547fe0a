//! Message <-> RocketMQ body and properties, both ways, without I/O.
//!
//! What RocketMQ cannot say natively travels in properties of ours, undone on the way out:
//! `trestle-time` (ms, or `none`; the born time is set at send), `trestle-value` (`null` or `empty`; the body is then one
//! byte, because RocketMQ refuses none), `trestle-key` (Base64, where KEYS are not the key; `none` where there is none),
//! `trestle-tag` (`added`: TAGS is no header of the message's), `trestle-envelope` (headers that are no plain text
//! properties). `trestle-id` is for receivers, and only on request.
//!
//! Of a foreign producer's message every property but KEYS is a header of the same name: users' own, TAGS, and RocketMQ's that
//! say something of the message, like UNIQ_KEY (its id), `__SHARDINGKEY` (its message group), CORRELATION_ID, DELAY and
//! TIMER_DELIVER_MS (how it was delayed before it could be read). What brokers and clients note about one storage, delivery or
//! transaction is left behind: see [`reserved`].
//!
//! A header of such a name travels in the envelope and never becomes the property, so that nothing is delayed, tagged or
//! grouped by chance. Only TAGS does; the rest is for the options of the topic to say ([`crate::sink_options`]).

mod envelope;
mod reserved;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use trestle_core::{Cause, Defect, Header, Headers, Message, Position};

use crate::stamp::{self, Delay, Stamp};
use envelope::Entry;

pub const SEPARATOR: u8 = 1;
pub const END: u8 = 2;

pub const KEYS: &str = "KEYS";
pub const TAGS: &str = "TAGS";
pub const SHARDING_KEY: &str = "__SHARDINGKEY";
pub const DELIVER_AT: &str = "TIMER_DELIVER_MS";
const DELAY_LEVEL: &str = "DELAY";
#[cfg(feature = "proxy")]
pub const UNIQ_KEY: &str = "UNIQ_KEY";

const OURS: &str = "trestle-";
const KEY: &str = "trestle-key";
const VALUE: &str = "trestle-value";
const TAG: &str = "trestle-tag";
const TIME: &str = "trestle-time";
const ENVELOPE: &str = "trestle-envelope";
const ID: &str = "trestle-id";

/// What stands in for a value that RocketMQ refuses.
const PLACEHOLDER: &[u8] = b"-";
const NO_KEY: &str = "none";
const ADDED: &str = "added";

/// What a route adds to a message.
#[derive(Clone, Default)]
pub struct Extras<'a> {
    pub stamp: Stamp<'a>,
    pub id: Option<&'a str>,
    /// The broker will not keep the order of properties, as it does for batches.
    pub unordered: bool,
}

/// The bytes that travel as the body; never empty.
pub fn body(message: &Message) -> &[u8] {
    match &message.value {
        Some(value) if !value.is_empty() => value,
        _ => PLACEHOLDER,
    }
}

/// Writes the properties, `name 0x01 value 0x02` each.
pub fn write_properties(message: &Message, extras: Extras<'_>, out: &mut BytesMut) -> Result<(), String> {
    put_key(message.key.as_deref(), extras.stamp.keys, out);
    if let Some(group) = &extras.stamp.group {
        put(out, SHARDING_KEY, group);
    }
    match extras.stamp.delay {
        Some(Delay::At(time)) => put(out, DELIVER_AT, &time.to_string()),
        Some(Delay::Level(level)) => put(out, DELAY_LEVEL, &level.to_string()),
        None => {}
    }
    let (mut natives, mut tagged) = (0, false);
    let native = |header| as_property(header, &message.headers, extras.stamp.tag);
    for (name, value) in message.headers.iter().filter_map(native) {
        put(out, name, value);
        natives += 1;
        tagged |= name == TAGS;
    }
    if let Some(tag) = extras.stamp.tag.flatten().filter(|_| !tagged) {
        put(out, TAGS, tag);
        put(out, TAG, ADDED);
    }
    if natives < message.headers.len() || (extras.unordered && natives > 1) {
        let marked = message.headers.iter().map(|header| (header, native(header).is_some()));
        put(out, ENVELOPE, &envelope::write(marked)?);
    }
    match &message.value {
        None => put(out, VALUE, "null"),
        Some(value) if value.is_empty() => put(out, VALUE, "empty"),
        Some(_) => {}
    }
    match message.time {
        Some(time) => put(out, TIME, &time.to_string()),
        None => put(out, TIME, "none"),
    }
    if let Some(id) = extras.id.and_then(|id| plain_text(id.as_bytes())) {
        put(out, ID, id);
    }
    Ok(())
}

/// KEYS, and the key itself where they are not it.
fn put_key(key: Option<&[u8]>, keys: Option<Option<&str>>, out: &mut BytesMut) {
    let keys = keys.unwrap_or_else(|| key.and_then(plain_key));
    if let Some(keys) = keys {
        put(out, KEYS, keys);
    }
    match key {
        Some(key) if keys.is_some_and(|keys| keys.as_bytes() == key) => {}
        Some(key) => put(out, KEY, &format!("b64:{}", STANDARD.encode(key))),
        None if keys.is_some() => put(out, KEY, NO_KEY),
        None => {}
    }
}

fn put(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_u8(SEPARATOR);
    out.put_slice(value.as_bytes());
    out.put_u8(END);
}

/// With more headers than this all go into the envelope: RocketMQ's proxy refuses more than 128 properties.
const MOST_NATIVE_HEADERS: usize = 100;

/// The header as a property of its own: its name occurs once, both are text, and RocketMQ has no use for the name. A tag is one
/// only when it is the tag that the route says, if it says any.
fn as_property<'a>(header: &'a Header, all: &Headers, tag: Option<Option<&str>>) -> Option<(&'a str, &'a str)> {
    if all.len() > MOST_NATIVE_HEADERS {
        return None;
    }
    let (name, value) = (plain_text(&header.name)?, plain_text(header.value.as_ref()?)?);
    let tag = name == TAGS && stamp::tag(value.as_bytes()).is_ok() && tag.is_none_or(|tag| tag == Some(value));
    let free = !name.starts_with(OURS) && !reserved::is_reserved(name.as_bytes());
    let once = || all.iter().filter(|h| h.name == header.name).count() == 1;
    ((tag || free) && once()).then_some((name, value))
}

/// Text that a property can carry as it is: UTF-8, not empty, no control characters, which proxies refuse
/// (`Character.isISOControl`).
pub fn plain_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}

/// Text that KEYS can carry as one key: RocketMQ takes blanks for separators.
fn plain_key(bytes: &[u8]) -> Option<&str> {
    plain_text(bytes).filter(|text| !text.contains(char::is_whitespace))
}

/// A message as a broker hands it out, its body decompressed.
pub struct Stored {
    pub offset: u64,
    /// Milliseconds, by the producer's clock.
    pub born: i64,
    pub body: Bytes,
    pub properties: Bytes,
}

/// Undoes [`write_properties`]; a message of a foreign producer has its KEYS as key, its born time as time, and its other
/// properties as headers. What contradicts itself becomes a defect.
pub fn read(stored: Stored) -> Message {
    let position = Position::Offset(stored.offset);
    match read_parts(&stored) {
        Ok((key, value, headers, time)) => Message { key, value, headers, time, position, defect: None },
        Err(detail) => defect(stored.offset, stored.body, detail),
    }
}

/// A record that is no message.
pub fn defect(offset: u64, raw: Bytes, detail: String) -> Message {
    Message {
        key: None,
        value: Some(raw),
        headers: Headers::default(),
        time: None,
        position: Position::Offset(offset),
        defect: Some(Box::new(Defect { cause: Cause::Untranslatable, detail })),
    }
}

type Parts = (Option<Bytes>, Option<Bytes>, Headers, Option<i64>);

fn read_parts(stored: &Stored) -> Result<Parts, String> {
    let (mut keys, mut key, mut tag, mut time, mut value, mut list) = (None, None, None, None, None, None);
    let mut headers = Vec::new();
    for (name, content) in pairs(&stored.properties) {
        match std::str::from_utf8(&name) {
            Ok(KEYS) => keys = Some(content),
            Ok(KEY) => key = Some(content),
            Ok(TAG) => tag = Some(content),
            Ok(TIME) => time = Some(content),
            Ok(VALUE) => value = Some(content),
            Ok(ENVELOPE) => list = Some(content),
            Ok(ID) => {}
            _ if reserved::is_bookkeeping(&name) => {}
            _ => headers.push(Header { name, value: Some(content) }),
        }
    }
    let key = match key {
        Some(text) => read_key(&text)?,
        None => keys,
    };
    let value = match value.as_deref() {
        None => Some(stored.body.clone()),
        Some(b"null") => None,
        Some(b"empty") => Some(Bytes::new()),
        Some(other) => return Err(unreadable(VALUE, other, "neither null nor empty")),
    };
    match tag.as_deref() {
        None => {}
        Some(text) if text == ADDED.as_bytes() => headers.retain(|header| header.name != TAGS),
        Some(other) => return Err(unreadable(TAG, other, "not `added`")),
    }
    // Only our own sink writes the time, and no reserved name as a header but the tag: what else there is was added on the
    // way, like the UNIQ_KEY that brokers give a message which is not sent in a batch.
    if time.is_some() {
        headers.retain(|header| header.name == TAGS || !reserved::is_reserved(&header.name));
    }
    let time = match time.as_deref() {
        None => Some(stored.born),
        Some(b"none") => None,
        Some(text) => Some(number(text).ok_or_else(|| unreadable(TIME, text, "no number"))?),
    };
    let headers = match list {
        None => headers,
        Some(json) => unfold(&json, headers)?,
    };
    Ok((key, value, headers.into_iter().collect(), time))
}

/// Properties as they stand; what lacks its separator is none (`MessageDecoder.string2messageProperties`).
pub fn pairs(properties: &Bytes) -> impl Iterator<Item = (Bytes, Bytes)> {
    properties.split(|b| *b == END).filter_map(|pair| {
        let at = pair.iter().position(|b| *b == SEPARATOR)?;
        let (name, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        Some((properties.slice_ref(name), properties.slice_ref(value)))
    })
}

/// Whether a stored property may have this as its name or value: it is found again between the separators.
#[cfg(feature = "proxy")]
pub fn is_property(text: &str) -> bool {
    !text.bytes().any(|byte| byte == SEPARATOR || byte == END)
}

fn read_key(text: &[u8]) -> Result<Option<Bytes>, String> {
    if text == NO_KEY.as_bytes() {
        return Ok(None);
    }
    let encoded = text.strip_prefix(b"b64:").ok_or_else(|| unreadable(KEY, text, "does not start with b64:"))?;
    let key = STANDARD.decode(encoded).map_err(|error| unreadable(KEY, text, &error.to_string()))?;
    Ok(Some(key.into()))
}

/// The headers in the envelope's order, then those that others added.
fn unfold(json: &[u8], mut properties: Vec<Header>) -> Result<Vec<Header>, String> {
    let entries = envelope::read(json).map_err(|error| unreadable(ENVELOPE, json, &error))?;
    let mut headers = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry {
            Entry::Header(name, value) => {
                headers.push(Header { name: name.bytes()?, value: value.map(|v| v.bytes()).transpose()? });
            }
            Entry::Property((name,)) => {
                let name = name.bytes()?;
                if let Some(at) = properties.iter().position(|h| h.name == name) {
                    headers.push(properties.remove(at));
                }
            }
        }
    }
    headers.extend(properties);
    Ok(headers)
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The tag by which brokers choose, of a stored message's properties; the last one counts, as in a map.
pub fn tag_of(properties: &Bytes) -> Option<Bytes> {
    pairs(properties).filter(|(name, _)| name == TAGS).last().map(|(_, tag)| tag)
}

fn unreadable(property: &str, text: &[u8], why: &str) -> String {
    format!("property {property} is not what Trestle writes ({}): {why}", String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests;
