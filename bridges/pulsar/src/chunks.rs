//! Chunked messages put together (PIP-37): a large message that its producer cut into entries of their own.
//!
//! Chunks of several messages may lie between each other. A message stands where its last chunk does; until then nothing
//! behind its first chunk may be acknowledged, for which [`Taken::Open`] says where that is. A message that will never be
//! whole comes as one with a defect and what there is of it, never as raw chunks. It is given up when its producer goes on
//! with another message, when later messages are [`EXPIRY`] younger, or when there are too many; all three are told by the
//! topic's content alone and not by a clock, so that reading again gives the same.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use pulsar::message::proto::MessageMetadata;
use trestle_core::{Cause, Message};

use crate::{
    batch::{EntryId, defective},
    frame::Payload,
};

/// Chunked messages of a partition that may be open at once; the Java client's `maxPendingChunkedMessage`.
const OPEN: usize = 10;
/// Open chunked messages of a partition hold this many times the largest message at most.
const HELD_FACTOR: usize = 4;
/// The Java client's `expireTimeOfIncompleteChunkedMessage`, in ms of publish time.
const EXPIRY: u64 = 60_000;

#[derive(Default)]
pub(crate) struct Chunks {
    open: VecDeque<Open>,
    /// The newest whole ones: a producer that reconnects sends chunks again.
    whole: VecDeque<String>,
    /// The entry before the one that arrives.
    previous: Option<EntryId>,
}

struct Open {
    uuid: String,
    producer: String,
    first: EntryId,
    published: u64,
    next: i32,
    held: BytesMut,
    /// Why it cannot become whole.
    broken: Option<String>,
}

/// What an entry came to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub(crate) enum Taken {
    /// Not a chunk, or a message put together of all its chunks; `first` is then where its first one is.
    Entry { payload: Payload, first: Option<EntryId> },
    /// A chunk; its message began at `first` and goes on.
    Open { first: EntryId },
    /// The last chunk of a message that is not whole.
    Broken { first: EntryId, detail: String, raw: Bytes },
    /// A chunk that arrived before.
    Repeated,
}

/// An open message that was given up: it stands behind all of the entry before.
#[derive(Debug)]
pub(crate) struct GivenUp {
    pub first: EntryId,
    pub message: Message,
}

impl Chunks {
    /// Takes the next entry. `largest` is the largest message allowed, in bytes.
    pub fn take(&mut self, id: EntryId, payload: Payload, largest: usize) -> (Vec<GivenUp>, Taken) {
        let Ok(metadata) = &payload.metadata else {
            self.previous = Some(id);
            return (Vec::new(), Taken::Entry { payload, first: None });
        };
        let chunk = metadata.num_chunks_from_msg() > 1 && metadata.uuid.is_some();
        let mut gone = Vec::new();
        if !self.open.is_empty() {
            let stays = |open: &Open| {
                (open.producer != metadata.producer_name || chunk && open.uuid == metadata.uuid())
                    && metadata.publish_time < open.published.saturating_add(EXPIRY)
            };
            self.give_up(&mut gone, stays);
        }
        let taken = match payload.metadata {
            Ok(metadata) if chunk => self.chunk(&mut gone, id, metadata, payload.data, largest),
            metadata => Taken::Entry { payload: Payload { metadata, data: payload.data }, first: None },
        };
        self.previous = Some(id);
        (gone, taken)
    }

    /// No message has begun that is not complete.
    pub fn is_whole(&self) -> bool {
        self.open.is_empty()
    }

