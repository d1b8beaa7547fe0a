//! First deliveries of each source partition into one target partition must be in the source's order, or those of each key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use trestle_core::{Fault, FaultKind, Outcome, PartitionId, Position, Sent};
use trestle_memory::{Cluster, Sending, Stored, Writer};

use super::{Arrivals, Leg, Verdict, number};
use crate::{pipeline::properties::run::RETRIES, policy::order::Order};

/// A message may come late if it was settled as a dead letter, or given up for a witness: if the bridge ends before that is
/// committed, or the witness was stored without being confirmed, it may be delivered after all.
pub(super) fn reordered(cluster: &Cluster, leg: &Leg, target: u32, dead: &Arrivals, verdicts: &mut Vec<Verdict>) {
    let mut passed: Option<BTreeSet<(Origin, Origin)>> = None;
    let mut newest: BTreeMap<(PartitionId, Option<Bytes>), (Position, Stored)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for stored in cluster.stored(leg.to, target) {
        let earlier = number(&stored.message);
        let Writer::Lane { origin: (partition, position), .. } = stored.by else { continue };
        if !seen.insert(earlier) {
            continue;
        }
        let ordered = match leg.order {
            Order::Partition => (partition, None),
            Order::Key if stored.message.key.is_some() => (partition, stored.message.key.clone()),
            Order::Key | Order::None => continue,
        };
        match newest.get(&ordered) {
            Some((last, later)) if *last > position => {
                let pairs = || witnesses(&cluster.sendings(leg.to, target)).into_iter().map(|w| (w.head, w.witness));
                let was_passed = passed
                    .get_or_insert_with(|| pairs().collect())
                    .contains(&((partition, position), (partition, *last)));
                let was_dead = dead.get(&earlier).is_some_and(|at| *at <= later.at);
                if !was_dead && !was_passed {
                    verdicts.push(Verdict::Reorder { hop: leg.hop, earlier, later: number(&later.message) });
                }
            }
            _ => _ = newest.insert(ordered, (position, stored)),
        }
    }
}

/// Where a message was read.
pub(super) type Origin = (PartitionId, Position);

pub(super) struct Witness {
    pub head: Origin,
    pub witness: Origin,
    /// The witness was confirmed.
    pub stored: bool,
}

/// Messages that alone were not confirmed in time, after as many attempts as retries go, and what the same lane sent next,
/// alone too.
pub(super) fn witnesses(sendings: &[Sending]) -> Vec<Witness> {
    let mut found = Vec::new();
    let mut attempts: BTreeMap<(u64, Origin), u32> = BTreeMap::new();
    let mut spent: BTreeMap<u64, Origin> = BTreeMap::new();
    for Sending { lane, origins, answer, .. } in sendings {
        let Some(first) = origins.first() else { continue };
        let stored = matches!(answer, Some((Sent { runs }, _)) if matches!(runs[..], [(1, Outcome::Stored)]));
        if let (Some(head), [witness]) = (spent.remove(lane), &origins[..])
            && head != *witness
        {
            found.push(Witness { head, witness: *witness, stored });
        }
        let Some((Sent { runs }, _)) = answer else { continue };
        let [(_, Outcome::Unknown(Fault { kind: FaultKind::Timeout, .. }))] = &runs[..] else { continue };
        let attempts = attempts.entry((*lane, *first)).or_default();
        *attempts += 1;
        if *attempts > RETRIES && origins.len() == 1 {
            spent.insert(*lane, *first);
        }
    }
    found
}

/// Messages that waited apart and alone were not confirmed in time, more often than retries go, with something else stored by
/// the same lane before the last time.
pub(super) fn given_up_apart(sendings: &[Sending]) -> BTreeSet<Origin> {
    let mut found = BTreeSet::new();
    /// Attempts, and what the lane had stored at the last one.
    #[derive(Default)]
    struct Tried(u32, u64);
    let mut tried: BTreeMap<(u64, Origin), Tried> = BTreeMap::new();
    let mut stored: BTreeMap<u64, u64> = BTreeMap::new();
    for Sending { lane, origins, answer, .. } in sendings {
        let (Some(first), Some((Sent { runs }, _))) = (origins.first(), answer) else { continue };
        let stored = stored.entry(*lane).or_default();
        if let [(_, Outcome::Unknown(Fault { kind: FaultKind::Timeout, .. }))] = &runs[..] {
            let Tried(attempts, before) = tried.entry((*lane, *first)).or_default();
            *attempts += 1;
            if origins.len() == 1 && *attempts > RETRIES && *before < *stored {
                found.insert(*first);
            }
            *before = *stored;
        } else if runs.iter().any(|(_, outcome)| matches!(outcome, Outcome::Stored)) {
            *stored += 1;
        }
    }
    found
}
