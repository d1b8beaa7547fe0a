//! RocketMQ's properties as Trestle documents them, undone: the oracle's own reading of them.

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{load::Content, stored::Stored};

/// Written by the broker, by the gRPC proxy and by clients about one storage of a message. The last is its place.
const BROKERS_OWN: [&str; 11] = [
    "CLUSTER",
    "UNIQ_KEY",
    "WAIT",
    "MSG_REGION",
    "TRACE_ON",
    "INNER_NUM",
    "PGROUP",
    "RECONSUME_TIME",
    "__BORNHOST",
    "BORN_TIMESTAMP",
    "__SHARDINGKEY",
];

/// The message that was sent, from what RocketMQ holds.
pub fn content(stored: &Stored) -> Result<Content> {
    let mut properties = properties(&stored.properties)?;
    let mut take = |name: &str| {
        let at = properties.iter().position(|(n, _)| n == name)?;
        Some(properties.remove(at).1)
    };
    let key = match take("trestle-key") {
        Some(text) => Some(STANDARD.decode(text.strip_prefix("b64:").context("trestle-key without b64:")?)?),
        None => take("KEYS").map(String::into_bytes),
    };
    let value = match take("trestle-value").as_deref() {
        Some("null") => None,
        Some("empty") => Some(Vec::new()),
        Some(other) => bail!("trestle-value is {other}"),
        None => Some(stored.body.clone()),
    };
    let time = match take("trestle-time").as_deref() {
        Some("none") => None,
        Some(text) => Some(text.parse()?),
        None => Some(stored.born),
    };
    let envelope = take("trestle-envelope");
    properties.retain(|(name, _)| !BROKERS_OWN.contains(&name.as_str()) && !name.starts_with("__CRC32#"));
    let headers = match envelope {
        Some(json) => unfold(&json, properties)?,
        None => properties.into_iter().map(|(name, value)| (name.into_bytes(), Some(value.into_bytes()))).collect(),
    };
    Ok(Content { key, value, headers, time })
}

/// Name and value.
type Header = (Vec<u8>, Option<Vec<u8>>);

/// An array with one array a header: `["name"]` is the property of that name, `["name", value]` the header itself.
fn unfold(json: &str, mut properties: Vec<(String, String)>) -> Result<Vec<Header>> {
    let entries: Vec<Vec<Value>> = serde_json::from_str(json)?;
    let mut headers = Vec::new();
    for entry in &entries {
        match entry.as_slice() {
            [name] => {
                let name = bytes(name)?;
                let at = properties.iter().position(|(n, _)| n.as_bytes() == name);
                let (name, value) = properties.remove(at.context("the envelope names a property that is not there")?);
                headers.push((name.into_bytes(), Some(value.into_bytes())));
            }
            [name, Value::Null] => headers.push((bytes(name)?, None)),
            [name, value] => headers.push((bytes(name)?, Some(bytes(value)?))),
            _ => bail!("an entry of the envelope is {entry:?}"),
        }
    }
    headers.extend(properties.into_iter().map(|(name, value)| (name.into_bytes(), Some(value.into_bytes()))));
    Ok(headers)
}

/// A string, or `{"b": BASE64}`.
fn bytes(value: &Value) -> Result<Vec<u8>> {
    match (value.as_str(), value["b"].as_str()) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(encoded)) => Ok(STANDARD.decode(encoded)?),
        _ => bail!("neither text nor bytes: {value}"),
    }
}

/// `name 0x01 value 0x02` each.
fn properties(raw: &[u8]) -> Result<Vec<(String, String)>> {
    let pairs = std::str::from_utf8(raw)?.split('\u{2}').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('\u{1}').map(|(n, v)| (n.into(), v.into())).context("no property")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(properties: &str) -> Stored {
        Stored { offset: 0, born: 7, body: b"body".to_vec(), properties: properties.as_bytes().to_vec() }
    }

    #[test]
    fn plain_properties_are_headers_and_the_brokers_own_are_not() {
        let found = content(&stored("KEYS\u{1}k\u{2}a\u{1}1\u{2}trestle-time\u{1}5\u{2}CLUSTER\u{1}c\u{2}")).unwrap();
        let headers = vec![(b"a".to_vec(), Some(b"1".to_vec()))];
        assert_eq!(found, Content { key: Some(b"k".to_vec()), value: Some(b"body".to_vec()), headers, time: Some(5) });
    }

    #[test]
    fn keys_values_times_and_headers_that_rocketmq_cannot_say_are_undone() {
        let envelope = r#"[["r","1"],["a"],["r",{"b":"/w=="}],["n",null]]"#;
        let text = format!(
            "trestle-key\u{1}b64:/w==\u{2}trestle-value\u{1}null\u{2}trestle-time\u{1}none\u{2}a\u{1}1\u{2}trestle-envelope\u{1}{envelope}\u{2}"
        );
        let found = content(&stored(&text)).unwrap();
        assert_eq!((found.key, found.value, found.time), (Some(vec![255]), None, None));
        let names: Vec<_> = found.headers.iter().map(|(n, v)| (n[0], v.clone())).collect();
        let expected =
            [(b'r', Some(b"1".to_vec())), (b'a', Some(b"1".to_vec())), (b'r', Some(vec![255])), (b'n', None)];
        assert_eq!(names, expected);
    }
}
