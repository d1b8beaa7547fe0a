//! What a scalar without quotes stands for.

use serde_json::Value;

/// A plain scalar by YAML's core schema, <https://yaml.org/spec/1.2.2/#103-core-schema>.
pub fn core_type(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let integer = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).map(Value::from).ok(),
        (_, Some(octal)) => u64::from_str_radix(octal, 8).map(Value::from).ok(),
        _ => text.parse::<u64>().map(Value::from).or_else(|_| text.parse::<i64>().map(Value::from)).ok(),
    };
    let number = || {
        let digits = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-'));
        digits.then(|| text.parse::<f64>().ok()).flatten().and_then(serde_json::Number::from_f64).map(Value::Number)
    };
    integer.or_else(number).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// The type's name in JSON Schema.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_quotes_is_typed_by_the_core_schema() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("true", json!(true)),
            ("no", json!("no")),
            ("12", json!(12)),
            ("-3", json!(-3)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("1.5e3", json!(1500.0)),
            ("100ms", json!("100ms")),
            ("inf", json!("inf")),
            ("127.0.0.1:9092", json!("127.0.0.1:9092")),
        ] {
            assert_eq!(core_type(text), value, "{text}");
        }
    }
}
