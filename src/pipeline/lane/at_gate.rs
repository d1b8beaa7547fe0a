//! What a lane does while its gate is closed: it probes, and gives its memory back.

use tokio::time::{Instant, sleep_until, timeout};
use trestle_core::{BoxFuture, Fault, FaultKind, PartitionId, Why};

use super::{Context, LaneTask};
use crate::{
    pipeline::board::LaneNote,
    policy::{
        dead_letter_limit::{DeadLetterLimit, TooMany},
        gate::RELEASE_AFTER,
    },
};

/// What a closed gate waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    Target,
    DeadLetters,
    /// A person, who looks at why there are so many dead letters.
    Person,
}

/// What readiness names a stopped route's reason.
const STOPPED: &str = "dead letters";

impl LaneTask {
    pub(super) fn close_gate(&mut self, why: Why, waits_for: WaitsFor, error: String) {
        let known = self.gate.why() == Some(why);
        self.gate.close(why, error.clone());
        self.waits_for = waits_for;
        self.next_probe = Instant::now() + self.probe_backoff.delay();
        self.set_gate_reason(Some(&error));
        if !known {
            let Context { route, hop, .. } = &*self.context;
            if why.needs_a_person() {
                tracing::error!(route, hop, partition = %self.key.target, why = %why, error, "the gate is closed until this is mended");
            } else {
                tracing::warn!(route, hop, partition = %self.key.target, error, "the gate is closed");
            }
        }
    }

    pub(super) fn set_gate_reason(&self, reason: Option<&str>) {
        let name = format!("partition {}", self.key.target);
        self.context.meter.gate(self.key.target, reason.is_some());
        match reason {
            Some(reason) => self.context.status.set(name, reason),
            None => self.context.status.clear(&name),
        };
    }

    /// Waits for one thing to happen at a closed gate: a probe, something to give back, or something new to sweep.
    pub(super) async fn wait_at_gate(&mut self) {
        let Some(closed) = self.gate.closed() else { return };
        if closed.released || self.context.board.draining() {
            self.release();
        }
        let Some(closed) = self.gate.closed() else { return };
        if self.inbox.is_closed() && self.pending.is_empty() {
            return;
        }
        let keeps = self.keeps();
        let (release_at, released) = (closed.since + RELEASE_AFTER, closed.released);
        let inbox = self.inbox.clone();
        tokio::select! {
            biased;
            () = sleep_until(self.next_probe), if self.waits_for != WaitsFor::Person => self.probe().await,
            Ok(()) = self.stopped.changed(), if self.waits_for == WaitsFor::Person => {
                let stopped = *self.stopped.borrow_and_update();
                if !stopped {
                    self.goes_on();
                }
            }
            Ok(()) = self.budget_moved.changed(), if !released && keeps => {}
            () = sleep_until(release_at), if !released && !keeps => {
                if let Some(closed) = self.gate.closed_mut() {
                    closed.released = true;
                }
            }
            () = inbox.changed() => {}
            Ok(()) = self.sweeps.changed() => {}
        }
    }

    /// Gives back what waits: it is read again when the gate opens, and holds no memory until then.
    fn release(&mut self) {
        if self.pending.is_empty() && self.aside.is_empty() {
            return;
        }
        let pending = self.pending.iter().map(|slice| slice.batch().partition);
        let mut partitions: Vec<PartitionId> = pending.chain(self.aside.partitions()).collect();
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions {
            self.context.board.tell(LaneNote::Blocks(self.key, partition));
        }
        let all = self.all();
        self.context.board.give_back(all);
    }

    async fn probe(&mut self) {
        let context = self.context.clone();
        let probe: BoxFuture<'_, Result<(), Fault>> = match self.waits_for {
            WaitsFor::Target => context.sink.probe(self.key.target),
            WaitsFor::DeadLetters => Box::pin(context.dead_letters.probe()),
            WaitsFor::Person => return,
        };
        match timeout(context.gate.probe, probe).await.unwrap_or_else(|_| Err(Fault::down("no answer to a probe"))) {
            Ok(()) => self.goes_on(),
            Err(fault) => {
                self.close_gate(why_of(&fault), self.waits_for, fault.detail);
            }
        }
    }

    /// What the gate waited for is there: one unit is tried.
    fn goes_on(&mut self) {
        if self.waits_for == WaitsFor::DeadLetters {
            self.aside.dead_letters_up();
        }
        self.gate.half_open();
        self.careful = true;
        self.failures_in_a_row = 0;
        if self.waits_for == WaitsFor::Person {
            self.context.status.clear(STOPPED);
            self.context.meter.dead_letters_stopped.set(0.0);
        }
        self.context.board.tell(LaneNote::Unblocks(self.key));
    }

    /// The route has had too many dead letters: the lane waits until a person has seen to it. Nothing is acknowledged.
    pub(super) fn stop(&mut self, too_many: TooMany, cause: &str) {
        let DeadLetterLimit { most, within } = too_many.limit;
        let within = humantime::format_duration(within);
        let context = self.context.clone();
        let reason = format!(
            "stopped: more than {most} messages were to be dead-lettered within {within}, the last because {cause}. Nothing more is \
             dead-lettered and nothing is lost: mend the cause, or raise `dead_letter: {{ most, within }}` of the route, then \
             start again"
        );
        if too_many.first {
            tracing::error!(route = context.route, hop = context.hop, partition = %self.key.target, most, %within, cause, "too many dead letters: the route is stopped until a person has mended the cause and started it again");
        }
        // Told once a hop; the partitions that wait are counted by their gates.
        if self.stopped_unsaid() {
            context.status.set(STOPPED, &*reason);
        }
        context.meter.dead_letters_stopped.set(1.0);
        context.meter.gate(self.key.target, true);
        self.gate.close(Why::Down, reason);
        self.waits_for = WaitsFor::Person;
    }

    /// The first reason stays: later ones would only change its last words.
    fn stopped_unsaid(&self) -> bool {
        self.context.status.reasons().iter().all(|(name, _)| name != STOPPED)
    }
}

pub(super) fn why_of(fault: &Fault) -> Why {
    if let FaultKind::Unavailable(why) = fault.kind { why } else { Why::Down }
}
