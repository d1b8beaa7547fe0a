//! Judges a run by what the brokers hold.

mod order;

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use trestle_core::{Cause, Message};
use trestle_memory::{Cluster, Stored};

use super::{
    counts::Counts,
    run::{DEAD, IN, Leg},
    story,
};
use crate::policy::order::Order;
use order::{given_up_apart, reordered, witnesses};

#[derive(Debug)]
#[expect(dead_code, reason = "the fields are printed")]
pub(super) enum Verdict {
    /// Written, and neither at the target nor a dead letter.
    Loss(Vec<u64>),
    /// At the target or a dead letter, and never written, or changed on the way.
    Phantom(u64),
    /// First delivered in another order than written.
    Reorder { hop: &'static str, earlier: u64, later: u64 },
    /// Committed before it was stored anywhere.
    Commit { hop: &'static str, message: u64, next: u64 },
    /// A dead letter that nothing justifies, with its cause.
    DeadLetter(u64, String),
    /// Delivered twice although nothing went wrong.
    Repeat(u64),
    /// The metrics do not add up although nothing went wrong.
    Counts { received: u64, delivered: u64, dead_lettered: u64 },
    /// More memory in use than the budget and one batch a source.
    Bound { used: usize, limit: usize },
    /// Not finished long after the last fault.
    Liveness(String),
}

/// What the run knows and the brokers do not. Messages go by their numbers.
pub(super) struct Facts {
    pub legs: Vec<Leg>,
    /// Messages that were made to fail.
    pub poisoned: BTreeSet<u64>,
    /// Messages that no source can read, and what the dead letter has to say of them.
    pub defective: BTreeMap<u64, Cause>,
    pub cuts: Vec<Cut>,
    /// Nothing was injected: every message arrives exactly once.
    pub quiet: bool,
    pub peak: usize,
    pub bound: usize,
}

/// Retention took what the first topic had below an offset.
#[derive(Debug)]
pub(super) struct Cut {
    pub partition: u32,
    pub below: u64,
    pub at: Instant,
}

/// What was written, where each message of it first arrived, and the verdicts so far.
struct Case<'a> {
    cluster: &'a Cluster,
    facts: &'a Facts,
    written: BTreeMap<u64, Message>,
    verdicts: Vec<Verdict>,
}

/// When each message first arrived.
type Arrivals = BTreeMap<u64, Instant>;

pub(super) fn judge(cluster: &Cluster, facts: &Facts, counts: &Counts) -> Vec<Verdict> {
    if std::env::var_os("TRESTLE_SEED").is_some() {
        story::tell(cluster, facts);
    }
    let written = stored(cluster, IN, facts.legs[0].inputs).map(|s| (number(&s.message), s.message)).collect();
    let mut case = Case { cluster, facts, written, verdicts: Vec::new() };
    let mut dead = Arrivals::new();
    for letter in cluster.stored(DEAD, 0) {
        case.dead_letter(&letter);
        case.arrived(trestle_dlq::restore(&letter.message), letter.at, &mut dead);
    }
    let mut first = dead.clone();
    for leg in &facts.legs {
        first = dead.clone();
        for stored in stored(cluster, leg.to, leg.outputs) {
            if facts.defective.contains_key(&number(&stored.message)) {
                case.verdicts.push(Verdict::Phantom(number(&stored.message)));
            }
            case.arrived(stored.message, stored.at, &mut first);
        }
        for target in 0..leg.outputs {
            reordered(cluster, leg, target, &dead, &mut case.verdicts);
        }
        case.committed_early(leg, &first);
    }
    case.lost(&first, counts.of("trestle_gaps_total"));
    case.counted(counts);
    if facts.peak > facts.bound {
        case.verdicts.push(Verdict::Bound { used: facts.peak, limit: facts.bound });
    }
    case.verdicts
}

impl Case<'_> {
    /// A message that arrives somewhere is as it was written, and quietly arrives once.
    fn arrived(&mut self, message: Message, at: Instant, first: &mut Arrivals) {
        let number = number(&message);
        let same = |original: &Message| {
            Message { position: original.position, defect: original.defect.clone(), ..message } == *original
        };
        if !self.written.get(&number).is_some_and(same) {
            self.verdicts.push(Verdict::Phantom(number));
        }
        if first.get(&number).is_some() && self.facts.quiet {
            self.verdicts.push(Verdict::Repeat(number));
        }
        let earliest = first.entry(number).or_insert(at);
        *earliest = at.min(*earliest);
    }

