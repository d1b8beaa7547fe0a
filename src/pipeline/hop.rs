//! One hop: polls its source always, cuts what arrives into slices for its lanes, and answers assignments and revokes.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Duration, timeout},
};
use trestle_core::{
    Batch, BoxFuture, Done, Event, Fault, LaneKey, PartitionId, Position, Pulse, Sink, Source, SourceControl, Tracker,
};
use trestle_dlq::DeadLetters;

use super::{
    board::{Board, LaneNote},
    budget::Budget,
    edit::Edits,
    inbox::Inbox,
    lane::{Context, LaneTask},
    meter::Meter,
    partitions::{MaxAhead, Partitions},
    place::{Placement, place},
    status::Status,
    unread::Unread,
    watchdog::Watchdog,
};
use crate::policy::{dead_letter_limit::NackWindow, gate::GatePolicy, order::SetAside, rate::Limiter, retry::Retry};

/// How often gauges that nothing else moves are brought up to date.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

pub struct HopSpec {
    pub route: String,
    pub hop: &'static str,
    /// Protocol names of both ends.
    pub origin: &'static str,
    pub target: &'static str,
    /// `cluster/topic` of the source.
    pub source_name: String,
    /// What is done to each message before it is placed.
    pub edits: Edits,
    pub placement: Placement,
    /// Lanes belong to one source partition each and are taken over with it.
    pub fenced: bool,
    pub retry: Retry,
    pub gate: GatePolicy,
    pub set_aside: SetAside,
    /// What every send waits for: the hop's own limit first, then that of the cluster it writes to.
    pub rates: Vec<Arc<Limiter>>,
    /// Shared by all hops of the route.
    pub nack_window: Arc<NackWindow>,
    pub revoke_timeout: Duration,
    /// How long a drain may take, by what holds when it begins.
    pub grace: watch::Receiver<Duration>,
    pub max_ahead: MaxAhead,
    /// Whether reading goes on behind a gap, or stands still until a person decides.
    pub go_on_after_gap: bool,
    /// How long a part may say nothing although something is waited for, before the hop is set up anew.
    pub hung_after: Duration,
    /// Looks for what the source did not hand out.
    pub unread: Unread,
}

pub struct Hop {
    spec: HopSpec,
    source: Box<dyn Source>,
    control: Arc<dyn SourceControl>,
    budget: Arc<Budget>,
    context: Arc<Context>,
    lanes: BTreeMap<LaneKey, LaneHandle>,
    /// The last lane closed under each key. Opened late, it would fence its own successor, so that waits for its end.
    closed: BTreeMap<LaneKey, Ending>,
    tasks: JoinSet<()>,
    partitions: Partitions,
    /// Revokes that are being answered.
    revokes: FuturesUnordered<BoxFuture<'static, ()>>,
    must_grow: bool,
    watchdog: Watchdog,
    /// Batches that were placed.
    placed: usize,
}

struct LaneHandle {
    inbox: Arc<Inbox>,
    pulse: Arc<Pulse>,
    ending: Ending,
}

/// Tells when a lane's task has ended, to any number of waiters.
#[derive(Clone)]
struct Ending(watch::Receiver<()>);

impl Ending {
    async fn wait(mut self) {
        // Nothing is ever sent: the task drops the other end.
        while self.0.changed().await.is_ok() {}
    }
}

/// Why a hop ended in good order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It was told to, and drained.
    Drained,
    /// The source has partitions that the target lacks; it drained, and is to be set up anew.
    MustGrow,
}

/// A part of the hop died. Nothing is lost: what was not settled is read again.
#[derive(Debug, thiserror::Error)]
#[error("a {part} {cause}: {error}")]
pub struct HopFailed {
    /// `source`, `lane` or `dead-letter lane`.
    pub part: &'static str,
    /// `panicked`, `hung`, or `ended` without a reason.
    pub cause: &'static str,
    error: String,
}

impl HopFailed {
    fn of(error: &JoinError) -> Self {
        let cause = if error.is_panic() { "panicked" } else { "ended" };
        HopFailed { part: "lane", cause, error: error.to_string() }
    }

    fn hung(part: &'static str, error: String) -> Self {
        HopFailed { part, cause: "hung", error }
    }
}

