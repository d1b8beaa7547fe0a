//! Entries the broker has delivered since the last acknowledgement. Where reading goes back they have to come again; one that
//! does not has expired, or was skipped by an operator, and that must not pass for settled.

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
    /// A new consumer is to begin at `next` or in front of it, and nothing came of it yet.
    returning: bool,
}

impl Seen {
    /// An entry arrives and is read. An error names the first one delivered before that is left out.
    pub fn arrives(&mut self, id: EntryId) -> Result<(), EntryId> {
        if let Some(skipped) = self.next.and_then(|next| self.first_between(next, id)) {
            return Err(skipped);
        }
        self.returning = false;
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

    /// Reading goes on from this entry; `again` where a new consumer has to bring what was delivered before.
    pub fn rewind(&mut self, next: Option<EntryId>, again: bool) {
        self.next = next;
        self.returning = again;
    }

    /// A consumer was opened, and begins at the acknowledged position. Unless reading was going back, what the one before
    /// delivered may be in the pipeline's hands, and is not missed if it does not come again.
    pub fn reopened(&mut self) {
        if !self.returning {
            *self = Seen::default();
        }
    }

    /// Whether this entry or one behind it was delivered: else there is nothing to go back for.
    pub fn reaches(&self, id: Option<EntryId>) -> bool {
        let end = self.stretches.last_key_value().map(|(first, many)| behind(*first, *many));
        end.is_some_and(|end| id.is_none_or(|id| id < end))
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
        seen.rewind(Some(id(1, 4)), true);
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
            seen.rewind(Some(from), true);
            assert_eq!(seen.arrives(arrives), Err(skipped));
        }
    }

    #[test]
    fn a_lost_connection_expects_nothing_again_unless_reading_was_going_back() {
        let mut seen = seen();
        seen.rewind(Some(id(1, 4)), true);
        seen.reopened();
        seen.reopened();
        assert_eq!(seen.arrives(id(1, 5)), Err(id(1, 4)));
        assert_eq!(seen.arrives(id(1, 4)), Ok(()));
        seen.reopened();
        assert_eq!(seen.arrives(id(2, 0)), Ok(()));
    }

    #[test]
    fn there_is_nothing_to_go_back_for_where_nothing_was_delivered() {
        assert!(!Seen::default().reaches(None));
        let seen = seen();
        assert!(seen.reaches(None) && seen.reaches(Some(id(1, 9))) && seen.reaches(Some(id(2, 1))));
        assert!(!seen.reaches(Some(id(2, 2))));
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
        seen.rewind(Some(id(1, 3)), true);
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
        seen.rewind(Some(id(1, 0)), true);
        assert_eq!(seen.arrives(id(1, 8)), Err(id(1, 5)));
        seen.forget_before(id(2, 1));
        assert_eq!(seen.arrives(id(2, 1)), Ok(()));
        assert_eq!(seen.stretches.len(), 1);
    }
}
