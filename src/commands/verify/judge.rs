//! Compares what two topics hold, by the records of their messages, in memory that does not grow with the topics.

use std::{collections::BTreeMap, io};

use super::{
    findings::{Changed, Findings, Moved, Where},
    pairs::pair,
    record::{Content, Place, Record, Side},
    sorting::{Row, Sorter},
};

/// Copies of one message that are looked at one by one; further ones are only counted.
const COPIES: usize = 1_000;
/// Messages of one topic that the other does not have, of which the changed ones are looked for; further ones are only
/// counted.
const UNMATCHED: usize = 100_000;

/// Which messages are judged, by the time that they carry, in milliseconds since 1970-01-01T00:00Z.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Older ones are not.
    pub from: i64,
    /// Newer ones are not: when reading began, and what clocks may differ by.
    pub until: i64,
    /// Newer ones that only the target has may have been written after the source was read.
    pub settled: i64,
    /// Whether the topics were read from their beginning.
    pub whole: bool,
}

pub struct Judge {
    window: Window,
    records: Sorter<Record>,
    steps: Sorter<Step>,
    findings: Findings,
    /// In `from` alone, in `to` alone, among the dead letters alone.
    missing: Vec<Record>,
    others: Vec<Record>,
    letters: Vec<Record>,
    /// The last message of each partition of `from` that was found.
    found: BTreeMap<u32, u64>,
}

/// A message's first copy in a partition of the target, by the order in which it is read there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    from_partition: u32,
    to: Place,
    from: Place,
}

impl Row for Step {
    const SIZE: usize = 4 + 2 * Place::SIZE;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.from_partition.to_le_bytes());
        self.to.write(to);
        self.from.write(to);
    }

    fn read(from: &[u8]) -> Self {
        let (to, from) = (Place::read(&from[4..]), Place::read(&from[4 + Place::SIZE..]));
        Step { from_partition: from.partition, to, from }
    }
}

/// All messages of one content.
#[derive(Default)]
struct Copies {
    counts: [u64; 3],
    /// The first [`COPIES`] of each side.
    kept: [Vec<Record>; 3],
}

impl Judge {
    /// `memory`: bytes for records; what does not fit goes to temporary files. `shown`: places that are listed of each
    /// kind of finding.
    pub fn new(window: Window, memory: usize, shown: usize) -> Self {
        Judge {
            window,
            records: Sorter::new(memory / 2),
            steps: Sorter::new(memory / 2),
            findings: Findings::new(shown),
            missing: Vec::new(),
            others: Vec::new(),
            letters: Vec::new(),
            found: BTreeMap::new(),
        }
    }

    pub fn see(&mut self, record: Record) -> io::Result<()> {
        match record.side {
            Side::From => self.findings.from_messages += 1,
            Side::To => self.findings.to_messages += 1,
            Side::Letter => self.findings.letters += 1,
        }
        self.records.push(record)
    }

    /// How many were seen.
    pub fn records(&self) -> u64 {
        self.findings.from_messages + self.findings.to_messages + self.findings.letters
    }

    /// What was found. `progress` is called for each record.
    pub fn findings(mut self, mut progress: impl FnMut()) -> io::Result<Findings> {
        let mut copies = Copies::default();
        let mut content: Option<Content> = None;
        for record in std::mem::replace(&mut self.records, Sorter::new(0)).sorted()? {
            let record = record?;
            if let Some(content) = content.filter(|content| *content != record.content) {
                self.judge(content, std::mem::take(&mut copies))?;
            }
            content = Some(record.content);
            copies.counts[record.side as usize] += 1;
            let kept = &mut copies.kept[record.side as usize];
            if kept.len() < COPIES {
                kept.push(record);
            }
            progress();
        }
        if let Some(content) = content {
            self.judge(content, copies)?;
        }
        self.pair();
        self.order()?;
        Ok(self.findings)
    }

