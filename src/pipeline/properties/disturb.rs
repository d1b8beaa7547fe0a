//! What goes wrong in a run, and right again.

use rand::{Rng, seq::IndexedRandom};
use tokio::time::{Duration, Instant};
use trestle_core::{Fault, FaultKind, Scope, Why};
use trestle_memory::{FaultSpec, Freeze, Poison};

use super::{
    oracle::{Cut, number},
    run::{DEAD, IN, World},
};

const FREEZES: [Freeze; 2] = [Freeze::Everything, Freeze::Writes];
const WHYS: [Why; 4] = [Why::Down, Why::Authentication, Why::Permission, Why::UnknownTopic];
const SCOPES: [Scope; 4] = [Scope::Message, Scope::Batch, Scope::Partition, Scope::Cluster];

impl World {
    pub(super) async fn disturb(&mut self) {
        let leg = self.legs.choose(&mut self.rng).unwrap().clone();
        let (to, out) = (leg.to, self.rng.random_range(0..leg.outputs));
        let what = self.rng.random_range(0..21);
        tracing::debug!(what, leg = leg.hop, partition = out, "something changes");
        let cluster = self.cluster.clone();
        match what {
            0 => cluster.inject(to, out, FaultSpec::Delay(Duration::from_millis(self.rng.random_range(1..2000)))),
            1 => cluster.inject(to, out, FaultSpec::Refuse(self.refusal())),
            2 => {
                let stored = self.rng.random_range(0..20);
                cluster.inject(to, out, FaultSpec::RefuseAt { stored, fault: self.refusal() });
            }
            3 => cluster.inject(to, out, FaultSpec::timeout()),
            4 => cluster.inject(to, out, FaultSpec::lost_response()),
            5 => cluster.inject(to, out, FaultSpec::disconnect(self.rng.random_range(0..20))),
            6 => cluster.inject(to, out, FaultSpec::throttle(Duration::from_millis(self.rng.random_range(1..3000)))),
            7 => cluster.inject(to, out, FaultSpec::Unsure),
            8 => cluster.freeze(to, out, *FREEZES.choose(&mut self.rng).unwrap()),
            9 => cluster.thaw(to, out),
            10 => cluster.down(to, out, *WHYS.choose(&mut self.rng).unwrap()),
            11 => cluster.up(to, out),
            12 => self.poison(to),
            13 => cluster.disturb(leg.from, Fault::down("disturbed")),
            14 => cluster.fail_commit(leg.from, leg.group, Fault::down("not committed")),
            15 => {
                if let Some(member) = cluster.members(leg.from, leg.group).choose(&mut self.rng) {
                    cluster.lose_session(leg.from, leg.group, *member);
                }
            }
            16 => {
                let what = *FREEZES.choose(&mut self.rng).unwrap();
                if self.rng.random() { cluster.freeze(DEAD, 0, what) } else { cluster.thaw(DEAD, 0) }
            }
            17 if self.bridges.len() < 3 => self.start(),
            18 => self.crash(),
            19 => self.drain().await,
            20 => self.cut(),
            _ => {}
        }
    }

    /// Of any kind that ends by itself, and of any scope.
    fn refusal(&mut self) -> Fault {
        let kind = match self.rng.random_range(0..=WHYS.len()) {
            why if why < WHYS.len() => FaultKind::Unavailable(WHYS[why]),
            _ => FaultKind::Throttled(Duration::from_millis(self.rng.random_range(1..3000))),
        };
        Fault::new(kind, *SCOPES.choose(&mut self.rng).unwrap(), "refused")
    }

    /// Some message of the future fails for good.
    fn poison(&mut self, topic: &str) {
        let poisoned = self.sequence + self.rng.random_range(1..60);
        let poison = *[Poison::Message, Poison::Batch, Poison::Timeout].choose(&mut self.rng).unwrap();
        self.poisoned.insert(poisoned);
        self.cluster.poison(topic, poison, move |m| number(m) == poisoned);
    }

    fn crash(&mut self) {
        if !self.bridges.is_empty() {
            let at = self.rng.random_range(0..self.bridges.len());
            self.bridges.swap_remove(at).crash();
        }
        if self.bridges.is_empty() {
            self.start();
        }
    }

    async fn drain(&mut self) {
        if self.bridges.len() > 1 {
            // Whoever comes next must not wait for a drain that a fault holds up.
            self.bridges.swap_remove(0).drain(Duration::from_secs(1)).await;
        }
    }

    /// Retention takes what the group may not have read. Without a committed position the group would begin behind the cut
    /// and never know.
    fn cut(&mut self) {
        let partition = self.rng.random_range(0..self.legs[0].inputs);
        let stored = self.cluster.stored(IN, partition);
        let known = self.cluster.committed(IN, self.legs[0].group, partition).is_some();
        if let Some(first) = stored.choose(&mut self.rng).filter(|_| known) {
            self.cluster.cut(IN, partition, first.offset);
            self.cuts.push(Cut { partition, below: first.offset, at: Instant::now() });
        }
    }
}
