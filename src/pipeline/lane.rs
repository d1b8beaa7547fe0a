//! One lane: the ordered way of a hop into one target partition. It gathers what waits, keeps the lane's window full, and
//! decides what a failure means.
//!
//! Order is kept by three rules. Nothing is sent after a failure until every send in flight is resolved. What is left is
//! then resent from the first that is not stored, one unit at a time until one is stored. And what is given back unsent
//! ends its epoch first, so that nothing of the same source partition passes it in any lane.

use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt, stream::FuturesOrdered};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};
use trestle_core::{BoxFuture, Cause, Fault, FaultKind, Lane, LaneKey, PartitionId, Scope, Sent, Sink, Slice, Why};
use trestle_dlq::{DeadLetters, Report};

use super::{
    board::{Board, LaneNote},
    inbox::Inbox,
    meter::Meter,
    settle::{self, Failure},
    status::Status,
};
use crate::policy::{
    backoff::Backoff,
    gate::{FAILURES_IN_A_ROW, Gate, RELEASE_AFTER},
    retry::{Failures, Retry},
};

/// A broker that asks for a longer wait is asked again after this.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// What all lanes of a hop share.
pub(super) struct Context {
    pub route: String,
    pub hop: &'static str,
    /// Protocol names of both ends, and `cluster/topic` of the source, for dead letters.
    pub origin: &'static str,
    pub target: &'static str,
    pub source: String,
    pub sink: Arc<dyn Sink>,
    pub dead_letters: Arc<DeadLetters>,
    pub retry: Retry,
    pub send_timeout: Duration,
    /// The lanes are fenced: opened as soon as their source partition is assigned.
    pub fenced: bool,
    pub meter: Arc<Meter>,
    pub status: Arc<Status>,
    pub board: Arc<Board>,
    #[cfg(test)]
    pub sabotage: super::Sabotage,
}

pub(super) struct LaneTask {
    key: LaneKey,
    context: Arc<Context>,
    inbox: Arc<Inbox>,
    sweeps: watch::Receiver<u64>,
    lane: Option<Box<dyn Lane>>,
    /// In order; the first is next to be sent.
    pending: VecDeque<Slice>,
    gate: Gate,
    /// What the gate waits for.
    waits_for: WaitsFor,
    next_probe: Instant,
    probe_backoff: Backoff,
    retry_backoff: Backoff,
    failures_in_a_row: u32,
    /// Of the message at the head, if it failed before.
    failures: Option<Failures>,
    /// One unit in flight until one is stored.
    careful: bool,
    bisect: Option<Bisect>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Target,
    DeadLetters,
}

/// The search for the one message that makes its unit fail.
struct Bisect {
    /// Messages of a unit at most.
    unit: usize,
    /// Messages from the head on that the culprit is among.
    suspects: usize,
}

type InFlight = FuturesOrdered<BoxFuture<'static, (Vec<Slice>, Sent)>>;

impl LaneTask {
    pub fn new(key: LaneKey, inbox: Arc<Inbox>, context: Arc<Context>) -> Self {
        LaneTask {
            key,
            inbox,
            sweeps: context.board.sweeps(),
            lane: None,
            pending: VecDeque::new(),
            gate: Gate::Open,
            waits_for: WaitsFor::Target,
            next_probe: Instant::now(),
            probe_backoff: context.retry.backoff(key.target.0.into()),
            retry_backoff: context.retry.backoff(key.target.0.into()),
            failures_in_a_row: 0,
            failures: None,
            careful: false,
            bisect: None,
            context,
        }
    }

    /// Runs until the inbox is closed and nothing is left to do.
    pub async fn run(mut self) {
        if self.context.fenced {
            // Taking the lane over when the partition is assigned, not at its first message, keeps an instance that was
            // frozen in between from fencing out its successor.
            self.open().await;
        }
        loop {
            self.refill();
            if self.pending.is_empty() && self.inbox.is_closed() {
                break;
            }
            self.step().await;
        }
        self.set_gate_reason(None);
        if let Some(lane) = self.lane.take() {
            lane.close().await;
        }
    }

    async fn step(&mut self) {
        if self.gate.closed().is_some() {
            return self.wait_at_gate().await;
        }
        let Some(first) = self.pending.front() else { return self.wait_for_work().await };
        if let Some(defect) = first.first().and_then(|m| m.defect.clone()) {
            return self.dead_letter(defect.cause, defect.detail).await;
        }
        if let Some(error) = self.condemned() {
            return self.dead_letter(Cause::Timeout, error).await;
        }
        if !self.open().await {
            return;
        }
        if let Err(failure) = self.stream().await {
            self.failed(failure).await;
        }
    }