impl Hop {
    pub fn new(
        spec: HopSpec,
        source: (Box<dyn Source>, Arc<dyn SourceControl>),
        sink: Arc<dyn Sink>,
        dead_letters: Arc<DeadLetters>,
        budget: Arc<Budget>,
        status: Arc<Status>,
        #[cfg(test)] sabotage: super::Sabotage,
    ) -> Self {
        let context = Context {
            route: spec.route.clone(),
            hop: spec.hop,
            origin: spec.origin,
            target: spec.target,
            source: spec.source_name.clone(),
            sink,
            dead_letters,
            retry: spec.retry.clone(),
            gate: spec.gate.clone(),
            set_aside: spec.set_aside,
            budget: budget.clone(),
            rates: spec.rates.clone(),
            nack_window: spec.nack_window.clone(),
            fenced: spec.fenced,
            meter: Arc::new(Meter::new(&spec.route, spec.hop)),
            status,
            board: Arc::new(Board::new()),
            #[cfg(test)]
            sabotage,
        };
        let partitions = Partitions::new(budget.clone(), spec.max_ahead);
        let watchdog = Watchdog::new(spec.hung_after, spec.unread.clone());
        let (source, control) = source;
        Hop {
            spec,
            source,
            control,
            budget,
            context: Arc::new(context),
            lanes: BTreeMap::new(),
            closed: BTreeMap::new(),
            tasks: JoinSet::new(),
            partitions,
            revokes: FuturesUnordered::new(),
            must_grow: false,
            watchdog,
            placed: 0,
        }
    }

