//! What a subscription has acknowledged, as the broker's REST interface tells it.

use crate::batch::EntryId;

/// What a subscription has acknowledged of a partition.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Acknowledged {
    /// Everything up to and with this entry.
    upto: Option<EntryId>,
    /// And the entries behind the first up to and with the second.
    ranges: Vec<(Option<EntryId>, EntryId)>,
}

impl Acknowledged {
    /// As `internalStats` writes it: `7:12` and `[(7:13..7:15],(8:-1..8:2]]`.
    pub fn parse(mark_delete: &str, ranges: &str) -> Option<Self> {
        let ranges = ranges.trim().strip_prefix('[')?.strip_suffix(']')?;
        let range = |text: &str| {
            let (first, last) = text.trim_start_matches(',').trim().strip_prefix('(')?.split_once("..")?;
            Some((entry(first)?, entry(last)??))
        };
        let all = ranges.split_inclusive(']').filter(|text| !text.trim().is_empty());
        let all = all.map(|text| range(text.strip_suffix(']')?)).collect::<Option<Vec<_>>>()?;
        Some(Acknowledged { upto: entry(mark_delete)?, ranges: all })
    }

    pub fn has(&self, id: EntryId) -> bool {
        self.upto.is_some_and(|upto| id <= upto)
            || self.ranges.iter().any(|(before, last)| before.is_none_or(|before| id > before) && id <= *last)
    }

    pub fn add_upto(&mut self, upto: EntryId) {
        if self.upto.is_none_or(|before| before < upto) {
            self.upto = Some(upto);
            self.ranges.retain(|(_, last)| *last > upto);
        }
    }

    pub fn add(&mut self, id: EntryId) {
        if !self.has(id) {
            let before = id.entry.checked_sub(1).map(|entry| EntryId { ledger: id.ledger, entry });
            match self.ranges.last_mut() {
                Some((_, last)) if Some(*last) == before => *last = id,
                _ => self.ranges.push((before.or(last_of(id.ledger)), id)),
            }
        }
    }
}

/// Behind everything of the ledgers before.
fn last_of(ledger: u64) -> Option<EntryId> {
    ledger.checked_sub(1).map(|ledger| EntryId { ledger, entry: u64::MAX })
}

/// `LEDGER:ENTRY`, in which -1 stands before the first; `None` inside when nothing is in front of it.
fn entry(text: &str) -> Option<Option<EntryId>> {
    let (ledger, entry) = text.trim().split_once(':')?;
    let (ledger, entry): (i64, i64) = (ledger.parse().ok()?, entry.parse().ok()?);
    let Ok(ledger) = u64::try_from(ledger) else { return Some(None) };
    Some(match u64::try_from(entry) {
        Ok(entry) => Some(EntryId { ledger, entry }),
        Err(_) => last_of(ledger),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ledger: u64, entry: u64) -> EntryId {
        EntryId { ledger, entry }
    }

    #[test]
    fn what_the_broker_writes_is_understood() {
        let read = |upto, ranges| Acknowledged::parse(upto, ranges).unwrap();
        let marked = read("7:12", "[(7:13..7:15],(8:-1..8:2]]");
        let has: Vec<_> = [(6, 99), (7, 12), (7, 13), (7, 14), (7, 15), (7, 16), (8, 0), (8, 2), (8, 3)]
            .into_iter()
            .filter(|(ledger, entry)| marked.has(id(*ledger, *entry)))
            .collect();
        assert_eq!(has, [(6, 99), (7, 12), (7, 14), (7, 15), (8, 0), (8, 2)]);
        let none = read("7:-1", "[]");
        assert!(!none.has(id(7, 0)) && none.has(id(6, 5)));
        assert!(!read("-1:-1", "[]").has(id(0, 0)));
        for (upto, ranges) in [("7", "[]"), ("7:1", ""), ("7:1", "[7:2..7:3]"), ("7:1", "[(7:2..x:3]]")] {
            assert_eq!(Acknowledged::parse(upto, ranges), None, "{upto} {ranges}");
        }
    }

    #[test]
    fn what_is_added_is_there_and_nothing_else() {
        let mut marked = Acknowledged::default();
        for (ledger, entry) in [(3, 0), (3, 1), (3, 5), (4, 0), (3, 5)] {
            marked.add(id(ledger, entry));
        }
        for (ledger, entry) in [(3, 0), (3, 1), (3, 5), (4, 0)] {
            assert!(marked.has(id(ledger, entry)));
        }
        for (ledger, entry) in [(2, 0), (3, 2), (3, 4), (3, 6), (4, 1)] {
            assert!(!marked.has(id(ledger, entry)));
        }
        assert_eq!(marked.ranges.len(), 3, "neighbours share one");
    }
}
