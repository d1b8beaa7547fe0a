//! Which of the missing messages are there after all, with something changed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::record::{Content, Record};

pub struct Pairs {
    /// As it was, and as it is now.
    pub changed: Vec<(Record, Record)>,
    /// Missing messages that are among the dead letters in parts.
    pub in_parts: u64,
    pub missing: Vec<Record>,
    pub others: Vec<Record>,
}

/// Parts of a message, by their hashes.
type Equal = [u64; 3];

/// What of two messages has to be equal to take one for the other, the surest first.
const EQUAL: [fn(&Content) -> Option<Equal>; 6] = [
    |c| known(c).then(|| [c.key, c.headers, time(c)]),
    |c| Some([c.value, c.key, time(c)]),
    |c| Some([c.value, c.headers, time(c)]),
    |c| Some([c.value, c.key, c.headers]),
    |c| known(c).then(|| [c.key, time(c), 0]),
    |c| Some([c.value, 0, 0]),
];

/// Without its value, a message with neither key nor time could be any.
fn known(content: &Content) -> bool {
    content.time.is_some() || content.has_key()
}

fn time(content: &Content) -> u64 {
    content.time.map_or(u64::MAX, |time| time as u64)
}

/// Takes each message for one other at most.
pub fn pair(mut missing: Vec<Record>, mut others: Vec<Record>, letters: &[Record]) -> Pairs {
    // The parts of a large dead letter have the message's key, headers and time, and some of its value each.
    let mut parts: BTreeSet<Equal> = letters.iter().filter_map(|letter| EQUAL[0](&letter.content)).collect();
    let all = missing.len();
    missing.retain(|record| EQUAL[0](&record.content).is_none_or(|equal| !parts.remove(&equal)));
    let in_parts = (all - missing.len()) as u64;

    let mut changed = Vec::new();
    for equal in EQUAL {
        let mut there: BTreeMap<Equal, VecDeque<usize>> = BTreeMap::new();
        for (index, other) in others.iter().enumerate() {
            if let Some(key) = equal(&other.content) {
                there.entry(key).or_default().push_back(index);
            }
        }
        let mut taken = vec![false; others.len()];
        missing.retain(|record| {
            let like = equal(&record.content).and_then(|key| there.get_mut(&key)?.pop_front());
            if let Some(index) = like {
                taken[index] = true;
                changed.push((*record, others[index]));
            }
            like.is_none()
        });
        let mut index = 0..;
        others.retain(|_| index.next().is_some_and(|index| !taken[index]));
    }
    Pairs { changed, in_parts, missing, others }
}