    fn chunk(
        &mut self,
        gone: &mut Vec<GivenUp>,
        id: EntryId,
        mut metadata: MessageMetadata,
        data: Bytes,
        largest: usize,
    ) -> Taken {
        let uuid = metadata.uuid().to_owned();
        let chunk = metadata.chunk_id();
        let found = self.open.iter().position(|open| open.uuid == uuid);
        if found.is_none() && chunk != 0 && self.whole.contains(&uuid) {
            return Taken::Repeated;
        }
        let mut open = match found.and_then(|at| self.open.remove(at)) {
            Some(open) if chunk != 0 => open,
            _ => Open {
                producer: metadata.producer_name.clone(),
                first: id,
                published: 0,
                next: 0,
                held: BytesMut::new(),
                broken: None,
                uuid,
            },
        };
        open.published = metadata.publish_time;
        let first = open.first;
        if chunk < open.next {
            self.open.push_back(open);
            return Taken::Repeated;
        }
        if chunk > open.next {
            open.broken.get_or_insert_with(|| format!("chunk {} is missing", open.next));
        }
        open.next = chunk.saturating_add(1);
        self.hold(gone, &mut open, &data, largest);
        if open.next < metadata.num_chunks_from_msg() {
            if self.open.len() >= OPEN {
                self.give_up_oldest(gone);
            }
            self.open.push_back(open);
            return Taken::Open { first };
        }
        let raw = open.held.freeze();
        if let Some(detail) = open.broken {
            return Taken::Broken { first, detail: format!("chunked message {}: {detail}", open.uuid), raw };
        }
        if self.whole.len() >= OPEN {
            self.whole.pop_front();
        }
        self.whole.push_back(open.uuid);
        // From here on it is a message like any other, except for where it begins.
        metadata.num_messages_in_batch = None;
        Taken::Entry { payload: Payload { metadata: Ok(metadata), data: raw }, first: Some(first) }
    }

    fn hold(&mut self, gone: &mut Vec<GivenUp>, open: &mut Open, data: &[u8], largest: usize) {
        let most = largest.saturating_mul(HELD_FACTOR);
        if open.held.len() + data.len() > most {
            open.broken.get_or_insert_with(|| format!("larger than {most} bytes, which is all that is kept of it"));
            return;
        }
        while self.open.iter().map(|o| o.held.len()).sum::<usize>() + open.held.len() + data.len() > most {
            self.give_up_oldest(gone);
        }
        open.held.extend_from_slice(data);
    }

    fn give_up_oldest(&mut self, gone: &mut Vec<GivenUp>) {
        let oldest = self.open.iter().min_by_key(|open| open.first).map(|open| open.first);
        self.give_up(gone, |open| Some(open.first) != oldest);
    }

