use bytes::Bytes;

use crate::{Cause, Position};

/// One message as all protocols can say it. What cannot be said natively travels in an envelope that the sink's
/// connector writes and the source's connector undoes, so that equality holds from end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Exact key bytes; `None` is "no key", which differs from an empty one.
    pub key: Option<Bytes>,
    /// `None` is a tombstone, which differs from an empty value.
    pub value: Option<Bytes>,
    pub headers: Headers,
    /// Milliseconds since 1970-01-01T00:00Z as the producer said it; `None` when the producer gave no time.
    pub time: Option<i64>,
    pub position: Position,
    /// Set by a source that could not read the record as a message: `value` then holds its raw bytes, and the pipeline
    /// dead-letters it at once.
    pub defect: Option<Box<Defect>>,
}

/// Why a record could not be read as a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    pub cause: Cause,
    pub detail: String,
}

/// Bytes charged for a message beyond what its key, value and headers hold.
const MESSAGE_OVERHEAD: usize = 160;
/// Bytes charged for a header beyond its name and value.
const HEADER_OVERHEAD: usize = 64;

impl Message {
    /// With nothing in it: neither key, value, headers nor time.
    pub fn at(position: Position) -> Self {
        Message { key: None, value: None, headers: Headers::default(), time: None, position, defect: None }
    }

    /// Bytes of memory this message is charged with: payloads plus a fixed overhead.
    pub fn size(&self) -> usize {
        let optional = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|h| h.name.len() + optional(&h.value) + HEADER_OVERHEAD).sum();
        optional(&self.key) + optional(&self.value) + headers + MESSAGE_OVERHEAD
    }
}

/// A header. The name is bytes because a record may carry one that is not UTF-8; the value may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Bytes,
    pub value: Option<Bytes>,
}

/// Headers in the producer's order; names may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    pub fn with_capacity(headers: usize) -> Self {
        Headers(Vec::with_capacity(headers))
    }

    pub fn push(&mut self, name: impl Into<Bytes>, value: Option<Bytes>) {
        self.0.push(Header { name: name.into(), value });
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the last header called `name`, if there is one and it is not null.
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().rev().find(|h| h.name == name.as_bytes())?.value.as_ref()
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        Headers(headers.into_iter().collect())
    }
}

impl IntoIterator for Headers {
    type Item = Header;
    type IntoIter = std::vec::IntoIter<Header>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
