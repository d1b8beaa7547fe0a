//! What `options:` of a Pulsar topic that is written may say.

use std::collections::BTreeMap;

use pulsar::message::proto::CompressionType;

use crate::schema;

const COMPRESSION: &str = "compressionType";

/// - `compressionType`, by the Java client's name: `NONE` (the default), `LZ4` or `ZSTD`.
/// - `trestle.schema`: `restore` (the default) registers the schema that a message brings with the topic, and writes the message
///   as one of that schema; `leave` leaves it a header. Staging and dead letters always leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub compression: CompressionType,
    pub restore_schemas: bool,
}

impl Options {
    /// Every name.
    pub const NAMES: &[&str] = &[COMPRESSION, schema::OPTION];

    pub fn parse(options: &BTreeMap<String, String>) -> Result<Options, String> {
        let mut parsed = Options { compression: CompressionType::None, restore_schemas: true };
        for (name, value) in options {
            match name.as_str() {
                COMPRESSION => parsed.compression = compression(value)?,
                schema::OPTION => parsed.restore_schemas = schema::option(Some(value), "restore")?,
                _ => return Err(format!("`{name}` is not known; there are {}", Options::NAMES.join(", "))),
            }
        }
        Ok(parsed)
    }
}

fn compression(value: &str) -> Result<CompressionType, String> {
    match value.to_ascii_uppercase().as_str() {
        "NONE" => Ok(CompressionType::None),
        "LZ4" => Ok(CompressionType::Lz4),
        "ZSTD" => Ok(CompressionType::Zstd),
        _ => Err(format!("`{COMPRESSION}: {value}`: NONE, LZ4 or ZSTD is meant")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Options, String> {
        Options::parse(&options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn options_have_the_java_clients_names_and_unknown_ones_are_refused() {
        assert_eq!(parse(&[]), Ok(Options { compression: CompressionType::None, restore_schemas: true }));
        assert_eq!(parse(&[("compressionType", "lz4")]).unwrap().compression, CompressionType::Lz4);
        assert!(!parse(&[("trestle.schema", "leave")]).unwrap().restore_schemas);
        assert!(parse(&[("compressionType", "SNAPPY")]).unwrap_err().contains("LZ4"));
        assert!(parse(&[("compression", "LZ4")]).unwrap_err().contains("compressionType"));
        assert!(parse(&[("trestle.schema", "keep")]).unwrap_err().contains("restore"));
    }
}
