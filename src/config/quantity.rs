//! Durations ("100ms") and sizes ("256MiB") as people write them.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The `format` of a duration in the JSON Schema. The standard's own `duration` is ISO 8601.
pub const DURATION: &str = "trestle-duration";
/// The `format` of a size in bytes.
pub const SIZE: &str = "trestle-size";
/// For editors, which know neither format. What is filled in by `${...}` may be anything.
const DURATION_PATTERN: &str = r"^\s*([0-9]+(\.[0-9]+)?\s*(nanos|nsec|ns|usec|us|µs|msec|millis|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|hr|h|days?|d)\s*)+$|^0$|\$\{";
const SIZE_PATTERN: &str = r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]([iI]?[bB])?|[bB])?$|\$\{";

/// A length of time: `100ms`, `5s`, `1m 30s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Time(pub Duration);

impl Time {
    pub const fn millis(millis: u64) -> Self {
        Time(Duration::from_millis(millis))
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Time).map_err(|e| e.to_string())
    }
}

/// A number of bytes: `256MiB`, `5MB`, or a plain number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

impl Size {
    pub const fn mib(mib: u64) -> Self {
        Size(mib << 20)
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse().map(|bytes: bytesize::ByteSize| Size(bytes.as_u64()))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n > 0 && n.is_multiple_of(1 << 20) => write!(f, "{}MiB", n >> 20),
            n if n > 0 && n.is_multiple_of(1 << 10) => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Time::parse(&text).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Size(bytes)),
            Written::Text(text) => Size::parse(&text).map_err(D::Error::custom),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": DURATION, "pattern": DURATION_PATTERN, "examples": ["100ms", "5s", "1m"] })
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "minimum": 0,
            "format": SIZE,
            "pattern": SIZE_PATTERN,
            "examples": ["5MiB", "256MiB"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["100ms", "5s", "1m 30s"] {
            assert_eq!(Time::parse(text).unwrap().to_string(), text);
        }
        for (text, bytes) in [("256MiB", 256 << 20), ("5 MB", 5_000_000), ("1KiB", 1024), ("77", 77)] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)));
        }
        assert_eq!(Size::mib(256).to_string(), "256MiB");
        assert!(Time::parse("5").is_err() && Time::parse("soon").is_err() && Size::parse("much").is_err());
    }
}
