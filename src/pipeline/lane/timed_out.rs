//! A message is dead-lettered for timing out only when the target takes others.

use tokio::time::timeout;
use trestle_core::{Cause, Fault, FaultKind, Why};

use super::{
    LaneTask,
    at_gate::{WaitsFor, why_of},
};
use crate::policy::retry::Failures;

impl LaneTask {
    /// A send was not confirmed in time. A target that does not answer a probe either is gone; one that does has spent an
    /// attempt of the head.
    pub(super) async fn timed_out(&mut self, fault: &Fault, messages: usize) {
        let sink = self.context.sink.clone();
        let probe = timeout(self.context.gate.probe, sink.probe(self.key.target)).await;
        if let Err(fault) = probe.unwrap_or_else(|_| Err(Fault::down("no answer to a probe"))) {
            return self.close_gate(why_of(&fault), WaitsFor::Target, fault.detail);
        }
        self.context.meter.retried("timeout");
        let Some((partition, position)) = self.head() else { return };
        let failures = self.failures.entry(partition).or_insert_with(|| Failures::of(position));
        if failures.position != position {
            *failures = Failures::of(position);
        }
        failures.attempts += 1;
        failures.failed(&fault.detail);
        let spent = failures.spent(&self.context.retry);
        let (attempts, witnessed, error) = (failures.attempts, failures.witnessed, failures.error.clone());
        if messages > 1 && (spent || self.bisect.is_some()) {
            // The others of the unit are as suspect, and each half tried is another attempt.
            return self.narrow(messages);
        }
        if !spent {
            // One that may be at fault alone; of several nobody knows which.
            let apart = self.context.retry.delay_after(attempts, self.key.target.0.into());
            if messages > 1 || !self.set_aside(apart) {
                let delay = self.retry_backoff.delay();
                self.pause(delay).await;
            }
        } else if witnessed {
            // Others were stored while it waited apart, and it failed again.
            self.dead_letter(Cause::Timeout, error).await;
        } else if self.only_its_own_wait() || !self.set_aside(self.context.retry.max) {
            self.seek_witness().await;
        }
    }

    /// The head alone times out although the target answers. If its dead letter could be written, the next message is sent
    /// past it, as a witness: only when that is stored is it the head's fault, and not that of the target's write path.
    async fn seek_witness(&mut self) {
        // Nor is one sent past it when its dead letter must not be written.
        if let Err(too_many) = self.context.clone().nack_window.admit() {
            return self.stop(too_many, "its sends are not confirmed (timeout)");
        }
        if let Err(fault) = self.context.dead_letters.probe().await {
            let error = format!("a dead letter could not be written: {}", fault.detail);
            return self.close_gate(why_of(&fault), WaitsFor::DeadLetters, error);
        }
        let Some(mut slice) = self.pending.pop_front() else { return };
        let head = slice.take_front(1);
        if !slice.is_empty() {
            self.pending.push_front(slice);
        }
        let (Some((skipped, witness)), Some(lane)) = (self.take_witness(), self.lane.as_mut()) else {
            // Nothing to send past it: it is tried on, at the longest delay.
            self.pending.push_front(head);
            return self.pause(self.context.retry.max).await;
        };
        let partition = head.batch().partition;
        self.pulse.waits();
        let sent = lane.send(vec![witness.clone()]).await;
        self.pulse.rests();
        // What is settled now is later than the head, whose failures are not over for that.
        let mut failures = self.failures.remove(&partition);
        let (left, failure) = self.apply(vec![witness], sent);
        self.put_back(left);
        match failure.map(|f| f.fault) {
            None => failures.iter_mut().for_each(|f| f.condemned = true),
            // It bears no witness, being at fault itself; the next one may.
            Some(Fault { kind: FaultKind::Rejected(cause), detail, .. }) => self.dead_letter(cause, detail).await,
            Some(fault) => {
                failures.iter_mut().for_each(Failures::outage);
                let error = format!("two messages in a row are not confirmed: {}", fault.detail);
                self.close_gate(Why::Down, WaitsFor::Target, error);
            }
        }
        self.put_back(skipped);
        self.pending.push_front(head);
        self.failures.extend(failures.map(|f| (partition, f)));
    }

    /// The error of a head that is to be dead-lettered for having timed out.
    pub(super) fn condemned(&self) -> Option<String> {
        let (partition, position) = self.head()?;
        let failures = self.failures.get(&partition)?;
        (failures.condemned && failures.position == position).then(|| failures.error.clone())
    }
}
