//! One lane: the ordered way of a hop into one target partition. It gathers what waits, keeps the lane's window full, and
//! decides what a failure means.
//!
//! Order is kept by three rules. Nothing is sent after a failure until every send in flight is resolved. What is left is
//! then resent from the first that is not stored, one unit at a time until one is stored. And what is given back unsent
//! ends its epoch first, so that nothing of the same source partition passes it in any lane.

mod apart;
mod aside;
mod at_gate;
mod failed;
mod rated;
mod timed_out;
mod unit;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures::{StreamExt, stream::FuturesOrdered};
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep},
};
use trestle_core::{BoxFuture, Cause, FaultKind, Lane, LaneKey, PartitionId, Position, Pulse, Sent, Sink, Slice};
use trestle_dlq::DeadLetters;

use super::{
    board::{Board, LaneNote},
    budget::Budget,
    crash,
    inbox::Inbox,
    meter::Meter,
    settle::{self, Failure},
    status::Status,
};
use crate::policy::{
    backoff::Backoff,
    dead_letter_limit::NackWindow,
    gate::{Gate, GatePolicy},
    order::SetAside,
    rate::{Limiter, Turn},
    retry::{Failures, Retry},
};
use aside::Aside;
use at_gate::{WaitsFor, why_of};
use failed::Bisect;

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
    pub gate: GatePolicy,
    pub set_aside: SetAside,
    pub budget: Arc<Budget>,
    /// Limits on what is sent; usually none.
    pub rates: Vec<Arc<Limiter>>,
    pub nack_window: Arc<NackWindow>,
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
    /// Whether the route has had too many dead letters.
    stopped: watch::Receiver<bool>,
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
    /// Of the message of each source partition that failed last. They outlive its batch: read again, it goes on where it was.
    failures: BTreeMap<PartitionId, Failures>,
    /// One unit in flight until one is stored.
    careful: bool,
    bisect: Option<Bisect>,
    aside: Aside,
    /// What of it the gauge knows of.
    counted_aside: usize,
    dead_letter_backoff: Backoff,
    /// Moves when the memory budget may have become short.
    budget_moved: watch::Receiver<u64>,
    /// Whether the target's answer is waited for.
    pulse: Arc<Pulse>,
}

type InFlight = FuturesOrdered<BoxFuture<'static, (Vec<Slice>, Sent)>>;

