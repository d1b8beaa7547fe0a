//! What waits apart from its lane: messages that failed, and what must not pass them. The lane goes on with the rest.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::{Instant, sleep_until};
use trestle_core::{BoxFuture, Cause, PartitionId, Slice};

use crate::policy::{
    order::{Order, SetAside, Together},
    retry::Failures,
};

pub(super) struct Aside {
    policy: SetAside,
    waiting: BTreeMap<Together, Waiting>,
    /// Counts what was stored, however little: a witness against a message that failed before and fails again.
    witnesses: u64,
    /// While the dead-letter topic cannot be written: resolves when it can.
    dead_letters_back: Option<BoxFuture<'static, ()>>,
}

/// What waits together.
struct Waiting {
    /// In order, of one source partition; the very first message is the one that failed.
    slices: VecDeque<Slice>,
    failures: Option<Failures>,
    until: Until,
    /// The lane's count of witnesses when it was set aside.
    witnesses: u64,
}

pub(super) enum Until {
    At(Instant),
    /// It is to be dead-lettered, as soon as that is possible.
    DeadLetters(Verdict),
}

/// Why a message is to be dead-lettered.
#[derive(Clone)]
pub(super) struct Verdict {
    pub cause: Cause,
    pub error: String,
}

/// What has waited long enough, the failed message first.
pub(super) struct Due {
    pub slices: VecDeque<Slice>,
    pub failures: Option<Failures>,
    pub verdict: Option<Verdict>,
}

impl Aside {
    pub fn new(policy: SetAside) -> Self {
        Aside { policy, waiting: BTreeMap::new(), witnesses: 0, dead_letters_back: None }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn messages(&self) -> usize {
        self.waiting.values().flat_map(|waiting| &waiting.slices).map(Slice::len).sum()
    }

    /// Takes the head of `pending`, and all that must wait with it. Not if the route keeps everything in order, nor if as many
    /// have failed as may wait apart: `pending` is as it was then.
    pub fn take(&mut self, pending: &mut VecDeque<Slice>, failures: Option<Failures>, until: Until) -> bool {
        if self.policy.order == Order::Partition || self.waiting.len() >= self.policy.most {
            return false;
        }
        let Some(mut first) = pending.pop_front() else { return false };
        let head = first.take_front(1);
        if !first.is_empty() {
            pending.push_front(first);
        }
        let Some(message) = head.first() else { return false };
        let together = self.policy.order.together(head.batch().partition, message);
        let waiting = Waiting { slices: [head].into(), failures, until, witnesses: self.witnesses };
        self.waiting.insert(together, waiting);
        *pending = self.sort(std::mem::take(pending));
        true
    }

    /// Takes out of `slices` what must wait with something that waits already, and hands the rest back.
    pub fn sort(&mut self, slices: VecDeque<Slice>) -> VecDeque<Slice> {
        if self.policy.order != Order::Key || self.waiting.is_empty() {
            return slices;
        }
        let mut rest = VecDeque::with_capacity(slices.len());
        for mut slice in slices {
            let partition = slice.batch().partition;
            let of = |message| self.policy.order.together(partition, message);
            let mut found: Vec<Together> = slice.iter().map(of).filter(|t| self.waiting.contains_key(t)).collect();
            found.sort_unstable();
            found.dedup();
            for together in found {
                let (apart, others) = slice.part(|message| together.has(partition, message));
                if let Some(waiting) = self.waiting.get_mut(&together) {
                    waiting.slices.push_back(apart);
                }
                slice = others;
            }
            if !slice.is_empty() {
                rest.push_back(slice);
            }
        }
        rest
    }

    /// Something was stored in this lane.
    pub fn witness(&mut self) {
        self.witnesses = self.witnesses.wrapping_add(1);
    }

    /// Drops what is of an ended epoch: it is read again.
    pub fn sweep(&mut self) {
        self.waiting.retain(|_, waiting| waiting.slices.iter().all(|slice| slice.batch().is_current()));
    }

    pub fn drain(&mut self) -> impl Iterator<Item = Slice> + use<> {
        std::mem::take(&mut self.waiting).into_values().flat_map(|waiting| waiting.slices)
    }

    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.waiting.values().flat_map(|waiting| &waiting.slices).map(|slice| slice.batch().partition)
    }

    fn next(&self) -> Option<(Instant, &Together)> {
        let due = self.waiting.iter().filter_map(|(together, waiting)| match waiting.until {
            Until::At(at) => Some((at, together)),
            Until::DeadLetters(_) => None,
        });
        let verdicts = || self.waiting.iter().find(|(_, waiting)| matches!(waiting.until, Until::DeadLetters(_)));
        match self.dead_letters_back {
            None => verdicts().map(|(together, _)| (Instant::now(), together)).or(due.min()),
            Some(_) => due.min(),
        }
    }

    pub fn is_due(&self) -> bool {
        self.next().is_some_and(|(at, _)| at <= Instant::now())
    }

    /// Resolves when something is due; never while nothing waits.
    pub async fn due(&mut self) {
        loop {
            let next = self.next().map(|(at, _)| at);
            let written_again = async {
                match &mut self.dead_letters_back {
                    Some(back) => back.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => return,
                () = written_again => self.dead_letters_back = None,
            }
        }
    }

    pub fn take_due(&mut self) -> Option<Due> {
        let together = self.next().filter(|(at, _)| *at <= Instant::now())?.1.clone();
        let Waiting { slices, mut failures, until, witnesses } = self.waiting.remove(&together)?;
        if let Some(failures) = &mut failures {
            failures.witnessed = witnesses != self.witnesses;
        }
        let verdict = match until {
            Until::At(_) => None,
            Until::DeadLetters(verdict) => Some(verdict),
        };
        Some(Due { slices, failures, verdict })
    }

    /// The dead-letter topic cannot be written until `back` resolves.
    pub fn dead_letters_down(&mut self, back: BoxFuture<'static, ()>) {
        self.dead_letters_back = Some(back);
    }

    pub fn dead_letters_are_down(&self) -> bool {
        self.dead_letters_back.is_some()
    }

    pub fn dead_letters_up(&mut self) {
        self.dead_letters_back = None;
    }
}
