use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::Rng;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use trestle_core::{
    BoxFuture, Cause, Fault, FaultKind, Guarantee, Lane, LaneKey, Limits, Message, Outcome, PartitionId, Position,
    Scope, Sent, Sink, SinkSpec, Slice,
};

use crate::{
    FaultSpec, Freeze, Poison, Sending, Writer,
    cluster::{Shared, State},
};

pub(crate) struct MemorySink {
    cluster: Arc<Shared>,
    spec: Arc<SinkSpec>,
}

impl MemorySink {
    pub fn new(cluster: Arc<Shared>, spec: SinkSpec) -> Self {
        MemorySink { cluster, spec: Arc::new(spec) }
    }

    /// Waits as long as the partition is frozen, and answers whether it can be reached.
    async fn reach(&self, partition: PartitionId, what: &str) -> Result<(), Fault> {
        let called = Instant::now();
        let deadline = called + self.spec.send_timeout;
        let latency = {
            let mut state = self.cluster.lock();
            let latency = state.settings.latency.clone();
            state.rng.random_range(latency)
        };
        sleep_until((called + latency).min(deadline)).await;
        let frozen = |state: &mut State| {
            state.partition(&self.spec.topic, partition.0).faults.frozen == Some(Freeze::Everything)
        };
        if latency > self.spec.send_timeout || !thawed(&self.cluster, frozen, deadline).await {
            return Err(Fault::timeout(format!("memory: {what} of {}/{partition} got no answer", self.spec.topic)));
        }
        let mut state = self.cluster.lock();
        state.partition(&self.spec.topic, partition.0).faults.down.clone().map_or(Ok(()), Err)
    }
}

/// Waits until `frozen` is false; false when it still is at the deadline.
async fn thawed(cluster: &Shared, frozen: impl Fn(&mut State) -> bool, deadline: Instant) -> bool {
    loop {
        let mut changed = std::pin::pin!(cluster.changed.notified());
        changed.as_mut().enable();
        if !frozen(&mut cluster.lock()) {
            return true;
        }
        tokio::select! {
            biased;
            () = changed => {}
            () = sleep_until(deadline) => return false,
        }
    }
}

impl Sink for MemorySink {
    fn limits(&self) -> Limits {
        self.cluster.lock().settings.limits
    }

    fn partitions(&self) -> u32 {
        self.cluster.lock().describe(&self.spec.topic).map_or(0, |info| info.partitions)
    }

    /// FNV-1a of the key.
    fn place(&self, key: &[u8]) -> PartitionId {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        PartitionId((hash % u64::from(self.partitions().max(1))) as u32)
    }

    fn probe(&self, partition: PartitionId) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.reach(partition, "probe"))
    }

    fn lane(&self, key: LaneKey) -> BoxFuture<'_, Result<Box<dyn Lane>, Fault>> {
        Box::pin(async move {
            self.reach(key.target, "opening a lane").await?;
            let (id, window) = self.cluster.change(|state| {
                let id = state.new_id();
                if self.spec.fenced {
                    state.partition(&self.spec.topic, key.target.0).fence = id;
                }
                (id, state.settings.window)
            });
            let way = Way {
                cluster: self.cluster.clone(),
                spec: self.spec.clone(),
                key,
                id,
                flights: Mutex::default(),
                turn: Notify::new(),
            };
            Ok(Box::new(MemoryLane { way: Arc::new(way), window, sends: 0, due: Instant::now() }) as Box<dyn Lane>)
        })
    }
}

struct MemoryLane {
    way: Arc<Way>,
    window: usize,
    sends: u64,
    /// When the send before is answered.
    due: Instant,
}

/// What a lane shares with its sends in flight.
struct Way {
    cluster: Arc<Shared>,
    spec: Arc<SinkSpec>,
    key: LaneKey,
    id: u64,
    /// In the order of the calls; the first has its turn. Its lock is taken before the cluster's.
    flights: Mutex<VecDeque<Flight>>,
    /// Notified when another has its turn.
    turn: Notify,
}

