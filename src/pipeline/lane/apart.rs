//! How a lane lets messages wait apart, and tries them again.

use tokio::time::{Duration, Instant, sleep, timeout};
use trestle_core::{BoxFuture, Cause, Fault, Slice};

use super::{
    Context, LaneTask,
    aside::{Until, Verdict},
    at_gate::{WaitsFor, why_of},
    failed::Bisect,
};
use crate::policy::order::Order;

impl LaneTask {
    /// Sets the head aside for a while, if the route's order allows it and the bound does.
    pub(super) fn set_aside(&mut self, delay: Duration) -> bool {
        self.set_aside_until(Until::At(Instant::now() + delay))
    }

    fn set_aside_until(&mut self, until: Until) -> bool {
        let Some((partition, position)) = self.head() else { return false };
        let failures = self.failures.get(&partition).filter(|f| f.position == position).cloned();
        let apart = self.aside.take(&mut self.pending, failures, until);
        if apart {
            self.failures.remove(&partition);
            self.bisect = None;
            self.count_aside();
        }
        apart
    }

    /// Whether there is nothing in this lane to bear witness against the head but what must not pass it.
    pub(super) fn only_its_own_wait(&self) -> bool {
        let Some(first) = self.pending.front() else { return false };
        let Some(head) = first.first() else { return false };
        let together = self.context.set_aside.order.together(first.batch().partition, head);
        let mut all = self.pending.iter().flat_map(|slice| slice.iter().map(|m| (slice.batch().partition, m)));
        self.pending.iter().map(Slice::len).sum::<usize>() > 1 && all.all(|(partition, m)| together.has(partition, m))
    }

    /// Sets the head aside for as long as its dead letter cannot be written.
    pub(super) fn set_aside_for_dead_letters(&mut self, cause: Cause, error: &str) -> bool {
        self.set_aside_until(Until::DeadLetters(Verdict { cause, error: error.to_owned() }))
    }

    /// The dead-letter topic could not be written: nobody tries before it answers again.
    pub(super) fn dead_letters_failed(&mut self, fault: &Fault) {
        let context = self.context.clone();
        let reason = format!("a dead letter cannot be written, and waits apart: {}", fault.detail);
        tracing::warn!(route = context.route, hop = context.hop, partition = %self.key.target, error = fault.detail, "a dead letter cannot be written: its message waits apart");
        context.status.set(self.dead_letters_status(), &*reason);
        let mut backoff = self.dead_letter_backoff.clone();
        let delay = self.dead_letter_backoff.delay();
        let back: BoxFuture<'static, ()> = Box::pin(async move {
            sleep(delay).await;
            while !matches!(timeout(context.gate.probe, context.dead_letters.probe()).await, Ok(Ok(()))) {
                sleep(backoff.delay()).await;
            }
        });
        self.aside.dead_letters_down(back);
    }

    /// A dead letter was written.
    pub(super) fn dead_letters_work(&mut self) {
        self.dead_letter_backoff.reset();
        self.context.status.clear(&self.dead_letters_status());
    }

    pub(super) fn dead_letters_status(&self) -> String {
        format!("dead letters of partition {}", self.key.target)
    }

    /// Whether something that waits apart is to be tried now. What the lane has trouble with comes first, so that what is
    /// known of it is not mixed up.
    pub(super) fn aside_is_next(&self) -> bool {
        !self.aside.is_empty()
            && (self.pending.is_empty() || (self.bisect.is_none() && !self.careful))
            && self.aside.is_due()
    }

    /// The budget needs what waits here for the dead-letter topic, which may take for ever.
    pub(super) fn must_give_way(&self) -> bool {
        self.aside.dead_letters_are_down() && !self.aside.is_empty() && self.context.budget.is_short()
    }

    /// Waits for the dead-letter topic in place, and so without holding anything.
    pub(super) fn give_way(&mut self) {
        let error = "a dead letter cannot be written, and memory is short".to_owned();
        self.close_gate(why_of(&Fault::down("")), WaitsFor::DeadLetters, error);
        if let Some(closed) = self.gate.closed_mut() {
            closed.released = true;
        }
    }

    /// What has waited long enough is next, the failed message alone.
    pub(super) async fn try_again(&mut self) {
        let Some(due) = self.aside.take_due() else { return };
        self.count_aside();
        if let (Some(failures), Some(first)) = (due.failures, due.slices.front()) {
            self.failures.insert(first.batch().partition, failures);
        }
        for slice in due.slices.into_iter().rev() {
            self.pending.push_front(slice);
        }
        match due.verdict {
            Some(Verdict { cause, error }) => self.dead_letter(cause, error).await,
            None => self.bisect = Some(Bisect { unit: 1, suspects: 1 }),
        }
    }

    /// Everything that this lane holds, which is given back.
    pub(super) fn all(&mut self) -> Vec<Slice> {
        let all = self.pending.drain(..).chain(self.aside.drain()).collect();
        self.count_aside();
        all
    }

    /// Whether a closed gate keeps what waits at it, so that other keys of the same source partitions go on.
    pub(super) fn keeps(&self) -> bool {
        let Context { set_aside, budget, .. } = &*self.context;
        set_aside.order != Order::Partition && self.waits_for != WaitsFor::Person && !budget.is_short()
    }

    /// Brings the gauge up to date.
    pub(super) fn count_aside(&mut self) {
        let now = self.aside.messages();
        self.context.meter.set_aside(self.counted_aside, now);
        self.counted_aside = now;
    }
}
