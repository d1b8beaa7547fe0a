//! Headers that properties cannot carry, in one property as JSON: text that people can read, and that escapes every control
//! character.
//!
//! An array with one array a header, in order: `["name"]` stands for the property of that name, `["name","value"]` and
//! `["name",null]` carry the header itself. Bytes that are no UTF-8 are `{"b":"BASE64"}`, and so are control characters that
//! JSON does not escape, and text that is mostly those that it does, whose escapes would fill the properties.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trestle_core::Header;

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(untagged)]
pub enum Entry {
    Property((Text,)),
    Header(Text, Option<Text>),
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(untagged)]
pub enum Text {
    Plain(String),
    Raw { b: String },
}

impl Text {
    fn new(bytes: &[u8]) -> Self {
        // JSON escapes control characters only up to 0x1F.
        match std::str::from_utf8(bytes) {
            Ok(text) if !has_unescaped(text) && escaped_bytes(text) <= 2 * bytes.len().div_ceil(3) * 4 + 8 => {
                Text::Plain(text.to_owned())
            }
            _ => Text::Raw { b: STANDARD.encode(bytes) },
        }
    }

    pub fn bytes(self) -> Result<Bytes, String> {
        match self {
            Text::Plain(text) => Ok(text.into()),
            Text::Raw { b } => STANDARD.decode(&b).map(Bytes::from).map_err(|error| format!("{b}: {error}")),
        }
    }
}

/// Whether there are control characters that JSON carries as they are, and some of RocketMQ's own parsers do not.
fn has_unescaped(text: &str) -> bool {
    text.contains(|c| ('\u{7F}'..='\u{9F}').contains(&c))
}

/// Bytes of a text in JSON, at most: `\u0001` of a control character, two of what else is escaped.
fn escaped_bytes(text: &str) -> usize {
    let bytes = |byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}

/// `headers` with, for each, whether a property carries it.
pub fn write<'a>(headers: impl Iterator<Item = (&'a Header, bool)>) -> Result<String, String> {
    let entries = headers.map(|(header, native)| {
        let name = Text::new(&header.name);
        if native { Entry::Property((name,)) } else { Entry::Header(name, header.value.as_deref().map(Text::new)) }
    });
    serde_json::to_string(&entries.collect::<Vec<_>>()).map_err(|error| error.to_string())
}

pub fn read(json: &[u8]) -> Result<Vec<Entry>, String> {
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_readable_and_control_characters_do_not_fill_the_properties() {
        for readable in ["", "a", "\u{1}", "x\u{1}y\u{2}z", "line\nline\nline", "\"quoted\""] {
            assert_eq!(Text::new(readable.as_bytes()), Text::Plain(readable.to_owned()));
        }
        let header = Header { name: Bytes::from_static(b"n"), value: Some(Bytes::from(vec![1; 20_000])) };
        let json = write([(&header, false)].into_iter()).unwrap();
        assert!(json.len() < 27_000, "{} bytes", json.len());
        let Some(Entry::Header(_, Some(value))) = read(json.as_bytes()).unwrap().pop() else { panic!("no header") };
        assert_eq!(value.bytes().ok(), header.value);
    }
}