    fn judge(&mut self, content: Content, copies: Copies) -> io::Result<()> {
        let Window { from, until, settled, whole } = self.window;
        let [sent, arrived, lettered] = copies.counts;
        if content.time.is_some_and(|time| time < from || time > until) {
            self.findings.outside += sent + arrived;
            return Ok(());
        }
        let [froms, tos, letters] = copies.kept;
        if sent == 0 {
            keep(&mut self.letters, &letters);
            // Without a time nobody knows whether the source had it before, or has it by now.
            if content.time.is_none_or(|time| time > settled) {
                self.findings.undated += arrived;
                keep(&mut self.others, &tos);
            } else {
                self.findings.others += arrived;
                keep(&mut self.others, &tos);
            }
            return Ok(());
        }
        let found = sent.min(arrived + lettered);
        self.findings.matched += sent.min(arrived);
        self.findings.dead_lettered += found - sent.min(arrived);
        let missing = sent - found;
        self.findings.missing_in_all += missing;
        // Copies cannot be told apart: the first ones count as found.
        keep(&mut self.missing, froms.get(found as usize..).unwrap_or_default());
        for record in froms.iter().take(found as usize) {
            let last = self.found.entry(record.at.partition).or_default();
            *last = record.at.ordinal.max(*last);
        }
        let repeated = arrived.saturating_sub(sent);
        // Sent more than once and without a time: some may have been sent before the window.
        if repeated > 0 && !whole && sent > 1 && content.time.is_none() {
            self.findings.undated += repeated;
        } else if repeated > 0 {
            self.findings.repeated.count(repeated);
            let more = tos.iter().skip(sent as usize);
            more.for_each(|record| self.findings.repeated.list(Where { place: record.at, time: content.time }));
        }
        self.steps_of(&froms, &tos, sent, arrived)
    }

    /// Notes in which order the message's copies stand, where that can be told.
    fn steps_of(&mut self, froms: &[Record], tos: &[Record], sent: u64, arrived: u64) -> io::Result<()> {
        let one_partition = |records: &[Record]| records.windows(2).all(|w| w[0].at.partition == w[1].at.partition);
        if sent == 1 {
            // Repeats aside: what counts in a partition is where the message came first.
            let mut last = None;
            for to in tos.iter().filter(|to| last.replace(to.at.partition) != Some(to.at.partition)) {
                self.step(&froms[0], to)?;
            }
        } else if sent == arrived && sent as usize <= COPIES && one_partition(froms) && one_partition(tos) {
            for (from, to) in froms.iter().zip(tos) {
                self.step(from, to)?;
            }
        } else {
            self.findings.order_unknown += sent.min(arrived);
        }
        Ok(())
    }

    fn step(&mut self, from: &Record, to: &Record) -> io::Result<()> {
        self.steps.push(Step { from_partition: from.at.partition, to: to.at, from: from.at })
    }

    /// Tells changed messages from missing ones.
    fn pair(&mut self) {
        let outcome = pair(std::mem::take(&mut self.missing), std::mem::take(&mut self.others), &self.letters);
        let findings = &mut self.findings;
        findings.dead_lettered += outcome.in_parts;
        for (from, to) in &outcome.changed {
            findings.changed.count(1);
            let what = from.content.differs(&to.content);
            findings.changed.list(Changed { from: from.at, to: to.at, time: from.content.time, what });
        }
        let changed = outcome.changed.len() as u64;
        let dated = |record: &Record| record.content.time.is_some_and(|time| time <= self.window.settled);
        let dated_changed = outcome.changed.iter().filter(|(_, to)| dated(to)).count() as u64;
        findings.undated -= changed - dated_changed;
        let missing = findings.missing_in_all - outcome.in_parts - changed;
        findings.missing.count(missing);
        for record in &outcome.missing {
            findings.missing.list(Where { place: record.at, time: record.content.time });
            let last = self.found.get(&record.at.partition);
            findings.at_the_end += u64::from(last.is_none_or(|last| record.at.ordinal > *last));
        }
        findings.unexpected.count(findings.others - dated_changed);
        for record in outcome.others.iter().filter(|record| dated(record)) {
            findings.unexpected.list(Where { place: record.at, time: record.content.time });
        }
    }

    /// A message stands out of order when one that was behind it stands in front of it, among those that went from one
    /// partition to one partition.
    fn order(&mut self) -> io::Result<()> {
        let mut furthest: Option<Step> = None;
        for step in std::mem::replace(&mut self.steps, Sorter::new(0)).sorted()? {
            let step = step?;
            let lane = |step: &Step| (step.from.partition, step.to.partition);
            match furthest {
                Some(before) if lane(&before) == lane(&step) && before.from.ordinal > step.from.ordinal => {
                    self.findings.reordered.count(1);
                    self.findings.reordered.list(Moved { to: step.to, from: step.from, behind: before.from });
                }
                _ => furthest = Some(step),
            }
        }
        Ok(())
    }
}

/// As far as there is room.
fn keep(kept: &mut Vec<Record>, more: &[Record]) {
    let room = UNMATCHED.saturating_sub(kept.len());
    kept.extend(more.iter().take(room));
}

#[cfg(test)]
mod tests;
