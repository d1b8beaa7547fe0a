use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::{Result, bail};

use super::writer::Ledger;

/// A message as it was found in a target or among dead letters, already compared with what was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub partition: u32,
    /// Orders the messages of a partition.
    pub offset: u64,
    /// None: nothing that this load ever sent.
    pub number: Option<u64>,
    /// Parts that are not as they were sent.
    pub differs: Vec<&'static str>,
}

/// What is wrong, each as the numbers of messages; see `fmt` for the words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Distinct messages in the target, and among the dead letters.
    pub delivered: usize,
    pub dead: BTreeSet<u64>,
    /// LOSS: confirmed by the source's broker, and nowhere to be found.
    pub lost: Vec<u64>,
    /// PHANTOM: never sent; partition and offset.
    pub phantoms: Vec<(u32, u64)>,
    /// CORRUPT: and which parts.
    pub corrupt: Vec<(u64, Vec<&'static str>)>,
    /// DUP: copies beyond the first, as often as they came.
    pub repeated: Vec<u64>,
    /// REORDER: a message, and the earlier one of its source and target partition that came first only after it.
    pub reordered: Vec<(u64, u64)>,
    /// REORDER as well: a message whose key went to another partition before.
    pub scattered: Vec<u64>,
}

/// Judges what was found against what was sent. Order is judged by first deliveries.
pub fn judge(ledger: &Ledger, target: &[Seen], letters: &[Seen]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut sorted: Vec<&Seen> = target.iter().collect();
    sorted.sort_by_key(|seen| (seen.partition, seen.offset));
    let mut first = BTreeSet::new();
    let mut newest: BTreeMap<(i32, u32), (i64, u64)> = BTreeMap::new();
    let mut home: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for seen in sorted {
        let Some(number) = verdict.known(seen) else { continue };
        if !first.insert(number) {
            verdict.repeated.push(number);
            continue;
        }
        // What was never confirmed may be there, but where it stood in the source nobody knows.
        if let Some(confirmed) = ledger.confirmed.get(&number) {
            let newest = newest.entry((confirmed.partition, seen.partition)).or_insert((-1, 0));
            if confirmed.offset < newest.0 {
                verdict.reordered.push((newest.1, number));
            } else {
                *newest = (confirmed.offset, number);
            }
        }
        if let Some(key) = ledger.load.message(number).key
            && *home.entry(key).or_insert(seen.partition) != seen.partition
        {
            verdict.scattered.push(number);
        }
    }
    for letter in letters {
        let known = verdict.known(letter);
        verdict.dead.extend(known);
    }
    verdict.delivered = first.len();
    let there = |number: &u64| first.contains(number) || verdict.dead.contains(number);
    verdict.lost = ledger.confirmed.keys().copied().filter(|number| !there(number)).collect();
    verdict
}

impl Verdict {
    fn known(&mut self, seen: &Seen) -> Option<u64> {
        match seen.number {
            None => self.phantoms.push((seen.partition, seen.offset)),
            Some(number) if !seen.differs.is_empty() => self.corrupt.push((number, seen.differs.clone())),
            Some(_) => {}
        }
        seen.number
    }