    /// Runs until `shutdown` turns true, or until the target has to grow first; then drains.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<Ended, HopFailed> {
        let mut moved = self.budget.moved();
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        gauges.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.context.status.started();
        self.context.meter.route_up.set(1.0);
        let board = self.context.board.clone();
        let ended = loop {
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break Ok(Ended::Drained),
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        break Err(HopFailed::of(&error));
                    }
                }
                () = board.wake.notified() => self.read_board(),
                Some(()) = self.revokes.next() => {}
                Ok(()) = moved.changed() => self.partitions.refresh_all(&*self.control),
                event = self.source.next() => self.on_event(event),
                found = self.watchdog.looked() => self.watchdog.found(found, &self.partitions),
                _ = gauges.tick() => {
                    self.set_gauges();
                    if let Some(hung) = self.hung() {
                        break Err(hung);
                    }
                }
            }
            if self.must_grow {
                break Ok(Ended::MustGrow);
            }
        };
        self.context.meter.route_up.set(0.0);
        match &ended {
            Ok(_) => self.drain().await,
            Err(_) => {
                // What hangs may not even end.
                let end = async {
                    self.tasks.shutdown().await;
                    self.control.close().await;
                };
                let grace = *self.spec.grace.borrow();
                let _ = timeout(grace, end).await;
            }
        }
        ended
    }

    fn on_event(&mut self, event: Result<Event, Fault>) {
        match event {
            Ok(Event::Batch(batch)) => self.on_batch(batch),
            Ok(Event::Assigned(trackers)) => self.on_assigned(trackers),
            Ok(Event::Revoked { partitions, lost, done }) => self.on_revoked(partitions, lost, done),
            Ok(Event::Gap { partition, from, to }) => self.on_gap(partition, from, to),
            Ok(Event::Held { partition, why }) => return self.on_held(partition, why),
            Err(fault) => {
                if self.context.status.set("source", fault.to_string()) {
                    let HopSpec { route, hop, .. } = &self.spec;
                    tracing::warn!(route, hop, error = %fault, "reading is disturbed");
                }
                return;
            }
        }
        if self.context.status.clear("source") {
            let HopSpec { route, hop, .. } = &self.spec;
            tracing::info!(route, hop, "reading again");
        }
    }

    fn on_assigned(&mut self, trackers: Vec<Arc<Tracker>>) {
        let (route, hop) = (self.spec.route.clone(), self.spec.hop);
        let numbers: Vec<u32> = trackers.iter().map(|t| t.partition().0).collect();
        tracing::info!(route, hop, partitions = ?numbers, "assigned");
        for tracker in trackers {
            let partition = tracker.partition();
            self.partitions.assign(tracker);
            if self.spec.placement == Placement::Same && partition.0 >= self.context.sink.partitions() {
                tracing::info!(route, hop, %partition, "the target has no partition of this number yet: growing it first");
                self.must_grow = true;
                continue;
            }
            if self.spec.fenced {
                self.lane(LaneKey { target: partition, source: Some(partition) });
            }
            self.control.start(partition, None);
            self.partitions.refresh(partition, &*self.control);
        }
    }

    fn on_batch(&mut self, mut batch: Batch) {
        let (partition, messages, bytes) = (batch.partition, batch.messages.len(), batch.bytes);
        self.partitions.handed_out(&batch);
        // Handed out before its revoke and seen after it: whoever has the partition now reads it.
        let Some(state) = self.partitions.get(partition) else { return };
        self.context.meter.received(&batch);
        let (board, meter) = (self.context.board.clone(), self.context.meter.clone());
        let charge = self.budget.charge(bytes, &state.held, move || {
            meter.released(messages, bytes);
            board.released(partition);
        });
        batch.guard = Some(Box::new(charge));
        let abandoned = state.abandoned;
        let going = if abandoned { None } else { self.spec.edits.apply(&mut batch, &self.context.meter) };
        self.placed = self.placed.wrapping_add(1);
        for (target, slice) in place(batch, going, self.spec.placement, self.placed, &*self.context.sink) {
            if abandoned {
                self.context.board.give_back([slice]);
            } else {
                let source = self.spec.fenced.then_some(partition);
                self.lane(LaneKey { target, source }).put(slice);
            }
        }
        self.partitions.refresh(partition, &*self.control);
    }

    /// The inbox of a lane, which is started when it is not there yet.
    fn lane(&mut self, key: LaneKey) -> &Inbox {
        let (tasks, context, closed) = (&mut self.tasks, &self.context, &mut self.closed);
        let handle = self.lanes.entry(key).or_insert_with(|| {
            let (inbox, pulse, (end, ending)) = (Arc::new(Inbox::default()), Arc::default(), watch::channel(()));
            let task = LaneTask::new(key, inbox.clone(), Arc::clone(&pulse), context.clone());
            let before = closed.remove(&key);
            tasks.spawn(async move {
                if let Some(before) = before {
                    before.wait().await;
                }
                task.run().await;
                drop(end);
            });
            LaneHandle { inbox, pulse, ending: Ending(ending) }
        });
        &handle.inbox
    }

    fn on_revoked(&mut self, partitions: Vec<PartitionId>, lost: bool, done: Done) {
        let (route, hop, limit) = (self.spec.route.clone(), self.spec.hop, self.spec.revoke_timeout);
        let numbers: Vec<u32> = partitions.iter().map(|p| p.0).collect();
        tracing::info!(route, hop, partitions = ?numbers, lost, "revoked");
        let (mut trackers, mut lanes) = (Vec::new(), Vec::new());
        for partition in &partitions {
            self.context.status.clear(&held(*partition));
            let Some(state) = self.partitions.revoke(*partition) else { continue };
            trackers.push(state.tracker);
            if self.spec.fenced {
                let key = LaneKey { target: *partition, source: Some(*partition) };
                lanes.extend(self.close_lane(key));
            }
        }
        // The trackers have ended, so what is not sent drops now; what is sent has until the timeout to be settled.
        self.context.board.sweep();
        let control = self.control.clone();
        self.revokes.push(Box::pin(async move {
            let resolved = async {
                for tracker in &trackers {
                    tracker.idle().await;
                }
                for lane in lanes {
                    lane.wait().await;
                }
            };
            if timeout(limit, resolved).await.is_err() {
                tracing::warn!(route, hop, "sends were still in flight at the end of a revoke: they may come twice");
            }
            if !lost && let Err(fault) = timeout(limit, control.commit(partitions)).await.unwrap_or_else(|_| Err(Fault::timeout("no answer"))) {
                tracing::warn!(route, hop, error = %fault, "the positions of revoked partitions were not committed: some messages will come twice");
            }
            drop(done);
        }));
    }

    fn close_lane(&mut self, key: LaneKey) -> Option<Ending> {
        let handle = self.lanes.remove(&key)?;
        handle.inbox.close();
        self.closed.insert(key, handle.ending.clone());
        Some(handle.ending)
    }

    fn on_gap(&mut self, partition: PartitionId, from: Position, to: Position) {
        let HopSpec { route, hop, go_on_after_gap, .. } = &self.spec;
        self.context.meter.gap();
        if *go_on_after_gap {
            tracing::error!(route, hop, %partition, %from, %to, "messages are gone at the source before they were read: going on behind the gap");
            if let Some(state) = self.partitions.get(partition) {
                state.tracker.skip_to(to);
            }
            self.control.start(partition, Some(to));
            self.partitions.started(partition);
        } else {
            tracing::error!(route, hop, %partition, %from, %to, "messages are gone at the source before they were read: the partition stands still (set on_gap to earliest to go on)");
            if let Some(state) = self.partitions.get_mut(partition) {
                state.abandoned = true;
            }
            let reason = format!("messages {from} to {to} are gone at the source");
            self.context.status.set(format!("gap in partition {partition}"), reason);
        }
        self.partitions.refresh(partition, &*self.control);
    }

    /// Says nothing of whether reading is disturbed.
    fn on_held(&mut self, partition: PartitionId, why: Option<String>) {
        let HopSpec { route, hop, .. } = &self.spec;
        match why {
            Some(why) => {
                if self.context.status.set(held(partition), why.clone()) {
                    tracing::warn!(route, hop, %partition, "the source does not hand out what it has: {why}");
                }
            }
            None => {
                if self.context.status.clear(&held(partition)) {
                    tracing::info!(route, hop, %partition, "the source hands out what it held back");
                }
            }
        }
    }

    fn read_board(&mut self) {
        let notes = self.context.board.take();
        for note in notes.lanes {
            match note {
                LaneNote::Blocks(lane, partition) => {
                    self.partitions.block(partition, lane);
                    self.partitions.refresh(partition, &*self.control);
                }
                LaneNote::Unblocks(lane) => {
                    self.partitions.unblock(lane);
                    self.partitions.refresh_all(&*self.control);
                }
                LaneNote::Fenced(lane, inbox) => self.abandon(lane, &inbox),
            }
        }
        for partition in notes.released {
            self.partitions.refresh(partition, &*self.control);
        }
    }

    /// The lane is another instance's. Its source partition will be, too, as soon as its group has noticed.
    fn abandon(&mut self, lane: LaneKey, inbox: &Arc<Inbox>) {
        // Not one of an assignment that is over.
        if !self.lanes.get(&lane).is_some_and(|handle| Arc::ptr_eq(&handle.inbox, inbox)) {
            return;
        }
        let Some(handle) = self.lanes.remove(&lane) else { return };
        self.closed.insert(lane, handle.ending);
        self.context.board.give_back(handle.inbox.take());
        if let Some(state) = lane.source.and_then(|source| self.partitions.get_mut(source)) {
            state.abandoned = true;
        }
        self.partitions.refresh_all(&*self.control);
    }

    /// Finishes what is in flight, gives back what waits at closed gates, commits, and leaves.
    async fn drain(&mut self) {
        let HopSpec { route, hop, grace, .. } = &self.spec;
        tracing::info!(route, hop, "draining");
        let (route, hop, grace) = (route.clone(), *hop, *grace.borrow());
        self.partitions.stop(&*self.control);
        self.context.board.drain();
        if timeout(grace, self.finish()).await.is_err() {
            tracing::warn!(
                route,
                hop,
                "not everything was delivered within the grace: it is read again at the next start"
            );
        }
        let committed = timeout(grace, self.control.commit(self.partitions.iter().map(|(p, _)| *p).collect())).await;
        if let Err(fault) = committed.unwrap_or_else(|_| Err(Fault::timeout("no answer"))) {
            tracing::warn!(route, hop, error = %fault, "the last positions were not committed: some messages will come twice");
        }
        let keys: Vec<_> = self.lanes.keys().copied().collect();
        let closing: Vec<_> = keys.into_iter().filter_map(|key| self.close_lane(key)).collect();
        // A lane that does not close is ended with the hop.
        let _ = timeout(grace, futures::future::join_all(closing.into_iter().map(Ending::wait))).await;
        self.tasks.shutdown().await;
        self.context.dead_letters.close().await;
        self.control.close().await;
        tracing::info!(route, hop, "drained");
    }

    /// Resolves when nothing is in flight. What the source still hands out is delivered too: dropping it would end its
    /// epoch, and leave behind it what other lanes have stored already and the next instance would deliver again.
    async fn finish(&mut self) {
        let board = self.context.board.clone();
        while self.partitions.iter().any(|(_, p)| p.tracker.live_batches() > 0) {
            tokio::select! {
                biased;
                () = board.wake.notified() => self.read_board(),
                Some(()) = self.revokes.next() => {}
                event = self.source.next() => self.on_event(event),
            }
        }
    }

    /// What hangs, if anything does.
    fn hung(&mut self) -> Option<HopFailed> {
        let patience = self.spec.hung_after;
        let long = |pulse: &Pulse| pulse.silent_for().filter(|silent| *silent >= patience);
        if let Some((key, silent)) = self.lanes.iter().find_map(|(key, lane)| Some((key, long(&lane.pulse)?))) {
            let error = format!("the one into partition {} has had no answer for {silent:?}", key.target);
            return Some(HopFailed::hung("lane", error));
        }
        if let Some(silent) = long(self.context.dead_letters.pulse()) {
            return Some(HopFailed::hung("dead-letter lane", format!("it has had no answer for {silent:?}")));
        }
        self.watchdog.look(&self.partitions).map(|error| HopFailed::hung("source", error))
    }

    fn set_gauges(&mut self) {
        let meter = &self.context.meter;
        let oldest = self.partitions.iter().filter_map(|(_, p)| p.tracker.oldest_unsettled()).min();
        let age = oldest.map_or(0.0, |since| since.elapsed().as_secs_f64());
        meter.oldest_unsettled_age.set(age);
        meter.lag_seconds.set(age);
        meter.paused_partitions.set(self.partitions.paused() as f64);
        for lag in self.control.lag() {
            meter.lag(lag.partition, lag.behind, lag.unit);
        }
    }
}

/// The status's name for a partition of which the source holds something back.
fn held(partition: PartitionId) -> String {
    format!("held in partition {partition}")
}
