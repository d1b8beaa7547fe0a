//! Work on messages with no I/O, for micro-benchmarks.

use bytes::{Bytes, BytesMut};
use trestle_core::Message;

use crate::{
    translate::{self, Extras, Stored},
    wire,
};

/// What batch sends carry.
pub fn write(messages: &[Message]) -> Bytes {
    let (mut batch, mut properties) = (BytesMut::new(), BytesMut::new());
    for message in messages {
        properties.clear();
        if translate::write_properties(message, Extras::default(), &mut properties).is_ok() {
            wire::put_item(&mut batch, translate::body(message), &properties);
        }
    }
    batch.freeze()
}

/// How many messages come back from their properties.
pub fn read(messages: &[Message]) -> usize {
    let mut read = 0;
    for message in messages {
        let mut properties = BytesMut::new();
        if translate::write_properties(message, Extras::default(), &mut properties).is_ok() {
            let (body, properties) = (message.value.clone().unwrap_or_default(), properties.freeze());
            let stored = Stored { offset: 0, born: 1, body, properties };
            read += usize::from(translate::read(stored).defect.is_none());
        }
    }
    read
}