struct Flight {
    send: u64,
    unit: Arc<[Outgoing]>,
    /// One before it failed: it will not be stored.
    doomed: bool,
    /// Its future was dropped: what the broker did with it is settled when its turn comes.
    abandoned: bool,
    /// The broker has decided and stored so many; only the answer is not there yet.
    applied: Option<usize>,
}

struct Outgoing {
    origin: (PartitionId, Position),
    message: Message,
}

impl Lane for MemoryLane {
    fn window(&self) -> usize {
        self.window
    }

    /// Panics when more are in flight than the window allows.
    fn send(&mut self, slices: Vec<Slice>) -> BoxFuture<'static, Sent> {
        let outgoing = |slice: &Slice| {
            let partition = slice.batch().partition;
            let out = |m: &Message| Outgoing { origin: (partition, m.position), message: m.clone() };
            slice.iter().map(out).collect::<Vec<_>>()
        };
        let unit: Arc<[Outgoing]> = slices.iter().flat_map(outgoing).collect();
        self.sends += 1;
        let send = self.sends;
        let mut flights = self.way.flights();
        let in_flight = flights.iter().filter(|f| !f.abandoned).count();
        assert!(
            in_flight < self.window,
            "memory: {in_flight} sends in flight already, and the window is {}",
            self.window
        );
        flights.push_back(Flight { send, unit: unit.clone(), doomed: false, abandoned: false, applied: None });
        drop(flights);
        let called = Instant::now();
        self.due = self.due.max(called + self.way.latency());
        let number = self.way.called(&unit, called);
        let ticket = Ticket { way: self.way.clone(), send, number, unit, _slices: slices };
        Box::pin(ticket.fly(self.due, called + self.way.spec.send_timeout))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A send in flight; dropping it unanswered leaves its fate to the seed.
struct Ticket {
    way: Arc<Way>,
    send: u64,
    /// Its place among all sends into the partition.
    number: usize,
    unit: Arc<[Outgoing]>,
    /// Held as long as a real client would hold its copy.
    _slices: Vec<Slice>,
}

impl Ticket {
    async fn fly(self, due: Instant, deadline: Instant) -> Sent {
        if !self.turn().await {
            return self.land(Sent { runs: vec![(self.unit.len(), Outcome::NotSent)] }, false);
        }
        let mut due = due;
        let spec = self.way.take_fault(&self.unit);
        if let Some(FaultSpec::Hang) = spec {
            return std::future::pending().await;
        }
        if let Some(FaultSpec::Delay(delay)) = &spec {
            due += *delay;
        }
        sleep_until(due.min(deadline)).await;
        let timeout =
            || Fault::timeout(format!("memory: {}/{} got no answer", self.way.spec.topic, self.way.key.target));
        if due > deadline {
            self.way.apply_by_chance(self.send);
            return self.land(Sent::unknown(self.unit.len(), timeout()), false);
        }
        let frozen = |state: &mut State| self.way.faults(state).frozen.is_some();
        if !thawed(&self.way.cluster, frozen, deadline).await {
            return self.land(Sent::unknown(self.unit.len(), timeout()), false);
        }
        let verdict = self.way.judge(&self.unit, spec);
        self.way.apply(self.send, verdict.stored);
        if verdict.late {
            sleep_until(deadline).await;
        }
        self.land(verdict.sent, verdict.order_break)
    }

    /// Waits until all sends before are answered; false when one of them failed.
    async fn turn(&self) -> bool {
        loop {
            let mut turn = std::pin::pin!(self.way.turn.notified());
            turn.as_mut().enable();
            if let Some(first) = self.way.flights().front()
                && first.send == self.send
            {
                return !first.doomed;
            }
            turn.await;
        }
    }

    fn land(&self, sent: Sent, order_break: bool) -> Sent {
        let whole = sent.runs.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stored));
        self.way.leave(&mut self.way.flights(), whole || order_break);
        self.way.answered(self.number, &sent);
        sent
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut flights = self.way.flights();
        // Not there any more when it was answered.
        if let Some(flight) = flights.iter_mut().find(|f| f.send == self.send) {
            flight.abandoned = true;
            self.way.resolve_abandoned(&mut flights);
        }
    }
}