    /// Opens the lane if it is not open. A failure closes the gate.
    async fn open(&mut self) -> bool {
        if self.lane.is_none() {
            match self.context.sink.lane(self.key).await {
                Ok(lane) => self.lane = Some(lane),
                Err(fault) if fault.kind == FaultKind::Fenced => self.fenced(&fault),
                Err(fault) => self.close_gate(why_of(&fault), WaitsFor::Target, fault.detail),
            }
        }
        self.lane.is_some()
    }

    /// Sends what is pending and what arrives meanwhile until nothing is left, or something is not stored. Then all sends
    /// in flight are resolved, and what is left of them is pending again, in order.
    async fn stream(&mut self) -> Result<(), Failure> {
        let mut in_flight = InFlight::new();
        let inbox = self.inbox.clone();
        loop {
            self.fill_window(&mut in_flight);
            if in_flight.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some((unit, sent)) = in_flight.next() => {
                    let applied = self.apply(unit, sent);
                    let Some(failure) = applied.1 else { continue };
                    let mut left = applied.0;
                    while let Some((unit, sent)) = in_flight.next().await {
                        left.extend(self.apply(unit, sent).0);
                    }
                    for slice in left.into_iter().rev() {
                        self.pending.push_front(slice);
                    }
                    self.careful = true;
                    return Err(failure);
                }
                () = inbox.changed() => self.refill(),
                Ok(()) = self.sweeps.changed() => self.refill(),
            }
        }
    }

    fn fill_window(&mut self, in_flight: &mut InFlight) {
        while let Some(window) = self.lane.as_ref().map(|lane| lane.window()) {
            let window = if self.careful || self.bisect.is_some() { 1 } else { window };
            if in_flight.len() >= window {
                break;
            }
            let unit = self.gather();
            let Some(lane) = self.lane.as_mut().filter(|_| !unit.is_empty()) else { break };
            #[cfg(test)]
            if self.context.sabotage == super::Sabotage::AckBeforeSend {
                unit.iter().cloned().for_each(Slice::settle);
            }
            let sent = lane.send(unit.clone());
            in_flight.push_back(Box::pin(async move { (unit, sent.await) }));
        }
    }

    /// Takes the next unit from what is pending; empty when there is none, or when the head is a defect.
    fn gather(&mut self) -> Vec<Slice> {
        let limits = self.context.sink.limits();
        let mut messages = self.bisect.as_ref().map_or(limits.unit_messages, |b| b.unit).max(1);
        let mut bytes = limits.unit_bytes;
        let mut unit = Vec::new();
        while let Some(front) = self.pending.front_mut() {
            if !front.batch().is_current() {
                self.pending.pop_front();
                continue;
            }
            let (mut fit, mut used, mut whole) = (0, 0, true);
            for message in front.iter() {
                let size = message.size();
                let too_much = used + size > bytes && (fit > 0 || !unit.is_empty());
                if message.defect.is_some() || fit == messages || too_much {
                    whole = false;
                    break;
                }
                fit += 1;
                used += size;
            }
            if fit > 0 {
                unit.push(front.take_front(fit));
            }
            if !whole {
                break;
            }
            self.pending.pop_front();
            messages -= fit;
            bytes = bytes.saturating_sub(used);
            if messages == 0 || bytes == 0 {
                break;
            }
        }
        unit
    }

    /// Settles what was stored, and answers what was not.
    fn apply(&mut self, unit: Vec<Slice>, sent: Sent) -> (Vec<Slice>, Option<Failure>) {
        let applied = settle::apply(unit, sent);
        if applied.order_breaks > 0 {
            self.context.meter.order_breaks(applied.order_breaks);
            let Context { route, hop, .. } = &*self.context;
            tracing::warn!(route, hop, partition = %self.key.target, messages = applied.order_breaks, "stored behind a message that was not: an order break");
        }
        if !applied.stored.is_empty() {
            self.stored(applied.stored.iter().map(Slice::len).sum());
        }
        for slice in applied.stored {
            self.context.meter.delivered(&slice);
            #[cfg(test)]
            if self.context.sabotage == super::Sabotage::AckBeforeSend {
                continue;
            }
            slice.settle();
        }
        #[cfg(test)]
        if self.context.sabotage == super::Sabotage::SettlePastFailure && !applied.left.is_empty() {
            applied.left.into_iter().for_each(Slice::settle);
            return (Vec::new(), None);
        }
        (applied.left, applied.failure)
    }

    /// Messages were stored, or dead-lettered: whatever was wrong at the head is over.
    fn stored(&mut self, messages: usize) {
        self.failures_in_a_row = 0;
        self.failures = None;
        self.careful = false;
        self.retry_backoff.reset();
        self.probe_backoff.reset();
        if let Some(bisect) = &mut self.bisect {
            bisect.suspects = bisect.suspects.saturating_sub(messages);
            if bisect.suspects == 0 {
                self.bisect = None;
            }
        }
        if let Some(closed) = self.gate.open() {
            self.set_gate_reason(None);
            let Context { route, hop, .. } = &*self.context;
            tracing::info!(route, hop, partition = %self.key.target, closed_seconds = closed.as_secs_f64(), "the gate is open again");
        }
    }

    async fn failed(&mut self, failure: Failure) {
        let Failure { fault, messages } = failure;
        self.failures_in_a_row += 1;
        self.refill();
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
            FaultKind::Rejected(cause) if messages <= 1 && (fault.scope == Scope::Message || messages == 1) => {
                return self.dead_letter(cause, fault.detail).await;
            }
            FaultKind::Rejected(_) => self.narrow(messages),
            FaultKind::Timeout => self.timed_out(&fault, messages).await,
        }
        if self.failures_in_a_row >= FAILURES_IN_A_ROW && self.gate.is_open() {
            self.close_gate(Why::Down, WaitsFor::Target, fault.detail);
        }
    }

    /// The culprit is among the first `messages`: tries half of them next.
    fn narrow(&mut self, messages: usize) {
        self.bisect = Some(Bisect { unit: messages.div_ceil(2).max(1), suspects: messages });
    }

    /// A send was not confirmed in time. A target that does not answer a probe either is gone; one that does has spent an
    /// attempt of the head.
    async fn timed_out(&mut self, fault: &Fault, messages: usize) {
        let sink = self.context.sink.clone();
        let probe = timeout(self.context.send_timeout, sink.probe(self.key.target)).await;
        if let Err(fault) = probe.unwrap_or_else(|_| Err(Fault::down("no answer to a probe"))) {
            return self.close_gate(why_of(&fault), WaitsFor::Target, fault.detail);
        }
        self.context.meter.retried("timeout");
        let Some((partition, position)) = self.head() else { return };
        let mut failures =
            self.failures.take().filter(|f| f.is_of(partition, position)).unwrap_or(Failures::of(partition, position));
        failures.attempts += 1;
        failures.failed(&fault.detail);
        let spent = failures.spent(&self.context.retry) || self.bisect.is_some();
        self.failures = Some(failures);
        if !spent {
            let delay = self.retry_backoff.next();
            return self.pause(delay).await;
        }
        if messages > 1 {
            return self.narrow(messages);
        }
        self.seek_witness().await;
    }

    /// The head alone times out although the target answers. If its dead letter could be written, a witness is sent. Only a later message that is stored proves that the message
    /// is at fault, and not the target's write path.
    async fn seek_witness(&mut self) {
        if let Err(fault) = self.context.dead_letters.probe().await {
            let error = format!("a dead letter could not be written: {}", fault.detail);
            return self.close_gate(why_of(&fault), WaitsFor::DeadLetters, error);
        }
        let Some(mut slice) = self.pending.pop_front() else { return };
        let head = slice.take_front(1);
        if !slice.is_empty() {
            self.pending.push_front(slice);
        }
        let bisect = self.bisect.replace(Bisect { unit: 1, suspects: 1 });
        let witness = self.gather();
        self.bisect = bisect;
        let sent = match self.lane.as_mut().filter(|_| !witness.is_empty()) {
            Some(lane) => Some(lane.send(witness.clone()).await),
            None => None,
        };
        let Some(sent) = sent else {
            // Nothing to send past it: it is tried on, at the longest delay.
            self.pending.push_front(head);
            return self.pause(self.context.retry.max).await;
        };
        let failures = self.failures.take();
        let (left, failure) = self.apply(witness, sent);
        for slice in left.into_iter().rev() {
            self.pending.push_front(slice);
        }
        self.pending.push_front(head);
        self.failures = failures;
        match failure {
            None => {
                if let Some(failures) = &mut self.failures {
                    failures.condemned = true;
                }
            }
            Some(failure) => {
                if let Some(failures) = &mut self.failures {
                    failures.attempts = 0;
                }
                let error = format!("two messages in a row are not confirmed: {}", failure.fault.detail);
                self.close_gate(Why::Down, WaitsFor::Target, error);
            }
        }
    }

    /// The error of a head that is to be dead-lettered for having timed out.
    fn condemned(&self) -> Option<String> {
        let (partition, position) = self.head()?;
        self.failures.as_ref().filter(|f| f.condemned && f.is_of(partition, position)).map(|f| f.error.clone())
    }

    /// Writes the head to the dead-letter topic, and settles it once that is confirmed.
    async fn dead_letter(&mut self, cause: Cause, error: String) {
        let Some(mut slice) = self.pending.pop_front() else { return };
        let head = slice.take_front(1);
        if !slice.is_empty() {
            self.pending.push_front(slice);
        }
        let Some(message) = head.first() else { return };
        let failures = self.failures.take().filter(|f| f.is_of(head.batch().partition, message.position));
        let failures = failures.unwrap_or_else(|| Failures::of(head.batch().partition, message.position));
        let context = self.context.clone();
        let report = Report {
            route: context.route.clone(),
            hop: context.hop,
            origin: context.origin,
            target: context.target,
            source: format!("{}/{}/{}", context.source, head.batch().partition, message.position),
            cause,
            error,
            attempts: failures.attempts.max(1),
            first_failed: failures.first_failed,
            last_failed: failures.last_failed,
        };
        match context.dead_letters.write(message, &report).await {
            Ok(()) => {
                context.meter.dead_lettered(cause, &head);
                head.settle();
                self.stored(1);
                self.bisect = None;
            }
            Err(fault) => {
                self.pending.push_front(head);
                self.failures = Some(failures);
                let error = format!("a dead letter cannot be written: {}", fault.detail);
                self.close_gate(why_of(&fault), WaitsFor::DeadLetters, error);
            }
        }
    }

    /// Another instance writes this lane now: what is pending is its business.
    fn fenced(&mut self, fault: &Fault) {
        let Context { route, hop, .. } = &*self.context;
        tracing::warn!(route, hop, partition = %self.key.target, error = fault.detail, "another instance has taken this lane over");
        self.context.board.tell(LaneNote::Fenced(self.key));
        self.context.board.give_back(self.pending.drain(..));
        self.inbox.close();
    }

    fn close_gate(&mut self, why: Why, waits_for: WaitsFor, error: String) {
        let known = self.gate.why() == Some(why);
        self.gate.close(why, error.clone());
        self.waits_for = waits_for;
        self.next_probe = Instant::now() + self.probe_backoff.next();
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

    fn set_gate_reason(&self, reason: Option<&str>) {
        let name = format!("partition {}", self.key.target);
        self.context.meter.gate(self.key.target, reason.is_some());
        match reason {
            Some(reason) => self.context.status.set(name, reason),
            None => self.context.status.clear(&name),
        };
    }

    /// Waits for one thing to happen at a closed gate: a probe, something to give back, or something new to sweep.
    async fn wait_at_gate(&mut self) {
        let Some(closed) = self.gate.closed() else { return };
        if closed.released || self.context.board.draining() {
            self.release();
        }
        let Some(closed) = self.gate.closed() else { return };
        if self.inbox.is_closed() && self.pending.is_empty() {
            return;
        }
        let (release_at, released) = (closed.since + RELEASE_AFTER, closed.released);
        let inbox = self.inbox.clone();
        tokio::select! {
                biased;
            () = sleep_until(self.next_probe) => self.probe().await,
            () = sleep_until(release_at), if !released => {
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
        if self.pending.is_empty() {
            return;
        }
        let mut partitions: Vec<PartitionId> = self.pending.iter().map(|s| s.batch().partition).collect();
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions {
            self.context.board.tell(LaneNote::Blocks(self.key, partition));
        }
        self.context.board.give_back(self.pending.drain(..));
    }

    async fn probe(&mut self) {
        let context = self.context.clone();
        let probe: BoxFuture<'_, Result<(), Fault>> = match self.waits_for {
            WaitsFor::Target => context.sink.probe(self.key.target),
            WaitsFor::DeadLetters => Box::pin(context.dead_letters.probe()),
        };
        match timeout(context.send_timeout, probe).await.unwrap_or_else(|_| Err(Fault::down("no answer to a probe"))) {
            Ok(()) => {
                self.gate.half_open();
                self.careful = true;
                self.failures_in_a_row = 0;
                context.board.tell(LaneNote::Unblocks(self.key));
            }
            Err(fault) => {
                self.close_gate(why_of(&fault), self.waits_for, fault.detail);
            }
        }
    }

    /// Waits out a delay, or until the pending messages are of an ended epoch.
    async fn pause(&mut self, delay: Duration) {
        let until = sleep(delay);
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                () = &mut until => return,
                Ok(()) = self.sweeps.changed() => {
                    self.refill();
                    if self.pending.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    async fn wait_for_work(&mut self) {
        let inbox = self.inbox.clone();
        tokio::select! {
                biased;
            () = inbox.changed() => {}
            Ok(()) = self.sweeps.changed() => {}
        }
    }

    /// Takes what arrived and drops what is of an ended epoch.
    fn refill(&mut self) {
        self.pending.extend(self.inbox.take());
        self.pending.retain(|slice| slice.batch().is_current());
    }

    fn head(&self) -> Option<(PartitionId, trestle_core::Position)> {
        let slice = self.pending.front()?;
        Some((slice.batch().partition, slice.first()?.position))
    }
}

fn why_of(fault: &Fault) -> Why {
    if let FaultKind::Unavailable(why) = fault.kind { why } else { Why::Down }
}
