//! What a failure means for the head of a lane: wait, try again, search for the culprit, or dead-letter it.

use tokio::time::Duration;
use trestle_core::{Cause, Fault, FaultKind, Why};
use trestle_dlq::Report;

use super::{
    Context, LaneTask,
    at_gate::{WaitsFor, why_of},
};
use crate::{
    pipeline::{board::LaneNote, settle::Failure},
    policy::retry::Failures,
};

/// A broker that asks for a longer wait is asked again after this.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// The search for the one message that makes its unit fail.
pub(super) struct Bisect {
    /// Messages of a unit at most.
    pub unit: usize,
    /// Messages from the head on that the culprit is among.
    pub suspects: usize,
}

impl LaneTask {
    /// Answers a failure of the head, and perhaps of messages behind it.
    pub(super) async fn failed(&mut self, failure: Failure) {
        let Failure { fault, messages } = failure;
        self.failures_in_a_row += 1;
        let head = self.head();
        self.refill();
        // A head of an ended epoch is gone by now, and the next one has done nothing.
        let gone = self.head() != head;
        match fault.kind {
            FaultKind::Unavailable(why) => return self.close_gate(why, WaitsFor::Target, fault.detail),
            FaultKind::Unsure => {
                self.context.meter.retried("unsure");
                return self.close_gate(Why::Down, WaitsFor::Target, fault.detail);
            }
            FaultKind::Fenced => return self.fenced(&fault),
            FaultKind::Throttled(delay) => {
                self.context.meter.retried("throttled");
                return self.pause(delay.min(LONGEST_THROTTLE)).await;
            }
            FaultKind::Rejected(_) | FaultKind::Timeout if gone => {}
            FaultKind::Rejected(cause) if messages <= 1 => return self.dead_letter(cause, fault.detail).await,
            FaultKind::Rejected(_) => self.narrow(messages),
            FaultKind::Timeout => self.timed_out(&fault, messages).await,
        }
        if self.failures_in_a_row >= self.context.gate.failures && self.gate.is_open() {
            self.close_gate(Why::Down, WaitsFor::Target, fault.detail);
        }
    }

    /// The culprit is among the first `messages`: tries half of them next.
    pub(super) fn narrow(&mut self, messages: usize) {
        self.bisect = Some(Bisect { unit: messages.div_ceil(2).max(1), suspects: messages });
    }

    /// Writes the head to the dead-letter topic, and settles it once that is confirmed.
    pub(super) async fn dead_letter(&mut self, cause: Cause, error: String) {
        if self.aside.dead_letters_are_down() && self.set_aside_for_dead_letters(cause, &error) {
            return;
        }
        let context = self.context.clone();
        let admission = match context.nack_window.admit() {
            Ok(admission) => admission,
            Err(too_many) => return self.stop(too_many, &format!("{} ({})", error, cause.as_str())),
        };
        let Some(mut slice) = self.pending.pop_front() else { return };
        let head = slice.take_front(1);
        if !slice.is_empty() {
            self.pending.push_front(slice);
        }
        let Some(message) = head.first() else { return };
        let partition = head.batch().partition;
        let failures = self.failures.get(&partition).filter(|f| f.position == message.position).cloned();
        let failures = failures.unwrap_or_else(|| Failures::of(message.position));
        let report = Report {
            route: context.route.clone(),
            hop: context.hop.into(),
            origin: context.origin.into(),
            target: context.target.into(),
            source: format!("{}/{}/{}", context.source, partition, message.position),
            cause,
            error: error.clone(),
            attempts: failures.attempts.max(1),
            first_failed: failures.first_failed,
            last_failed: failures.last_failed,
            replays: 0,
        };
        match context.dead_letters.write(message, &report).await {
            Ok(()) => {
                admission.written();
                context.meter.dead_lettered(cause, &head);
                self.failures.remove(&partition);
                self.stored(std::slice::from_ref(&head));
                head.settle();
                self.bisect = None;
                self.dead_letters_work();
            }
            Err(fault) => {
                self.pending.push_front(head);
                self.failures.insert(partition, failures);
                if self.set_aside_for_dead_letters(cause, &error) {
                    return self.dead_letters_failed(&fault);
                }
                let error = format!("a dead letter cannot be written: {}", fault.detail);
                self.close_gate(why_of(&fault), WaitsFor::DeadLetters, error);
            }
        }
    }

    /// Another instance writes this lane now: what is pending is its business.
    pub(super) fn fenced(&mut self, fault: &Fault) {
        let Context { route, hop, .. } = &*self.context;
        tracing::warn!(route, hop, partition = %self.key.target, error = fault.detail, "another instance has taken this lane over");
        self.context.board.tell(LaneNote::Fenced(self.key, self.inbox.clone()));
        let all = self.all();
        self.context.board.give_back(all);
        self.inbox.close();
    }
}