impl LaneTask {
    pub fn new(key: LaneKey, inbox: Arc<Inbox>, pulse: Arc<Pulse>, context: Arc<Context>) -> Self {
        LaneTask {
            key,
            inbox,
            sweeps: context.board.sweeps(),
            stopped: context.nack_window.stopped(),
            lane: None,
            pending: VecDeque::new(),
            gate: Gate::Open,
            waits_for: WaitsFor::Target,
            next_probe: Instant::now(),
            probe_backoff: context.gate.backoff(key.target.0.into()),
            retry_backoff: context.retry.backoff(key.target.0.into()),
            failures_in_a_row: 0,
            failures: BTreeMap::new(),
            careful: false,
            bisect: None,
            aside: Aside::new(context.set_aside),
            counted_aside: 0,
            dead_letter_backoff: context.gate.backoff(key.target.0.into()),
            budget_moved: context.budget.moved(),
            pulse,
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
        self.context.status.clear(&self.dead_letters_status());
        drop(self.all());
        // Nobody else would, and its source partition may be assigned again already.
        self.context.board.tell(LaneNote::Unblocks(self.key));
        if let Some(lane) = self.lane.take() {
            lane.close().await;
        }
    }

    async fn step(&mut self) {
        if self.gate.closed().is_some() {
            return self.wait_at_gate().await;
        }
        if self.must_give_way() {
            return self.give_way();
        }
        if self.context.board.draining() && self.pending.is_empty() && !self.aside.is_empty() {
            let waiting = self.all();
            return self.context.board.give_back(waiting);
        }
        if self.aside_is_next() {
            return self.try_again().await;
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
            self.pulse.waits();
            let opened = self.context.sink.lane(self.key).await;
            self.pulse.rests();
            match opened {
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
        let mut turn: Option<BoxFuture<'static, Turn>> = None;
        let inbox = self.inbox.clone();
        loop {
            let something_else = self.aside_is_next() || self.must_give_way();
            if something_else {
                turn = None;
            } else if self.context.rates.is_empty() {
                while self.send_unit(&mut in_flight, None) {}
            } else if turn.is_none() {
                turn = self.ask_for_a_turn(&in_flight);
            }
            if in_flight.is_empty() {
                self.pulse.rests();
                if turn.is_none() {
                    return Ok(());
                }
            } else {
                self.pulse.waits();
            }
            tokio::select! {
                biased;
                Some((unit, sent)) = in_flight.next() => {
                    self.pulse.beats();
                    let applied = self.apply(unit, sent);
                    let Some(failure) = applied.1 else { continue };
                    let mut left = applied.0;
                    // Whoever waits behind this lane is not held up by its failure.
                    drop(turn.take());
                    while let Some((unit, sent)) = in_flight.next().await {
                        self.pulse.beats();
                        left.extend(self.apply(unit, sent).0);
                    }
                    self.pulse.rests();
                    for slice in left.into_iter().rev() {
                        self.pending.push_front(slice);
                    }
                    self.careful = true;
                    return Err(failure);
                }
                granted = rated::granted(&mut turn), if turn.is_some() => {
                    turn = None;
                    self.send_unit(&mut in_flight, Some(granted));
                }
                () = inbox.changed() => self.refill(),
                Ok(()) = self.sweeps.changed() => {
                    self.refill();
                    if self.pending.is_empty() {
                        turn = None;
                    }
                }
                () = self.aside.due(), if !self.aside.is_due() => {}
                Ok(()) = self.budget_moved.changed(), if self.aside.dead_letters_are_down() => {}
            }
        }
    }

    /// Sends one unit, if there is one and the window has room for it.
    fn send_unit(&mut self, in_flight: &mut InFlight, turn: Option<Turn>) -> bool {
        if self.window().is_none_or(|window| in_flight.len() >= window) {
            return false;
        }
        let unit = self.gather();
        let Some(lane) = self.lane.as_mut().filter(|_| !unit.is_empty()) else { return false };
        #[cfg(test)]
        if self.context.sabotage == super::Sabotage::AckBeforeSend {
            unit.iter().cloned().for_each(Slice::settle);
        }
        let sent = lane.send(unit.clone());
        if let Some(turn) = turn {
            turn.spend(unit.iter().map(Slice::len).sum(), unit.iter().map(Slice::bytes).sum());
        }
        in_flight.push_back(Box::pin(async move { (unit, sent.await) }));
        true
    }

    /// Units that may be in flight; nothing while the lane is not open.
    fn window(&self) -> Option<usize> {
        let window = self.lane.as_ref()?.window();
        Some(if self.careful || self.bisect.is_some() { 1 } else { window })
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
            self.aside.witness();
            self.stored(&applied.stored);
            crash::point(self.context.hop, "stored");
            for slice in applied.stored {
                self.context.meter.delivered(&slice);
                #[cfg(test)]
                if self.context.sabotage == super::Sabotage::AckBeforeSend {
                    continue;
                }
                slice.settle();
            }
            crash::point(self.context.hop, "settled");
        }
        #[cfg(test)]
        if self.context.sabotage == super::Sabotage::SettlePastFailure && !applied.left.is_empty() {
            applied.left.into_iter().for_each(Slice::settle);
            return (Vec::new(), None);
        }
        (applied.left, applied.failure)
    }

    /// These were stored, or dead-lettered: whatever was wrong at the head is over.
    fn stored(&mut self, slices: &[Slice]) {
        self.failures_in_a_row = 0;
        self.careful = false;
        self.retry_backoff.reset();
        self.probe_backoff.reset();
        let messages = slices.iter().map(Slice::len).sum();
        if !self.failures.is_empty() {
            for slice in slices {
                let partition = slice.batch().partition;
                let over = |f: &Failures| !f.condemned && slice.iter().any(|m| m.position >= f.position);
                if self.failures.get(&partition).is_some_and(over) {
                    self.failures.remove(&partition);
                }
            }
        }
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
            () = self.aside.due() => {}
            Ok(()) = self.budget_moved.changed(), if self.aside.dead_letters_are_down() => {}
        }
    }

    /// Takes what arrived and drops what is of an ended epoch.
    fn refill(&mut self) {
        let arrived = self.inbox.take();
        if self.aside.is_empty() {
            self.pending.extend(arrived);
        } else {
            // First: what arrives may be what is dropped here, read again.
            self.aside.sweep();
            self.pending.extend(self.aside.sort(arrived));
            self.count_aside();
        }
        self.pending.retain(|slice| slice.batch().is_current());
    }

    fn head(&self) -> Option<(PartitionId, Position)> {
        let slice = self.pending.front()?;
        Some((slice.batch().partition, slice.first()?.position))
    }
}
