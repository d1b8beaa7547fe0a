//! Letters in words and as JSON.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use trestle_dlq::Letter;

/// Bytes of a line of hex.
const LINE: usize = 16;

/// Of milliseconds since 1970-01-01T00:00Z.
pub fn date(millis: i64) -> String {
    match u64::try_from(millis) {
        Ok(millis) if millis < 253_402_300_800_000 => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
        }
        _ => format!("{millis} ms"),
    }
}

/// Bytes as people read them; what is no text is escaped.
pub fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
        }
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// All but its body.
pub fn as_json(topic: &str, letter: &Letter, bytes: Option<usize>) -> Value {
    json!({
        "id": letter.id,
        "topic": topic,
        "partition": letter.partition.0,
        "positions": letter.positions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "route": letter.route,
        "hop": letter.hop,
        "origin": letter.origin,
        "target": letter.target,
        "source": letter.source,
        "cause": letter.cause,
        "error": letter.error,
        "attempts": letter.attempts,
        "first_failed": letter.first_failed,
        "last_failed": letter.last_failed,
        "replays": letter.replays,
        "key": letter.message.key.as_deref().map(readable),
        "bytes": bytes,
    })
}

/// Lines of offset, bytes and what of them is ASCII.
pub fn hex(value: &[u8]) -> String {
    let line = |(number, bytes): (usize, &[u8])| {
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let text: String = bytes.iter().map(shown).collect();
        format!("{:08x}  {:width$}  {text}\n", number * LINE, hex.join(" "), width = LINE * 3 - 1)
    };
    value.chunks(LINE).enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_offsets_bytes_and_text() {
        let lines = hex(b"0123456789abcdef\x00\xff z");
        assert_eq!(
            lines,
            "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n\
             00000010  00 ff 20 7a                                      .. z\n"
        );
    }
}
