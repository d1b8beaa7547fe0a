//! Reads the part of JSON Schema that `schemars` writes. Every function takes a schema whose reference was followed.

use serde_json::Value;

use super::{quantity, shape::ADDRESS};

pub fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let (one, many) = match schema.get("type") {
        Some(Value::String(one)) => (Some(one.as_str()), None),
        Some(Value::Array(many)) => (None, Some(many)),
        _ => (None, None),
    };
    one.into_iter().chain(many.into_iter().flatten().filter_map(Value::as_str))
}

/// Whether the schema takes values of this type; one that names no type takes all.
pub fn allows(schema: &Value, kind: &str) -> bool {
    schema.get("type").is_none() || types(schema).any(|t| t == kind)
}

pub fn bound(schema: &Value, name: &str) -> Option<f64> {
    schema.get(name).and_then(Value::as_f64)
}

/// The names an enumeration takes: `enum`, `const`, or a `oneOf` of such.
pub fn names(schema: &Value) -> Option<Vec<&str>> {
    if let Some(name) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![name]);
    }
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return list.iter().map(Value::as_str).collect();
    }
    let branches = schema.get("oneOf")?.as_array()?;
    Some(branches.iter().map(names).collect::<Option<Vec<_>>>()?.concat())
}

pub fn branches(schema: &Value) -> Option<Vec<&Value>> {
    let branches = ["anyOf", "oneOf", "allOf"].iter().find_map(|word| schema.get(word))?.as_array()?;
    Some(branches.iter().collect())
}

/// The property that has another constant in every branch.
pub fn tag<'a>(branches: &[&'a Value]) -> Option<&'a str> {
    let constant = |branch: &Value, name: &str| {
        branch.get("properties").and_then(|p| p.get(name)).is_some_and(|property| property.get("const").is_some())
    };
    let first = branches.first()?.get("properties")?.as_object()?;
    first.keys().map(String::as_str).find(|name| branches.iter().all(|branch| constant(branch, name)))
}

/// What a value of this schema is, for people.
pub fn kind_of(schema: &Value) -> String {
    match schema.get("format").and_then(Value::as_str) {
        Some(quantity::DURATION) => return "a duration such as 100ms, 5s or 1m".into(),
        Some(quantity::SIZE) => return "a size such as 5MiB or 256MiB".into(),
        Some(ADDRESS) => return "an address and port such as 127.0.0.1:9464".into(),
        _ => {}
    }
    let word = |kind: &str| match kind {
        "object" => {
            let required = schema.get("required").and_then(Value::as_array);
            let keys: Vec<_> = required.into_iter().flatten().filter_map(Value::as_str).collect();
            if keys.is_empty() { "a mapping".into() } else { format!("a mapping with {}", keys.join(", ")) }
        }
        "array" => "a list".into(),
        "string" => "a text".into(),
        "integer" => "a whole number".into(),
        "number" => "a number".into(),
        "boolean" => "true or false".into(),
        other => other.to_owned(),
    };
    let kinds: Vec<_> = types(schema).filter(|kind| *kind != "null").map(word).collect();
    if kinds.is_empty() { "a value".into() } else { kinds.join(" or ") }
}