struct Verdict {
    sent: Sent,
    /// The first so many are stored.
    stored: usize,
    /// Answered when `send_timeout` is over.
    late: bool,
    order_break: bool,
}

impl Way {
    fn flights(&self) -> MutexGuard<'_, VecDeque<Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults<'a>(&self, state: &'a mut State) -> &'a mut crate::faults::PartitionFaults {
        &mut state.partition(&self.spec.topic, self.key.target.0).faults
    }

    fn latency(&self) -> std::time::Duration {
        let mut state = self.cluster.lock();
        let latency = state.settings.latency.clone();
        state.rng.random_range(latency)
    }

    /// Notes a send, and says its number.
    fn called(&self, unit: &[Outgoing], at: Instant) -> usize {
        let mut state = self.cluster.lock();
        let sendings = &mut state.partition(&self.spec.topic, self.key.target.0).sendings;
        let origins = unit.iter().map(|o| o.origin).collect();
        sendings.push(Sending { lane: self.id, origins, at, answer: None });
        sendings.len() - 1
    }

    fn answered(&self, number: usize, sent: &Sent) {
        let mut state = self.cluster.lock();
        let sendings = &mut state.partition(&self.spec.topic, self.key.target.0).sendings;
        if let Some(sending) = sendings.get_mut(number) {
            sending.answer = Some((sent.clone(), Instant::now()));
        }
    }

    fn take_fault(&self, unit: &[Outgoing]) -> Option<FaultSpec> {
        let messages: Vec<Message> = unit.iter().map(|o| o.message.clone()).collect();
        self.faults(&mut self.cluster.lock()).take(&messages)
    }

    /// What the broker does with a unit that reached it.
    fn judge(&self, unit: &[Outgoing], spec: Option<FaultSpec>) -> Verdict {
        let mut state = self.cluster.lock();
        let all = unit.len();
        if matches!(spec, Some(FaultSpec::Fence)) {
            let fence = state.new_id();
            state.partition(&self.spec.topic, self.key.target.0).fence = fence;
        }
        if let Some(fault) = self.blocked(&mut state) {
            return Verdict::of(Sent::refused(all, fault), 0);
        }
        let flaw = self.flaw(&state, unit);
        // Whatever is commanded, nothing from a flaw on is stored.
        let sound = flaw.as_ref().map_or(all, |(at, _)| *at);
        match (spec, flaw) {
            (Some(FaultSpec::Refuse(fault)), _) => Verdict::of(Sent::refused(all, fault), 0),
            (Some(FaultSpec::OrderBreak(fault)), _) => {
                Verdict { order_break: true, ..Verdict::of(Sent::refused(all, fault), 0) }
            }
            (Some(FaultSpec::RefuseAt { stored, fault }), _) if stored < sound => {
                Verdict::of(Sent::refused_at(stored, fault, all), stored)
            }
            (Some(FaultSpec::Unconfirmed { told, stored, fault }), _) => {
                let stored = stored.min(sound);
                let told = told.min(stored);
                let late = fault.kind == FaultKind::Timeout && told < all;
                let mut sent = Sent::stored(told);
                sent.runs.retain(|(n, _)| *n > 0);
                sent.push(all - told, Outcome::Unknown(fault));
                Verdict { late, ..Verdict::of(sent, stored) }
            }
            (_, Some((_, fault))) if fault.kind == FaultKind::Timeout => {
                Verdict { late: true, ..Verdict::of(Sent::unknown(all, fault), 0) }
            }
            (_, Some((_, fault))) if fault.scope == Scope::Batch => Verdict::of(Sent::refused(all, fault), 0),
            (_, Some((at, fault))) => Verdict::of(Sent::refused_at(at, fault, all), at),
            (Some(FaultSpec::Unsure), None) if self.spec.guarantee == Guarantee::Replicated => {
                let fault = Fault::new(FaultKind::Unsure, Scope::Partition, "memory: stored, not replicated");
                Verdict::of(Sent::unknown(all, fault), all)
            }
            (_, None) => Verdict::of(Sent::stored(all), all),
        }
    }

    fn blocked(&self, state: &mut State) -> Option<Fault> {
        let partition = state.partition(&self.spec.topic, self.key.target.0);
        if self.id < partition.fence {
            let detail = format!("memory: {}/{} was taken over", self.spec.topic, self.key.target);
            return Some(Fault::new(FaultKind::Fenced, Scope::Partition, detail));
        }
        partition.faults.down.clone()
    }

    /// What keeps the unit from being stored whole, and the first message that may not be stored for it.
    fn flaw(&self, state: &State, unit: &[Outgoing]) -> Option<(usize, Fault)> {
        let poison = state.topics.get(&self.spec.topic).map(|t| t.poison.as_slice()).unwrap_or_default();
        let max = if self.spec.split_large { usize::MAX } else { state.settings.max_message };
        let mut first = None;
        for (at, out) in unit.iter().enumerate() {
            match poison.iter().find(|(is_poison, _)| is_poison(&out.message)).map(|(_, poison)| *poison) {
                Some(whole @ (Poison::Batch | Poison::Timeout)) => return Some((0, whole.fault())),
                Some(Poison::Message) => {
                    first.get_or_insert((at, Poison::Message.fault()));
                }
                None if payload(&out.message) > max => {
                    let detail = format!("memory: {} bytes, and {max} are allowed", payload(&out.message));
                    first.get_or_insert((at, Fault::rejected(Cause::TooLarge, detail)));
                }
                None => {}
            }
        }
        first
    }

    /// Stores the first messages of the send that has its turn.
    fn apply(&self, send: u64, stored: usize) {
        if let Some(flight) = self.flights().front_mut() {
            debug_assert_eq!(flight.send, send);
            self.store(flight, stored);
        }
    }

    fn apply_by_chance(&self, send: u64) {
        if let Some(flight) = self.flights().front_mut() {
            debug_assert_eq!(flight.send, send);
            self.store(flight, self.chance(&flight.unit));
        }
    }

    fn store(&self, flight: &mut Flight, stored: usize) {
        flight.applied = Some(stored.min(flight.unit.len()));
        self.cluster.change(|state| {
            for out in flight.unit.iter().take(stored) {
                let by = Writer::Lane {
                    lane: self.id,
                    route: self.spec.route.clone(),
                    hop: self.spec.hop,
                    key: self.key,
                    origin: out.origin,
                };
                state.partition(&self.spec.topic, self.key.target.0).log.append(out.message.clone(), by);
            }
        });
    }

    /// How many of a unit that nobody waits for are stored: none, all or some.
    fn chance(&self, unit: &[Outgoing]) -> usize {
        let mut state = self.cluster.lock();
        if self.blocked(&mut state).is_some() || self.faults(&mut state).frozen.is_some() {
            return 0;
        }
        let sound = self.flaw(&state, unit).map_or(unit.len(), |(at, _)| at);
        match state.rng.random_range(0..3) {
            0 => 0,
            1 => sound,
            _ => state.rng.random_range(0..=sound),
        }
    }

    /// The first send is answered. Unless it went `well`, those behind it are not stored any more.
    fn leave(&self, flights: &mut VecDeque<Flight>, well: bool) {
        flights.pop_front();
        if !well {
            flights.iter_mut().for_each(|f| f.doomed = true);
        }
        self.resolve_abandoned(flights);
    }

    fn resolve_abandoned(&self, flights: &mut VecDeque<Flight>) {
        while let Some(first) = flights.front_mut()
            && first.abandoned
        {
            if first.applied.is_none() && !first.doomed {
                let stored = self.chance(&first.unit);
                self.store(first, stored);
            }
            let well = first.applied == Some(first.unit.len());
            flights.pop_front();
            if !well {
                flights.iter_mut().for_each(|f| f.doomed = true);
            }
        }
        self.turn.notify_waiters();
    }
}

impl Verdict {
    fn of(sent: Sent, stored: usize) -> Self {
        Verdict { sent, stored, late: false, order_break: false }
    }
}

fn payload(message: &Message) -> usize {
    let optional = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = message.headers.iter().map(|h| h.name.len() + optional(&h.value)).sum();
    optional(&message.key) + optional(&message.value) + headers
}

#[cfg(test)]
mod tests;
