//! Where Pulsar's clients put a key. Pure.

use std::borrow::Cow;

use base64::Engine;

use crate::envelope::BASE64;

/// Partition of a key among `partitions`, as the Java client's default router picks it: `String.hashCode()` of the key's
/// text, without its sign (`JavaStringHash`, `RoundRobinPartitionMessageRouterImpl`). The text of a key that is not UTF-8
/// is its base64, which is what the message then says.
pub(crate) fn place(key: &[u8], partitions: u32) -> u32 {
    let text: Cow<str> = match std::str::from_utf8(key) {
        Ok(text) => text.into(),
        Err(_) => BASE64.encode(key).into(),
    };
    let hash = text.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    (hash & 0x7fff_ffff) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_java_clients_put_them() {
        // String.hashCode() of Java 17, by jshell.
        for (text, hash) in [
            ("", 0_i32),
            ("a", 97),
            ("order-7", -1207111304),
            ("hello", 99162322),
            ("Aa", 2112),
            ("BB", 2112),
            ("\u{e9}\u{1F980}", 1996715),
            ("polygenelubricants", i32::MIN),
        ] {
            let expected = (hash & i32::MAX) as u32;
            for partitions in [1, 3, 4, 7, 1000] {
                assert_eq!(place(text.as_bytes(), partitions), expected % partitions, "{text}");
            }
        }
        assert_eq!(place(&[0, 0xff], 1 << 20), place(b"AP8=", 1 << 20));
    }

    #[test]
    fn a_topic_without_partitions_has_one_place() {
        assert_eq!(place(b"any", 0), 0);
    }
}
