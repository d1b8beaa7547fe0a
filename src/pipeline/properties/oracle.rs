//! Judges a run by what the brokers hold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::time::Instant;
use trestle_core::{Fault, FaultKind, Message, Outcome, PartitionId, Position, Sent};
use trestle_memory::{Cluster, Sending, Stored, Writer};

use super::run::{DEAD, GROUP, IN, OUT, RETRIES};

#[derive(Debug)]
#[expect(dead_code, reason = "the fields are printed")]
pub(super) enum Verdict {
    /// Written, and neither at the target nor a dead letter.
    Loss(Vec<String>),
    /// At the target or a dead letter, and never written, or changed on the way.
    Phantom(String),
    /// First delivered in another order than written.
    Reorder { earlier: String, later: String },
    /// Committed before it was stored anywhere.
    Commit { message: String, next: u64 },
    /// A dead letter that nothing justifies.
    DeadLetter(String),
    /// Delivered twice although nothing went wrong.
    Repeat(String),
    /// More memory in use than the budget and one batch a source.
    Bound { used: usize, limit: usize },
    /// Not finished long after the last fault.
    Liveness(String),
}

/// What the run knows and the brokers do not.
pub(super) struct Facts {
    pub inputs: u32,
    pub outputs: u32,
    /// Values that were made to fail.
    pub poisoned: BTreeSet<Bytes>,
    /// Nothing was injected: every message arrives exactly once.
    pub quiet: bool,
    pub peak: usize,
    pub bound: usize,
}

pub(super) fn judge(cluster: &Cluster, facts: &Facts) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if std::env::var("TRESTLE_SEED").is_ok() {
        let t = |at: Instant| super::START.with(|s| at.duration_since(*s).as_secs_f64());
        let mut lines = Vec::new();
        for p in 0..facts.inputs {
            for s in cluster.stored(IN, p) {
                lines.push((t(s.at), format!("IN/{p}@{} {} {:?}", s.offset, name(&s.message), s.message.key)));
            }
        }
        for p in 0..facts.outputs {
            for s in cluster.stored(OUT, p) {
                let Writer::Lane { lane, origin, .. } = s.by else { continue };
                lines.push((t(s.at), format!("OUT/{p} {} lane {lane} {origin:?}", name(&s.message))));
            }
        }
        for s in cluster.stored(DEAD, 0) {
            lines
                .push((t(s.at), format!("DEAD {} {:?}", name(&s.message), s.message.headers.get("trestle-dlq-cause"))));
        }
        for c in cluster.commits(IN, GROUP) {
            lines.push((t(c.at), format!("COMMIT {} {} by {}", c.partition, c.next, c.member)));
        }
        lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (t, l) in lines {
            eprintln!("{t:.3} {l}");
        }
        eprintln!("POISONED {:?}", facts.poisoned);
    }
    let written: BTreeMap<Bytes, Message> = (0..facts.inputs)
        .flat_map(|p| cluster.stored(IN, p))
        .map(|s| (s.message.value.clone().unwrap_or_default(), s.message))
        .collect();
    let mut first: BTreeMap<Bytes, Instant> = BTreeMap::new();
    for target in 0..facts.outputs {
        reordered(cluster, target, &mut verdicts);
        for stored in cluster.stored(OUT, target) {
            arrive(stored.message, stored.at, &written, facts, &mut first, &mut verdicts);
        }
    }
    for stored in cluster.stored(DEAD, 0) {
        let letter = trestle_dlq::restore(&stored.message);
        let timed_out = stored.message.headers.get("trestle-dlq-cause").is_some_and(|c| &c[..] == b"timeout");
        if !timed_out && !letter.value.as_ref().is_some_and(|v| facts.poisoned.contains(v)) {
            verdicts.push(Verdict::DeadLetter(name(&letter)));
        }
        arrive(letter, stored.at, &written, facts, &mut first, &mut verdicts);
    }
    let lost: Vec<_> = written.iter().filter(|(v, _)| !first.contains_key(*v)).map(|(_, m)| name(m)).collect();
    if !lost.is_empty() {
        verdicts.push(Verdict::Loss(lost));
    }
    committed_early(cluster, facts, &first, &mut verdicts);
    if facts.peak > facts.bound {
        verdicts.push(Verdict::Bound { used: facts.peak, limit: facts.bound });
    }
    verdicts
}

