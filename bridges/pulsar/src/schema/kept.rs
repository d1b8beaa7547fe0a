//! A schema as its header says it. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use bytes::Bytes;
use pulsar::message::proto::{KeyValue, Schema, schema::Type};
use serde::{Deserialize, Serialize};

use crate::envelope::BASE64;

/// Bytes of a header at most. Every message has it, and no target takes headers without end; of a larger schema it says no more
/// than that there is one.
const LARGEST: usize = 16 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// As the protocol names it, or its number where that has no name here.
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<String>,
    /// One that is not UTF-8, as of a key-value schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition_base64: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
    /// Bytes of a definition that is too large to travel.
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
}

/// The header's value. The schema's name is left out: it is the topic's, and the broker gives it another one there.
pub(super) fn encode(schema: &Schema) -> Bytes {
    let r#type = Type::try_from(schema.r#type).map_or_else(|_| schema.r#type.to_string(), |it| it.as_str_name().into());
    let text = std::str::from_utf8(&schema.schema_data).ok().map(str::to_owned);
    let kept = Kept {
        r#type: r#type.clone(),
        definition_base64: text.is_none().then(|| BASE64.encode(&schema.schema_data)),
        definition: text,
        properties: schema.properties.iter().map(|it| (it.key.clone(), it.value.clone())).collect(),
        omitted: None,
    };
    let whole = json(&kept);
    if whole.len() <= LARGEST {
        return whole;
    }
    let omitted = Some(schema.schema_data.len());
    json(&Kept { r#type, definition: None, definition_base64: None, properties: BTreeMap::new(), omitted })
}

/// The schema that a header says; `None` for anything that [`encode`] does not write, byte for byte: it is then somebody else's
/// header and stays one.
pub(super) fn decode(value: &Bytes) -> Option<Schema> {
    let kept: Kept = serde_json::from_slice(value).ok()?;
    let schema_data = match (kept.definition, kept.definition_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(bytes)) => BASE64.decode(bytes).ok()?,
        _ => return None,
    };
    let r#type = match Type::from_str_name(&kept.r#type) {
        Some(r#type) => r#type as i32,
        None => kept.r#type.parse().ok()?,
    };
    let properties = kept.properties.into_iter().map(|(key, value)| KeyValue { key, value }).collect();
    let schema = Schema { name: String::new(), schema_data, r#type, properties };
    (encode(&schema) == *value).then_some(schema)
}

fn json(kept: &Kept) -> Bytes {
    // Strings and numbers alone: nothing in it can fail.
    serde_json::to_vec(kept).map(Bytes::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(definition: impl Into<Vec<u8>>) -> Schema {
        let property = |key: &str| KeyValue { key: key.into(), value: "true".into() };
        Schema {
            name: String::new(),
            schema_data: definition.into(),
            r#type: Type::Avro as i32,
            properties: vec![property("a"), property("b")],
        }
    }

    #[test]
    fn a_schema_comes_back_as_it_was_whatever_bytes_define_it() {
        for definition in [&br#"{"type":"string"}"#[..], b"", &[0, 0, 0, 3, 0xff, 1, 2]] {
            let header = encode(&schema(definition));
            assert_eq!(decode(&header), Some(schema(definition)));
        }
        let foreign = Schema { r#type: 77, ..schema("x") };
        assert_eq!(decode(&encode(&foreign)), Some(foreign));
    }

    #[test]
    fn the_same_schema_is_the_same_header() {
        let mut other = schema("x");
        other.properties.reverse();
        other.name = "of another topic".into();
        assert_eq!(encode(&other), encode(&schema("x")));
        let header = encode(&schema("x"));
        assert_eq!(header, r#"{"type":"Avro","definition":"x","properties":{"a":"true","b":"true"}}"#);
    }

    #[test]
    fn what_was_not_written_here_is_nobodys_schema() {
        let ours = r#"{"type":"Avro","definition":"x"}"#;
        assert!(decode(&Bytes::from(ours)).is_some());
        for foreign in [
            "",
            "Avro",
            "[]",
            r#"{"type":"Avro"}"#,
            r#"{"definition":"x","type":"Avro"}"#,
            r#"{"type":"Avro", "definition":"x"}"#,
            r#"{"type":"Avro","definition":"x","more":1}"#,
            r#"{"type":"Cap'n","definition":"x"}"#,
            r#"{"type":"4","definition":"x"}"#,
            r#"{"type":"Avro","definition_base64":"eA=="}"#,
            r#"{"type":"Avro","definition":"x","omitted":1}"#,
        ] {
            assert_eq!(decode(&Bytes::from(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn of_a_schema_that_is_too_large_its_size_is_told_and_nothing_is_restored() {
        let header = encode(&schema(vec![b'x'; LARGEST]));
        assert_eq!(header, format!(r#"{{"type":"Avro","omitted":{LARGEST}}}"#));
        assert_eq!(decode(&header), None);
    }
}
