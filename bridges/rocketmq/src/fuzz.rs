//! What reads bytes of others, as functions of any bytes: for `integration/fuzz`. None may panic, and each checks what must
//! hold whatever comes.

use bytes::{Bytes, BytesMut};

use crate::{
    remoting::frame,
    route::Route,
    translate::{self, Extras, Stored},
    wire::{self, Record},
};

const LARGEST: usize = 1 << 20;

/// A frame that a broker or a name server sends, behind its length.
pub fn frame(bytes: &[u8]) {
    let _ = frame::decode(Bytes::copy_from_slice(bytes));
}

/// What a pull is answered with.
pub fn records(bytes: &[u8]) {
    for record in wire::records(Bytes::copy_from_slice(bytes), LARGEST) {
        if let Record::Message(stored) = record {
            assert!(stored.body.len() <= LARGEST.max(bytes.len()), "a body of {} bytes", stored.body.len());
            translate::read(stored);
        }
    }
}

/// The properties of a stored message: what is read once is read the same way after it was written again.
pub fn properties(bytes: &[u8]) {
    let stored = |properties: &[u8], body: &[u8]| Stored {
        offset: 1,
        born: 2,
        body: Bytes::copy_from_slice(body),
        properties: Bytes::copy_from_slice(properties),
    };
    let message = translate::read(stored(bytes, b"body"));
    if message.defect.is_some() {
        return;
    }
    let mut again = BytesMut::new();
    if translate::write_properties(&message, Extras::default(), &mut again).is_ok() {
        let read = translate::read(stored(&again, translate::body(&message)));
        assert_eq!(
            (read.key, read.value, read.headers, read.time),
            (message.key, message.value, message.headers, message.time)
        );
    }
}

/// A topic's route, as name servers say it.
pub fn route(bytes: &[u8]) {
    if let Ok(route) = Route::parse(bytes) {
        let _ = (route.writable(), route.readable());
    }
}
