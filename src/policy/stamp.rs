//! Where a message has been, in headers of its own, so that routes that feed each other do not do so for ever.
//!
//! `trestle-origin` is the `cluster/topic/partition/position` where a message was first read by a route that stamps, and
//! `trestle-hops` every `cluster/topic` where one read it, the first one first, with commas between them. A comma or percent
//! sign of a name is written `%2C` or `%25`.

use std::borrow::Cow;

use bytes::Bytes;
use trestle_core::{Cause, Defect, Header, Message, PartitionId};

pub const ORIGIN: &str = "trestle-origin";
pub const HOPS: &str = "trestle-hops";

/// Topics that a message may have come through. One that comes further is dead-lettered: whatever sends it round changes names.
pub const MOST_HOPS: usize = 16;

/// A route's stamp: the names of its ends, as in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// `cluster/topic`.
    pub from: String,
    pub to: String,
}

/// What a stamp says of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It goes on, stamped; or to the dead letters, marked as a defect.
    GoesOn,
    /// It has been at one of the route's ends before.
    Again,
}

impl Stamp {
    pub fn put(&self, partition: PartitionId, message: &mut Message) -> Seen {
        let before = message.headers.get(HOPS).cloned().unwrap_or_default();
        let been = || before.split(|byte| *byte == b',').filter(|place| !place.is_empty());
        let (from, to) = (escaped(&self.from), escaped(&self.to));
        if been().any(|place| place == from.as_bytes() || place == to.as_bytes()) {
            return Seen::Again;
        }
        if been().count() >= MOST_HOPS {
            let detail =
                format!("it has come through {MOST_HOPS} topics already: {}", String::from_utf8_lossy(&before));
            message.defect = Some(Box::new(Defect { cause: Cause::Loop, detail }));
            return Seen::GoesOn;
        }
        let mut hops = before.to_vec();
        if !hops.is_empty() {
            hops.push(b',');
        }
        hops.extend_from_slice(from.as_bytes());
        let origin =
            message.headers.get(ORIGIN).is_none().then(|| format!("{}/{partition}/{}", self.from, message.position));
        let others = std::mem::take(&mut message.headers).into_iter().filter(|header| header.name != HOPS);
        let stamped =
            |name: &'static str, value: Bytes| Header { name: Bytes::from_static(name.as_bytes()), value: Some(value) };
        let added = origin.map(|origin| stamped(ORIGIN, origin.into())).into_iter().chain([stamped(HOPS, hops.into())]);
        message.headers = others.chain(added).collect();
        Seen::GoesOn
    }
}

fn escaped(place: &str) -> Cow<'_, str> {
    if place.contains(['%', ',']) { place.replace('%', "%25").replace(',', "%2C").into() } else { place.into() }
}

#[cfg(test)]
mod tests {
    use trestle_core::Position;

    use super::*;

    fn stamp(from: &str, to: &str) -> Stamp {
        Stamp { from: from.into(), to: to.into() }
    }

    fn text(message: &Message, name: &str) -> String {
        String::from_utf8(message.headers.get(name).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn the_origin_stays_and_every_topic_is_added() {
        let mut message = Message::at(Position::Offset(7));
        message.headers.push("a", None);
        assert_eq!(stamp("k/a,b", "p/x").put(PartitionId(3), &mut message), Seen::GoesOn);
        message.position = Position::Offset(9);
        assert_eq!(stamp("p/x", "r/y%").put(PartitionId(0), &mut message), Seen::GoesOn);
        assert_eq!((text(&message, ORIGIN), text(&message, HOPS)), ("k/a,b/3/7".into(), "k/a%2Cb,p/x".into()));
        assert_eq!(message.headers.len(), 3, "one header each, behind the message's own");
        assert_eq!(message.headers.iter().next().unwrap().name, "a");
    }

    #[test]
    fn a_message_that_has_been_at_either_end_has_come_round() {
        let mut message = Message::at(Position::Offset(7));
        stamp("a/t", "b/t").put(PartitionId(0), &mut message);
        let back = message.clone();
        assert_eq!(
            stamp("b/t", "a/t").put(PartitionId(0), &mut message),
            Seen::Again,
            "it would go back to where it was"
        );
        assert_eq!(message, back, "and is left as it is");
        assert_eq!(stamp("a/t", "c/t").put(PartitionId(0), &mut message), Seen::Again, "it is where it was");
        assert_eq!(
            stamp("b/t", "a/t2").put(PartitionId(0), &mut message),
            Seen::GoesOn,
            "another topic is not the same"
        );
    }

    #[test]
    fn a_message_that_goes_round_under_ever_new_names_is_a_dead_letter() {
        let mut message = Message::at(Position::Offset(7));
        for hop in 0..MOST_HOPS {
            assert_eq!(stamp(&format!("c/{hop}"), "d/t").put(PartitionId(0), &mut message), Seen::GoesOn);
            assert_eq!(message.defect, None);
        }
        stamp("c/last", "d/t").put(PartitionId(0), &mut message);
        assert_eq!(message.defect.map(|defect| defect.cause), Some(Cause::Loop));
    }
}
