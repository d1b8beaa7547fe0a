//! Notices a part of a hop that hangs: it neither ended nor failed, and nothing comes of it although something should. The
//! hop is then set up anew.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};
use trestle_core::{BoxFuture, PartitionId, Position};

use super::{
    partitions::{Partition, Partitions},
    unread::{Suspect, Unread},
};

/// While nothing is found, the cluster is asked more and more rarely, up to so many times the patience.
const RAREST: u32 = 16;

/// Watches a source. It hangs when a partition that may be read gives nothing for as long as the patience is, and for as long
/// again after the cluster was seen to have something for it. A partition of which nothing came yet is not judged.
pub(super) struct Watchdog {
    patience: Duration,
    unread: Unread,
    looking: Option<BoxFuture<'static, BTreeMap<PartitionId, Position>>>,
    /// What the cluster has and the source did not hand out: since when the partition had been quiet, and when that was seen.
    found: BTreeMap<PartitionId, (Instant, Position, Instant)>,
    look_at: Instant,
    pause: Duration,
}

impl Watchdog {
    pub fn new(patience: Duration, unread: Unread) -> Self {
        let (found, look_at) = (BTreeMap::new(), Instant::now());
        Watchdog { patience, unread, looking: None, found, look_at, pause: patience }
    }

    /// Looks at all partitions, and says what hangs.
    pub fn look(&mut self, partitions: &Partitions) -> Option<String> {
        let quiet = |partition| partitions.get(partition).and_then(|p| p.quiet_since());
        self.found.retain(|partition, (since, _, _)| quiet(*partition) == Some(*since));
        let mut suspects = Vec::new();
        for (partition, state) in partitions.iter() {
            let Some(since) = state.quiet_since().filter(|since| since.elapsed() >= self.patience) else { continue };
            match self.found.get(partition) {
                Some((_, position, seen)) if seen.elapsed() >= self.patience => {
                    let (silent, seen) = (since.elapsed(), seen.elapsed());
                    return Some(format!(
                        "partition {partition} gave nothing for {silent:?}, although its cluster has had {position} for {seen:?}"
                    ));
                }
                Some(_) => {}
                None => suspects.extend(suspect(*partition, state)),
            }
        }
        if suspects.is_empty() {
            (self.look_at, self.pause) = (Instant::now(), self.patience);
        } else if self.looking.is_none() && Instant::now() >= self.look_at {
            self.looking = Some((self.unread)(suspects));
        }
        None
    }

    /// Resolves when the cluster has been looked at.
    pub async fn looked(&mut self) -> BTreeMap<PartitionId, Position> {
        let found = match &mut self.looking {
            Some(looking) => looking.await,
            None => std::future::pending().await,
        };
        self.looking = None;
        self.look_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(self.patience * RAREST);
        found
    }

    /// The cluster has these, behind what was handed out.
    pub fn found(&mut self, found: BTreeMap<PartitionId, Position>, partitions: &Partitions) {
        for (partition, position) in found {
            if let Some(state) = partitions.get(partition)
                && suspect(partition, state).is_some_and(|suspect| suspect.awaits(position))
                && let Some(since) = state.quiet_since()
            {
                self.found.insert(partition, (since, position, Instant::now()));
            }
        }
    }
}

fn suspect(partition: PartitionId, state: &Partition) -> Option<Suspect> {
    let awaited = state.tracker.awaited()?;
    Some(Suspect { partition, awaited, written: state.written })
}
