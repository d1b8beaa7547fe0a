//! Dead letters of any message, as a function of any bytes: for `integration/fuzz`.

use bytes::{Buf, Bytes};
use trestle_core::{Cause, Message, Position};

use crate::{Report, dead_letter, is_dead_letter, restore};

/// Headers are the length of the name and of the value (a byte each, 255 for no value), and these; names that look like ours
/// among them.
pub fn dead_letters(bytes: &[u8]) {
    let mut input = Bytes::copy_from_slice(bytes);
    let mut message = Message::at(Position::Offset(0));
    while input.remaining() >= 2 {
        let (name, value) = (input.get_u8(), input.get_u8());
        let mut take = |bytes: u8| input.split_to(usize::from(bytes).min(input.len()));
        let name = take(name);
        message.headers.push(name, (value < 255).then(|| take(value)));
    }
    let _ = (is_dead_letter(&message), restore(&message));
    let now = std::time::SystemTime::UNIX_EPOCH;
    let report = Report {
        route: String::from_utf8_lossy(bytes).into_owned(),
        hop: "deliver".into(),
        origin: "kafka".into(),
        target: "pulsar".into(),
        source: String::new(),
        cause: Cause::TooLarge,
        error: String::from_utf8_lossy(bytes).into_owned(),
        attempts: 1,
        first_failed: now,
        last_failed: now,
        replays: 0,
    };
    let letter = dead_letter(&message, &report);
    assert!(is_dead_letter(&letter));
    // Also headers that already looked like ours: a dead letter that a route carried is whole when it becomes one again.
    assert_eq!(restore(&letter), message);
}