fn arrive(
    message: Message,
    at: Instant,
    written: &BTreeMap<Bytes, Message>,
    facts: &Facts,
    first: &mut BTreeMap<Bytes, Instant>,
    verdicts: &mut Vec<Verdict>,
) {
    let value = message.value.clone().unwrap_or_default();
    match written.get(&value) {
        Some(original) if Message { position: original.position, ..message.clone() } == *original => {}
        _ => verdicts.push(Verdict::Phantom(name(&message))),
    }
    match first.get_mut(&value) {
        Some(before) => {
            if facts.quiet {
                verdicts.push(Verdict::Repeat(name(&message)));
            }
            *before = (*before).min(at);
        }
        None => _ = first.insert(value, at),
    }
}

/// First deliveries of each source partition into one target partition must be in the source's order. A message may come
/// late if it was settled as a dead letter, or given up for a witness: if the bridge ends before that is committed, the
/// next one may deliver it after all.
fn reordered(cluster: &Cluster, target: u32, verdicts: &mut Vec<Verdict>) {
    let mut dead: BTreeMap<Bytes, Instant> = BTreeMap::new();
    for letter in cluster.stored(DEAD, 0) {
        dead.entry(letter.message.value.unwrap_or_default()).or_insert(letter.at);
    }
    let witnesses = witnesses(&cluster.sendings(OUT, target));
    let mut newest: BTreeMap<PartitionId, (Position, Stored)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for stored in cluster.stored(OUT, target) {
        let value = stored.message.value.clone().unwrap_or_default();
        let Writer::Lane { origin: (partition, position), .. } = stored.by else { continue };
        if !seen.insert(value.clone()) {
            continue;
        }
        match newest.get(&partition) {
            Some((last, later)) if *last > position => {
                let was_dead = dead.get(&value).is_some_and(|at| *at <= later.at);
                if !was_dead && !witnesses.contains(&((partition, position), (partition, *last))) {
                    let later = name(&later.message);
                    verdicts.push(Verdict::Reorder { earlier: name(&stored.message), later });
                }
            }
            _ => _ = newest.insert(partition, (position, stored)),
        }
    }
}

type Origin = (PartitionId, Position);

/// Pairs of a message that alone was not confirmed in time, although sent as often as retries go, and the one that the same
/// lane sent next, alone too.
fn witnesses(sendings: &[Sending]) -> BTreeSet<(Origin, Origin)> {
    let mut witnesses = BTreeSet::new();
    let mut spent: BTreeMap<(u64, Origin), u32> = BTreeMap::new();
    let mut last: BTreeMap<u64, Origin> = BTreeMap::new();
    for sending in sendings {
        let Some(first) = sending.origins.first() else { continue };
        if let (Some(head), [witness]) = (last.remove(&sending.lane), &sending.origins[..])
            && head != *witness
        {
            witnesses.insert((head, *witness));
        }
        let Some((Sent { runs }, _)) = &sending.answer else { continue };
        let [(_, Outcome::Unknown(Fault { kind: FaultKind::Timeout, .. }))] = &runs[..] else { continue };
        let attempts = spent.entry((sending.lane, *first)).or_default();
        *attempts += 1;
        if *attempts > RETRIES && sending.origins.len() == 1 {
            last.insert(sending.lane, *first);
        }
    }
    witnesses
}

/// Whatever lies below a committed position was stored somewhere by then.
fn committed_early(cluster: &Cluster, facts: &Facts, first: &BTreeMap<Bytes, Instant>, verdicts: &mut Vec<Verdict>) {
    let inputs: Vec<_> = (0..facts.inputs).map(|p| cluster.stored(IN, p)).collect();
    for commit in cluster.commits(IN, GROUP) {
        for stored in inputs[commit.partition as usize].iter().take_while(|s| s.offset < commit.next) {
            let arrived = stored.message.value.as_ref().and_then(|v| first.get(v));
            if arrived.is_none_or(|a| *a > commit.at) {
                verdicts.push(Verdict::Commit { message: name(&stored.message), next: commit.next });
                return;
            }
        }
    }
}

fn name(message: &Message) -> String {
    String::from_utf8_lossy(message.value.as_deref().unwrap_or(b"(null)")).into_owned()
}
