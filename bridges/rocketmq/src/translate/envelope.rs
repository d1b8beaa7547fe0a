//! Headers that properties cannot carry, in one property as JSON: text that people can read, and that escapes every control
//! character.
//!
//! An array with one array a header, in order: `["name"]` stands for the property of that name, `["name","value"]` and
//! `["name",null]` carry the header itself. Bytes that are no UTF-8, and text with control characters that JSON
//! does not escape, are `{"b":"BASE64"}`.

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
            Ok(text) if !text.contains(|c| ('\u{7F}'..='\u{9F}').contains(&c)) => Text::Plain(text.to_owned()),
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
