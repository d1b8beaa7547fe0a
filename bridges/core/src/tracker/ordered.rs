//! What of a partition was handed out in order, and what may be committed as a prefix.

use std::{collections::VecDeque, ops::Bound, time::Instant};

use super::{Admitted, Restart};
use crate::{Message, Position, batch::Sequences};

#[derive(Default)]
pub(super) struct Ordered {
    /// Ascending: all that was handed out and is not part of the settled prefix.
    entries: VecDeque<Entry>,
    /// Sequence number of `entries[0]`.
    base: u64,
    /// Sequence number of the entry that reading has reached in this epoch.
    cursor: u64,
    /// The newest position read in this epoch.
    read: Option<Position>,
    /// The last position of the settled prefix.
    prefix: Option<Position>,
    committed: Option<Position>,
    /// Bytes of the entries below `cursor`.
    bytes: usize,
    /// First sequence number and time of each stretch of messages that arrived together.
    arrivals: VecDeque<(u64, Instant)>,
}

struct Entry {
    position: Position,
    bytes: u32,
    settled: bool,
}

impl Entry {
    fn new(position: Position, bytes: usize) -> Self {
        Entry { position, bytes: bytes.min(u32::MAX as usize) as u32, settled: false }
    }
}

impl Ordered {
    pub fn admit(&mut self, messages: Vec<Message>, received: Instant) -> Option<Admitted> {
        let (mut kept, mut sequences, mut bytes) = (Vec::with_capacity(messages.len()), Vec::new(), 0);
        let (mut contiguous, mut repeated) = (true, 0);
        let newest = self.newest();
        for message in messages {
            let size = message.size();
            let Some(sequence) = self.admit_one(message.position, size) else { continue };
            repeated += usize::from(newest.is_some_and(|newest| message.position <= newest));
            contiguous &= sequences.last().is_none_or(|last| last + 1 == sequence);
            sequences.push(sequence);
            bytes += size;
            kept.push(message);
        }
        let first = *sequences.first()?;
        let sequences = if contiguous { Sequences::From(first) } else { Sequences::List(sequences) };
        if repeated < kept.len() {
            self.arrivals.push_back((first + repeated as u64, received));
            self.trim_arrivals();
        }
        Some(Admitted { messages: kept, sequences, bytes, repeated })
    }

    pub fn restart(&mut self) -> Restart {
        self.cursor = self.base;
        self.bytes = 0;
        self.read = self.prefix;
        match (self.entries.iter().find(|e| !e.settled), self.prefix) {
            (Some(entry), _) => Restart::At(entry.position),
            (None, Some(prefix)) => Restart::After(prefix),
            (None, None) => Restart::AtStart,
        }
    }

    pub fn commit_point(&self) -> Option<Position> {
        let prefix = self.prefix?;
        (self.committed != Some(prefix)).then_some(prefix)
    }

    pub fn committed(&mut self, position: Position) {
        self.committed = self.committed.max(Some(position));
    }

    pub fn ahead(&self) -> (usize, usize) {
        ((self.cursor - self.base) as usize, self.bytes)
    }

    /// `free`: what is not settled is in nobody's hands.
    pub fn awaited(&self, free: bool) -> Option<Bound<Position>> {
        let again = self.entries.iter().find(|entry| !entry.settled && free);
        again.map(|entry| Bound::Included(entry.position)).or(self.newest().map(Bound::Excluded))
    }

    pub fn oldest_unsettled(&self) -> Option<Instant> {
        self.arrivals.front().filter(|_| !self.entries.is_empty()).map(|(_, received)| *received)
    }

    pub fn settle(&mut self, sequences: impl Iterator<Item = u64>) {
        for sequence in sequences {
            // Below `base`: it vanished from the broker while it was in flight, and was counted as settled then.
            let Some(at) = sequence.checked_sub(self.base) else { continue };
            if let Some(entry) = self.entries.get_mut(at as usize) {
                entry.settled = true;
            }
        }
        self.advance();
    }

    /// The newest position ever handed out.
    fn newest(&self) -> Option<Position> {
        self.entries.back().map(|e| e.position).or(self.prefix)
    }

    /// The sequence number under which this position is handed out now, or `None` to leave it out.
    fn admit_one(&mut self, position: Position, bytes: usize) -> Option<u64> {
        // The prefix may be ahead of reading: when what a rewind read again is settled, it jumps over what settled before.
        if self.read.max(self.prefix).is_some_and(|known| position <= known) {
            return None;
        }
        self.read = Some(position);
        loop {
            let at = (self.cursor - self.base) as usize;
            match self.entries.get_mut(at) {
                None => {
                    self.entries.push_back(Entry::new(position, bytes));
                    return Some(self.pass());
                }
                Some(entry) if entry.position < position => {
                    // Handed out before and not read again: the broker no longer has it (compaction, retention).
                    entry.settled = true;
                    self.pass();
                    self.advance();
                }
                Some(entry) if entry.position == position => {
                    let settled = entry.settled;
                    let sequence = self.pass();
                    return (!settled).then_some(sequence);
                }
                Some(_) => {
                    // Not handed out before, although newer ones were: it became visible late. Entries from here on were
                    // handed out in earlier epochs only, of which no batch lives, so their numbers may move.
                    self.entries.insert(at, Entry::new(position, bytes));
                    return Some(self.pass());
                }
            }
        }
    }

    /// Moves the cursor over one entry and returns its sequence number.
    fn pass(&mut self) -> u64 {
        let sequence = self.cursor;
        self.bytes += self.entries.get((sequence - self.base) as usize).map_or(0, |e| e.bytes as usize);
        self.cursor += 1;
        sequence
    }

    pub fn vanish_below(&mut self, position: Position) {
        for entry in self.entries.iter_mut().take_while(|e| e.position < position) {
            entry.settled = true;
        }
        self.advance();
    }

    /// Moves the prefix over all that is settled at the front.
    fn advance(&mut self) {
        while let Some(entry) = self.entries.pop_front_if(|e| e.settled) {
            self.prefix = Some(entry.position);
            if self.base < self.cursor {
                self.bytes -= entry.bytes as usize;
            }
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
        self.trim_arrivals();
    }

    fn trim_arrivals(&mut self) {
        // An arrival stands for all entries up to the next one's first.
        while self.arrivals.get(1).is_some_and(|(first, _)| *first <= self.base) {
            self.arrivals.pop_front();
        }
    }
}