    fn give_up(&mut self, gone: &mut Vec<GivenUp>, stays: impl Fn(&Open) -> bool) {
        let Some(previous) = self.previous else { return };
        let mut at = 0;
        while let Some(open) = self.open.get(at) {
            if stays(open) {
                at += 1;
                continue;
            }
            let Some(open) = self.open.remove(at) else { return };
            let reason = open.broken.unwrap_or_else(|| format!("only {} of its chunks are there", open.next));
            let detail = format!("chunked message {} of producer {}: {reason}", open.uuid, open.producer);
            // Behind every message of the entry before and in front of this entry's. Several at once count down.
            let position = previous.message(u32::MAX - OPEN as u32 + gone.len() as u32);
            let message = defective(position, Cause::Untranslatable, detail, open.held.freeze());
            gone.push(GivenUp { first: open.first, message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(entry: u64) -> EntryId {
        EntryId { ledger: 1, entry }
    }

    fn chunk(producer: &str, uuid: &str, chunk: i32, of: i32, time: u64) -> Payload {
        let metadata = MessageMetadata {
            producer_name: producer.into(),
            publish_time: time,
            uuid: Some(uuid.into()),
            chunk_id: Some(chunk),
            num_chunks_from_msg: Some(of),
            ..Default::default()
        };
        Payload { metadata: Ok(metadata), data: Bytes::from(format!("<{uuid}{chunk}>")) }
    }

    fn plain(producer: &str, time: u64) -> Payload {
        let metadata = MessageMetadata { producer_name: producer.into(), publish_time: time, ..Default::default() };
        Payload { metadata: Ok(metadata), data: Bytes::from("plain") }
    }

    fn said(taken: &Taken) -> String {
        match taken {
            Taken::Entry { payload, first } => {
                format!("{} {:?}", String::from_utf8_lossy(&payload.data), first.map(|f| f.entry))
            }
            Taken::Open { first } => format!("open {}", first.entry),
            Taken::Broken { first, raw, .. } => format!("broken {} {}", first.entry, String::from_utf8_lossy(raw)),
            Taken::Repeated => "repeated".into(),
        }
    }

    fn run(payloads: Vec<Payload>) -> (Vec<String>, Vec<GivenUp>) {
        let (mut chunks, mut gone) = (Chunks::default(), Vec::new());
        let mut taken = Vec::new();
        for (entry, payload) in payloads.into_iter().enumerate() {
            let (given_up, what) = chunks.take(id(entry as u64), payload, 1000);
            gone.extend(given_up);
            taken.push(said(&what));
        }
        (taken, gone)
    }

    #[test]
    fn messages_whose_chunks_lie_between_each_other_come_whole() {
        let (taken, gone) = run(vec![
            chunk("p", "a", 0, 2, 1),
            chunk("q", "b", 0, 3, 1),
            plain("r", 1),
            chunk("p", "a", 1, 2, 1),
            chunk("q", "b", 1, 3, 1),
            chunk("q", "b", 2, 3, 1),
        ]);
        assert_eq!(taken, ["open 0", "open 1", "plain None", "<a0><a1> Some(0)", "open 1", "<b0><b1><b2> Some(1)"]);
        assert!(gone.is_empty());
    }

    #[test]
    fn chunks_sent_again_after_a_reconnect_make_no_second_message_and_no_defect() {
        let (taken, gone) = run(vec![
            chunk("p", "a", 0, 3, 1),
            chunk("p", "a", 1, 3, 1),
            chunk("p", "a", 1, 3, 1),
            chunk("p", "a", 2, 3, 1),
            chunk("p", "a", 1, 3, 1),
            chunk("p", "b", 0, 2, 1),
            chunk("p", "b", 0, 2, 1),
            chunk("p", "b", 1, 2, 1),
        ]);
        let whole = ["open 0", "open 0", "repeated", "<a0><a1><a2> Some(0)", "repeated", "open 5", "open 6"];
        assert_eq!(taken[..7], whole);
        assert_eq!(taken[7], "<b0><b1> Some(6)");
        assert!(gone.is_empty());
    }

    #[test]
    fn a_message_that_lacks_a_chunk_is_one_defect() {
        let (taken, gone) = run(vec![chunk("p", "a", 0, 3, 1), chunk("p", "a", 2, 3, 1)]);
        assert_eq!(taken, ["open 0", "broken 0 <a0><a2>"]);
        assert!(gone.is_empty());
        let (taken, _) = run(vec![chunk("p", "a", 1, 3, 1), chunk("p", "a", 2, 3, 1)]);
        assert_eq!(taken, ["open 0", "broken 0 <a1><a2>"]);
    }

    #[test]
    fn a_message_whose_producer_goes_on_or_that_grows_old_is_given_up_in_its_place() {
        for next in [plain("p", 2), chunk("p", "b", 0, 2, 2), plain("q", 1 + EXPIRY)] {
            let (_, gone) = run(vec![plain("q", 1), chunk("p", "a", 0, 2, 1), next]);
            assert_eq!(gone.len(), 1);
            assert_eq!(gone[0].first, id(1));
            let position = gone[0].message.position;
            assert!(id(1).message(1000) < position && position < id(2).message(0));
            assert_eq!(gone[0].message.value, Some(Bytes::from("<a0>")));
        }
    }

    #[test]
    fn open_messages_are_bounded_in_number_and_in_bytes() {
        let many = (0..30).map(|n| chunk(&format!("p{n}"), &format!("u{n}"), 0, 2, 1)).collect();
        let (_, gone) = run(many);
        assert_eq!(gone.len(), 30 - OPEN);
        let mut chunks = Chunks::default();
        let mut kept = 0;
        for n in 0..30 {
            let mut payload = chunk("p", "a", n, 31, 1);
            payload.data = Bytes::from(vec![0; 400]);
            chunks.take(id(n as u64), payload, 1000);
            kept = chunks.open[0].held.len();
            assert!(kept <= 4000);
        }
        assert_eq!(kept, 4000);
        let (_, last) = chunks.take(id(30), chunk("p", "a", 30, 31, 1), 1000);
        assert!(matches!(last, Taken::Broken { .. }));
    }
}
