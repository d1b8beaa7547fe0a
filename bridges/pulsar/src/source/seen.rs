//! Entries the broker has delivered since the last acknowledgement, to notice when a redelivery leaves some of them out.
//!
//! A redelivery sets the broker's cursor back while a read may still be under way, and a read that ends late can set it
//! forward again. Entries between would be missed without a word, and acknowledged with the next one.

use std::collections::BTreeMap;

use crate::batch::EntryId;

/// Stretches kept at most; of older ones no loss would be noticed.
const STRETCHES: usize = 1024;

#[derive(Default)]
pub(super) struct Seen {
    /// First entry and how many without a gap. No two touch.
    stretches: BTreeMap<EntryId, u64>,
    /// What is read is at this entry or behind it; not known at the beginning.
    next: Option<EntryId>,
}

impl Seen {
    /// An entry arrives and is read. An error names the first one that was delivered before and is left out now.
    pub fn arrives(&mut self, id: EntryId) -> Result<(), EntryId> {
        if let Some(skipped) = self.next.and_then(|next| self.first_between(next, id)) {
            return Err(skipped);
        }
        self.next = Some(behind(id, 1));
        self.delivered(id);
        Ok(())
    }

    /// An entry was delivered, read or not.
    pub fn delivered(&mut self, id: EntryId) {
        let before = self.stretches.range(..=id).next_back().map(|(first, many)| (*first, *many));
        let (first, mut many) = match before {
            Some((first, many)) if id < behind(first, many) => return,
            Some((first, many)) if id == behind(first, many) => (first, many + 1),
            _ => (id, 1),
        };
        if let Some(after) = self.stretches.remove(&behind(first, many)) {
            many += after;
        }
        self.stretches.insert(first, many);
        if self.stretches.len() > STRETCHES {
            self.stretches.pop_first();
        }
    }

    /// Reading goes back and on from this entry.
    pub fn rewind(&mut self, next: Option<EntryId>) {
        self.next = next;
    }

    /// Nothing in front of this entry is expected any more.
    pub fn forget_before(&mut self, id: EntryId) {
        let rest = self.stretches.split_off(&id);
        if let Some((first, many)) = self.stretches.pop_last() {
            let end = behind(first, many);
            if end > id {
                self.stretches.clear();
                self.stretches.insert(id, end.entry - id.entry);
            } else {
                self.stretches.clear();
            }
        }
        self.stretches.extend(rest);
    }

    fn first_between(&self, from: EntryId, to: EntryId) -> Option<EntryId> {
        if from >= to {
            return None;
        }
        let inside = self.stretches.range(..from).next_back().is_some_and(|(first, many)| from < behind(*first, *many));
        if inside {
            return Some(from);
        }
        self.stretches.range(from..to).next().map(|(first, _)| *first)
    }
}

/// The entry `many` behind this one, in the same ledger.
fn behind(id: EntryId, many: u64) -> EntryId {
    EntryId { entry: id.entry.saturating_add(many), ..id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ledger: u64, entry: u64) -> EntryId {
        EntryId { ledger, entry }
    }

    fn seen() -> Seen {
        let mut seen = Seen::default();
        for entry in [id(1, 3), id(1, 4), id(1, 5), id(1, 8), id(2, 0), id(2, 1)] {
            seen.arrives(entry).unwrap();
        }
        seen
    }

    #[test]
    fn holes_that_were_always_there_are_none() {
        let mut seen = seen();
        seen.rewind(Some(id(1, 4)));
        for entry in [id(1, 4), id(1, 5), id(1, 8), id(2, 0), id(2, 1), id(2, 5), id(4, 0)] {
            assert_eq!(seen.arrives(entry), Ok(()));
        }
    }

    #[test]
    fn an_entry_that_came_before_and_is_left_out_now_is_noticed() {
        for (from, arrives, skipped) in [
            (id(1, 3), id(1, 4), id(1, 3)),
            (id(1, 4), id(1, 8), id(1, 4)),
            (id(1, 6), id(2, 0), id(1, 8)),
            (id(1, 9), id(7, 0), id(2, 0)),
        ] {
            let mut seen = seen();
            seen.rewind(Some(from));
            assert_eq!(seen.arrives(arrives), Err(skipped));
        }
    }

    #[test]
    fn an_entry_that_comes_again_without_being_asked_for_moves_reading_back() {
        let mut seen = seen();
        assert_eq!(seen.arrives(id(1, 4)), Ok(()));
        assert_eq!(seen.arrives(id(1, 8)), Err(id(1, 5)));
    }

    #[test]
    fn what_was_on_its_way_when_reading_went_back_is_expected_again() {
        let mut seen = seen();
        seen.rewind(Some(id(1, 3)));
        seen.delivered(id(2, 3));
        seen.delivered(id(2, 4));
        seen.delivered(id(2, 2));
        for entry in [id(1, 3), id(1, 4), id(1, 5), id(1, 8), id(2, 0), id(2, 1)] {
            assert_eq!(seen.arrives(entry), Ok(()));
        }
        assert_eq!(seen.arrives(id(2, 5)), Err(id(2, 2)));
        assert_eq!(seen.stretches.values().collect::<Vec<_>>(), [&3, &1, &5]);
    }

    #[test]
    fn what_is_acknowledged_is_forgotten() {
        let mut seen = seen();
        seen.forget_before(id(1, 5));
        seen.rewind(Some(id(1, 0)));
        assert_eq!(seen.arrives(id(1, 8)), Err(id(1, 5)));
        seen.forget_before(id(2, 1));
        assert_eq!(seen.arrives(id(2, 1)), Ok(()));
        assert_eq!(seen.stretches.len(), 1);
    }
}
