//! Where RocketMQ's own clients put a key: `SelectMessageQueueByHash`.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Index of the key's queue in the sorted list of `queues`: `|hashCode % n|`, as `SelectMessageQueueByHash` does for a key
/// that Java sees as a string. A key that is not UTF-8 counts as its Base64 text.
pub fn place(key: &[u8], queues: u32) -> u32 {
    let hash = match std::str::from_utf8(key) {
        Ok(text) => java_hash(text),
        Err(_) => java_hash(&STANDARD.encode(key)),
    };
    // The remainder takes the sign of the hash and its size never reaches |i32::MIN|, in Java as here.
    (i64::from(hash) % i64::from(queues.max(1))).unsigned_abs() as u32
}

/// `java.lang.String.hashCode`: over UTF-16 units.
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        // Printed by `String.hashCode` of Java 17.
        let known = [
            ("", 0),
            ("a", 97),
            ("order-17", 1_234_255_109),
            ("polygenelubricants", i32::MIN),
            ("Gr\u{fc}\u{df}e \u{4e16}\u{754c} \u{1f600}", 467_833_572),
        ];
        for (text, hash) in known {
            assert_eq!(java_hash(text), hash, "{text:?}");
        }
    }

    #[test]
    fn keys_go_where_the_java_selector_puts_them() {
        assert_eq!(place(b"", 4), 0);
        // hashCode is i32::MIN: Java's Math.abs would leave it negative, the remainder does not.
        assert_eq!(place("polygenelubricants".as_bytes(), 7), 2_147_483_648_u32 % 7);
        assert_eq!(place(b"order-17", 4), 1);
        assert_eq!(place(&[0xFF, 0x00], 5), place(b"/wA=", 5));
        assert_eq!(place(b"x", 0), 0);
    }
}
