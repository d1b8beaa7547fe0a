//! Puts the parts of large dead letters together.

use std::collections::VecDeque;

use bytes::BytesMut;
use trestle_core::{Message, PartitionId, Position};

use crate::{format::said, letter::Letter};

/// Letters that may be open at once; the oldest one is given up.
const OPEN: usize = 16;

/// Parts of one letter follow each other, with those of others between them: instances write side by side.
#[derive(Default)]
pub(crate) struct Joiner {
    open: VecDeque<Open>,
}

struct Open {
    /// With the positions of all parts so far, and of those that its writer gave up to begin anew.
    letter: Letter,
    parts: usize,
    there: usize,
    value: BytesMut,
}

/// What a message of the dead-letter topic came to.
pub(crate) enum Joined {
    Whole(Box<Letter>),
    /// A part; its letter goes on.
    Open,
    /// No dead letter, or a part without those before it.
    Foreign,
}

impl Joiner {
    pub fn take(&mut self, partition: PartitionId, message: &Message) -> Joined {
        let Some(letter) = Letter::read(partition, message) else { return Joined::Foreign };
        let Some(part) = said(message, "part") else { return Joined::Whole(Box::new(letter)) };
        let Some((number, parts)) = numbers(part) else { return Joined::Foreign };
        let at = self.open.iter().position(|open| open.letter.id == letter.id && open.letter.partition == partition);
        // A writer that was interrupted begins anew, perhaps with smaller parts.
        if number == 1 {
            let before = at.and_then(|at| self.open.remove(at)).map(|open| open.letter.positions).unwrap_or_default();
            let positions = before.into_iter().chain([message.position]).collect();
            self.open.push_back(Open {
                letter: Letter { positions, ..letter.clone() },
                parts,
                there: 0,
                value: BytesMut::new(),
            });
        }
        let at = if number == 1 { self.open.len().checked_sub(1) } else { at };
        let Some((at, open)) = at.and_then(|at| Some((at, self.open.get_mut(at)?))) else { return Joined::Foreign };
        if (number, parts) != (open.there + 1, open.parts) {
            return Joined::Foreign;
        }
        if number > 1 {
            open.letter.positions.push(message.position);
        }
        open.there = number;
        open.value.extend_from_slice(&letter.message.value.unwrap_or_default());
        if number < parts {
            if self.open.len() > OPEN {
                self.open.pop_front();
            }
            return Joined::Open;
        }
        let Some(mut open) = self.open.remove(at) else { return Joined::Foreign };
        open.letter.message.value = Some(open.value.freeze());
        open.letter.message.position = message.position;
        Joined::Whole(Box::new(open.letter))
    }

    /// The first message that belongs to a letter that is not whole.
    pub fn oldest(&self, partition: PartitionId) -> Option<Position> {
        let of = self.open.iter().filter(|open| open.letter.partition == partition);
        of.filter_map(|open| open.letter.positions.first().copied()).min()
    }
}

/// `3/7`.
fn numbers(part: &[u8]) -> Option<(usize, usize)> {
    let (number, parts) = std::str::from_utf8(part).ok()?.split_once('/')?;
    let (number, parts) = (number.parse().ok()?, parts.parse().ok()?);
    (1..=parts).contains(&number).then_some((number, parts))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::format::{
        dead_letter, part,
        tests::{message, report},
    };

    const AT: PartitionId = PartitionId(0);

    /// The parts of a letter, from a position on.
    fn parts(source: &str, value: &'static [u8], size: usize, from: u64) -> Vec<Message> {
        let mut report = report();
        report.source = source.into();
        let letter = dead_letter(&message(Some(value)), &report);
        let chunks: Vec<_> = value.chunks(size).map(Bytes::from_static).collect();
        let count = chunks.len();
        let at = |(number, chunk)| Message {
            position: Position::Offset(from + number as u64),
            ..part(&letter, chunk, number, count)
        };
        chunks.into_iter().enumerate().map(at).collect()
    }

    /// Values and positions of the whole letters.
    fn joined(messages: &[Message]) -> (Vec<(Bytes, Vec<Position>)>, Option<Position>) {
        let mut joiner = Joiner::default();
        let mut whole = Vec::new();
        for message in messages {
            if let Joined::Whole(letter) = joiner.take(AT, message) {
                whole.push((letter.message.value.unwrap(), letter.positions));
            }
        }
        (whole, joiner.oldest(AT))
    }

    fn offsets(offsets: &[u64]) -> Vec<Position> {
        offsets.iter().map(|offset| Position::Offset(*offset)).collect()
    }

    #[test]
    fn parts_become_the_letter_with_others_between_them() {
        let (one, two) = (parts("a/b/0/1", b"0123456789", 4, 10), parts("a/b/0/2", b"abcd", 2, 20));
        let mixed = [&one[0], &two[0], &one[1], &two[1], &one[2]].map(Clone::clone);
        let (whole, open) = joined(&mixed);
        assert_eq!(whole[0], (Bytes::from_static(b"abcd"), offsets(&[20, 21])));
        assert_eq!(whole[1], (Bytes::from_static(b"0123456789"), offsets(&[10, 11, 12])));
        assert_eq!((whole.len(), open), (2, None));
    }

    #[test]
    fn a_letter_that_was_begun_anew_is_whole_once_and_names_all_its_parts() {
        let (first, again) = (parts("a/b/0/1", b"0123456789", 4, 10), parts("a/b/0/1", b"0123456789", 3, 20));
        let (whole, open) = joined(&[&first[..2], &again].concat());
        assert_eq!(whole, [(Bytes::from_static(b"0123456789"), offsets(&[10, 11, 20, 21, 22, 23]))]);
        assert_eq!(open, None);
    }

    #[test]
    fn what_is_not_whole_is_no_letter() {
        let all = parts("a/b/0/1", b"0123456789", 4, 10);
        assert_eq!(joined(&all[..2]), (vec![], Some(Position::Offset(10))));
        assert_eq!(joined(&all[1..]), (vec![], None));
        assert_eq!(joined(&[all[0].clone(), all[2].clone()]), (vec![], Some(Position::Offset(10))));
    }
}