    /// An error unless nothing was lost, invented, changed or put out of order. Repeats are the caller's to judge.
    pub fn sound(&self) -> Result<()> {
        let kinds = [
            self.lost.is_empty(),
            self.phantoms.is_empty(),
            self.corrupt.is_empty(),
            self.reordered.is_empty(),
            self.scattered.is_empty(),
        ];
        if kinds.contains(&false) {
            bail!("{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} delivered, {} dead-lettered", self.delivered, self.dead.len())?;
        some(out, "repeats", &self.repeated)?;
        some(out, "LOST", &self.lost)?;
        some(out, "PHANTOMS", &self.phantoms)?;
        some(out, "CORRUPT", &self.corrupt)?;
        some(out, "REORDERED", &self.reordered)?;
        some(out, "SCATTERED", &self.scattered)
    }
}

/// How many, and the first few.
fn some<T: fmt::Debug>(out: &mut fmt::Formatter<'_>, name: &str, what: &[T]) -> fmt::Result {
    if what.is_empty() { Ok(()) } else { write!(out, "; {} {name}: {:?}", what.len(), &what[..what.len().min(10)]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Confirmed, Load};

    /// Ten messages of five keys in two source partitions, all confirmed.
    fn ledger() -> Ledger {
        let load = Load { keys: 5, ..Load::new("run", 10) };
        let confirmed = |n: u64| (n, Confirmed { partition: (n % 5 % 2) as i32, offset: n as i64 });
        Ledger { load, confirmed: (0..10).map(confirmed).collect(), failed: 0 }
    }

    fn at(partition: u32, offset: u64, number: u64) -> Seen {
        Seen { partition, offset, number: Some(number), differs: Vec::new() }
    }

    /// As it should be: key k in partition k % 2.
    fn target() -> Vec<Seen> {
        (0..10).map(|n| at((n % 5 % 2) as u32, n, n)).collect()
    }

    #[test]
    fn what_arrived_once_in_order_and_unchanged_is_sound() {
        let verdict = judge(&ledger(), &target(), &[]);
        verdict.sound().unwrap();
        assert_eq!((verdict.delivered, verdict.repeated.len()), (10, 0));
    }

    #[test]
    fn a_confirmed_message_that_is_nowhere_is_lost() {
        let mut target = target();
        target.remove(4);
        let verdict = judge(&ledger(), &target, &[]);
        assert_eq!(verdict.lost, [4]);
        assert!(verdict.sound().unwrap_err().to_string().contains("1 LOST: [4]"));
    }

    #[test]
    fn a_dead_letter_is_not_lost_and_counts_once() {
        let mut target = target();
        target.remove(4);
        let verdict = judge(&ledger(), &target, &[at(0, 0, 4), at(0, 1, 4)]);
        verdict.sound().unwrap();
        assert_eq!((verdict.delivered, verdict.dead.len()), (9, 1));
    }

    #[test]
    fn a_message_that_was_never_confirmed_may_be_there_or_not() {
        let mut ledger = ledger();
        ledger.confirmed.remove(&4);
        judge(&ledger, &target(), &[]).sound().unwrap();
        let mut target = target();
        target.remove(4);
        judge(&ledger, &target, &[]).sound().unwrap();
    }

    #[test]
    fn a_message_that_was_never_sent_is_a_phantom() {
        let mut target = target();
        target.push(Seen { partition: 1, offset: 99, number: None, differs: Vec::new() });
        let verdict = judge(&ledger(), &target, &[]);
        assert_eq!(verdict.phantoms, [(1, 99)]);
        assert!(verdict.sound().is_err());
    }

    #[test]
    fn a_changed_message_is_corrupt_wherever_it_is() {
        let mut target = target();
        target[7].differs = vec!["time"];
        let mut letter = at(0, 0, 3);
        letter.differs = vec!["value"];
        let verdict = judge(&ledger(), &target, &[letter]);
        assert_eq!(verdict.corrupt, [(7, vec!["time"]), (3, vec!["value"])]);
        assert!(verdict.sound().is_err());
    }

    #[test]
    fn a_second_copy_is_counted_and_does_not_disturb_the_order() {
        let mut target = target();
        target.push(at(0, 100, 0));
        let verdict = judge(&ledger(), &target, &[]);
        verdict.sound().unwrap();
        assert_eq!(verdict.repeated, [0]);
    }

    #[test]
    fn a_message_first_delivered_behind_a_later_one_of_its_partition_is_reordered() {
        let mut target = target();
        // Numbers 2 and 7 have the same key; 7 is now in front.
        (target[2].offset, target[7].offset) = (7, 2);
        let verdict = judge(&ledger(), &target, &[]);
        assert!(verdict.reordered.contains(&(7, 2)), "{verdict}");
        assert!(verdict.sound().is_err());
    }

    #[test]
    fn a_key_in_two_partitions_is_scattered() {
        let mut target = target();
        target[7].partition = 1;
        let verdict = judge(&ledger(), &target, &[]);
        assert_eq!(verdict.scattered, [7]);
        assert!(verdict.sound().is_err());
    }
}