    /// Dead letters are for defects, poison, and messages that a witness has passed.
    fn dead_letter(&mut self, letter: &Stored) {
        let number = number(&letter.message);
        let header = |name: &str| {
            let value = letter.message.headers.get(name).map(|v| String::from_utf8_lossy(v).into_owned());
            value.unwrap_or_default()
        };
        let cause = header("trestle-dlq-cause");
        let justified = match self.facts.defective.get(&number) {
            Some(defect) => cause == defect.as_str(),
            None if cause == "timeout" => self.was_passed(&header("trestle-dlq-source")),
            None => self.facts.poisoned.contains(&number),
        };
        if !justified {
            self.verdicts.push(Verdict::DeadLetter(number, cause));
        }
    }

    /// Whether the message of this source timed out as often as it takes, and the next, or another, was confirmed.
    fn was_passed(&self, source: &str) -> bool {
        let is_head =
            |leg: &Leg, (partition, position)| format!("memory/{}/{partition}/{position}", leg.from) == source;
        let apart = |leg: &Leg| {
            let mut targets = (0..leg.outputs).map(|target| given_up_apart(&self.cluster.sendings(leg.to, target)));
            leg.order != Order::Partition && targets.any(|all| all.into_iter().any(|origin| is_head(leg, origin)))
        };
        self.facts.legs.iter().any(|leg| {
            let all = (0..leg.outputs).flat_map(|target| witnesses(&self.cluster.sendings(leg.to, target)));
            all.filter(|w| w.stored).any(|w| is_head(leg, w.head)) || apart(leg)
        })
    }

    /// Whatever lies below a committed position was stored somewhere by then, or taken away.
    fn committed_early(&mut self, leg: &Leg, first: &Arrivals) {
        let inputs: Vec<_> = (0..leg.inputs).map(|p| self.cluster.stored(leg.from, p)).collect();
        for commit in self.cluster.commits(leg.from, leg.group) {
            for stored in inputs[commit.partition as usize].iter().take_while(|s| s.offset < commit.next) {
                let message = number(&stored.message);
                let arrived = first.get(&message).is_some_and(|at| *at <= commit.at);
                if !arrived && !self.cut(leg, commit.partition, stored.offset, commit.at) {
                    self.verdicts.push(Verdict::Commit { hop: leg.hop, message, next: commit.next });
                    return;
                }
            }
        }
    }

    fn cut(&self, leg: &Leg, partition: u32, offset: u64, at: Instant) -> bool {
        let cut = |cut: &Cut| cut.partition == partition && offset < cut.below && cut.at <= at;
        leg.from == IN && self.facts.cuts.iter().any(cut)
    }

    /// What retention took may be missing, if the pipeline said that there was a gap.
    fn lost(&mut self, first: &Arrivals, gaps: u64) {
        let leg = &self.facts.legs[0];
        let mut lost = Vec::new();
        for partition in 0..leg.inputs {
            for stored in self.cluster.stored(IN, partition) {
                let taken = gaps > 0 && self.cut(leg, partition, stored.offset, Instant::now());
                if !first.contains_key(&number(&stored.message)) && !taken {
                    lost.push(number(&stored.message));
                }
            }
        }
        if !lost.is_empty() {
            self.verdicts.push(Verdict::Loss(lost));
        }
    }

    /// At rest, what was received is what was delivered and dead-lettered.
    fn counted(&mut self, counts: &Counts) {
        let [received, delivered, dead_lettered] =
            ["received", "delivered", "dead_lettered"].map(|what| counts.of(&format!("trestle_messages_{what}_total")));
        if self.facts.quiet && received != delivered + dead_lettered {
            self.verdicts.push(Verdict::Counts { received, delivered, dead_lettered });
        }
    }
}

fn stored(cluster: &Cluster, topic: &str, partitions: u32) -> impl Iterator<Item = Stored> {
    (0..partitions).flat_map(move |p| cluster.stored(topic, p))
}

/// The digits that a message's value begins with; 0 when there are none.
pub(super) fn number(message: &Message) -> u64 {
    let digits = message.value.iter().flatten().take_while(|b| b.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
