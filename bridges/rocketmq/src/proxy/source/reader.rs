//! The task that reads: it owns all there is, and whatever takes time runs beside it and comes back as something done.

mod done;
mod due;

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, MissedTickBehavior, interval},
};
use trestle_core::{BoxFuture, Event, Fault, SourceSpec, Tracker};

pub use self::done::Done;
use super::{
    Origin,
    closing::Waiter,
    hold::Hold,
    orders::Orders,
    pace::{Backoff, Pace},
};
use crate::proxy::{
    brokers,
    session::{Membership, Session},
};

/// Messages of one batch at most.
const BATCH_MESSAGES: usize = 500;
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often it is asked which brokers there are.
const LOOK: Duration = Duration::from_secs(30);
/// How often it is looked whether something is due; more often where commits are.
const TICK: Duration = Duration::from_millis(200);

pub struct Reader {
    pub membership: Arc<Membership>,
    origin: Origin,
    /// What our clients are called; each has its broker's number behind it.
    id: String,
    pub about: String,
    largest_message: usize,
    tick: Duration,
    pub orders: Arc<Orders>,
    events: mpsc::Sender<Result<Event, Fault>>,
    pub tracker: Arc<Tracker>,
    pub hold: Hold,
    /// Only grows: what is held knows its broker by its place here.
    pub brokers: Vec<Broker>,
    pub doings: FuturesUnordered<BoxFuture<'static, Done>>,
    renewals: usize,
    looking: bool,
    look_at: Instant,
    /// The pipeline was told of the partition.
    assigned: bool,
    started: bool,
    credit: u64,
    /// Bytes that are asked for and not here.
    expected: u64,
    /// Bytes of a large message, by those that came of late.
    largest: u64,
    pub waiters: Vec<Waiter>,
    pace: Pace,
    /// Messages acknowledged so far: what `pace` calls progress.
    acknowledged: u64,
}

/// A broker, and the session with its proxy.
pub struct Broker {
    name: String,
    address: String,
    pub session: Option<Session>,
    /// Which session it is: what is told of an earlier one does not count.
    generation: u64,
    /// It has the topic no more.
    gone: bool,
    opening: bool,
    /// Requests for messages on their way, of this session.
    receiving: usize,
    /// So many may be.
    receives: usize,
    /// Acknowledgements on their way, of this session.
    acknowledging: usize,
    /// It is time to acknowledge what is settled.
    due: bool,
    beat_at: Instant,
    receive_at: Instant,
    acknowledge_at: Instant,
    reopening: Backoff,
    refused: Backoff,
}

/// What woke the task.
enum Woken {
    Done(Done),
    HandedOut,
    Ordered,
    Ticked,
    Abandoned,
}

impl Reader {
    #[expect(clippy::too_many_arguments, reason = "called once, and each is something else")]
    pub fn new(
        membership: Arc<Membership>,
        origin: Origin,
        id: String,
        about: String,
        spec: SourceSpec,
        orders: Arc<Orders>,
        tracker: Arc<Tracker>,
        events: mpsc::Sender<Result<Event, Fault>>,
        found: BTreeMap<String, String>,
    ) -> Self {
        let mut reader = Reader {
            membership,
            origin,
            id,
            about,
            largest_message: spec.largest_message,
            tick: spec.commit_interval.clamp(Duration::from_millis(10), TICK),
            orders,
            events,
            tracker,
            hold: Hold::default(),
            brokers: Vec::new(),
            doings: FuturesUnordered::new(),
            renewals: 0,
            looking: false,
            look_at: Instant::now() + LOOK,
            assigned: false,
            started: false,
            credit: 0,
            expected: 0,
            largest: spec.largest_message as u64,
            waiters: Vec::new(),
            pace: Pace::default(),
            acknowledged: 0,
        };
        reader.looked(found);
        reader
    }

    pub async fn run(mut self) {
        let events = self.events.clone();
        let orders = self.orders.clone();
        let mut ticks = interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start_what_is_due();
            let (doing, handing_out) = (!self.doings.is_empty(), self.has_to_hand_out());
            let woken = tokio::select! {
                Some(done) = self.doings.next(), if doing => Woken::Done(done),
                Ok(permit) = events.reserve(), if handing_out => {
                    if let Some(event) = self.next_event() {
                        permit.send(Ok(event));
                    }
                    Woken::HandedOut
                }
                () = orders.wake.notified() => Woken::Ordered,
                _ = ticks.tick() => Woken::Ticked,
                () = events.closed() => Woken::Abandoned,
            };
            match woken {
                Woken::Done(done) => self.done(done),
                Woken::HandedOut => {}
                Woken::Ticked => self.brokers.iter_mut().for_each(|broker| broker.due = true),
                Woken::Ordered => {
                    if self.obey() {
                        return self.close().await;
                    }
                }
                Woken::Abandoned => return self.close().await,
            }
        }
    }

    /// Takes the pipeline's orders; true to close.
    fn obey(&mut self) -> bool {
        let orders = self.orders.take();
        for answer in orders.commits {
            self.waiters.extend(Waiter::new(&self.tracker, answer));
        }
        if let Some(from) = orders.start {
            if let Some(from) = from {
                let detail = "a group behind a gRPC proxy has no position to begin at";
                self.complain(Fault::down(format!("{}: {detail}, and {from} was asked for", self.about)));
            }
            (self.started, self.credit) = (true, 0);
        }
        if let Some(credit) = orders.credit {
            self.credit = credit;
        }
        orders.close
    }

    fn has_to_hand_out(&self) -> bool {
        let connected = self.brokers.iter().any(|broker| broker.session.is_some());
        (connected && !self.assigned)
            || (self.started && self.credit > 0 && self.hold.is_waiting() && self.tracker.is_running())
    }

    fn next_event(&mut self) -> Option<Event> {
        if !std::mem::replace(&mut self.assigned, true) {
            return Some(Event::Assigned(vec![self.tracker.clone()]));
        }
        // The message that crosses the line is still part of it.
        let batch = self.tracker.admit(self.hold.take(BATCH_MESSAGES, self.credit))?;
        self.credit = self.credit.saturating_sub(batch.bytes as u64);
        Some(Event::Batch(batch))
    }

    /// These brokers have the topic.
    fn looked(&mut self, mut found: BTreeMap<String, String>) {
        for broker in &mut self.brokers {
            match found.remove(&broker.name) {
                Some(address) => (broker.address, broker.gone) = (address, false),
                None => broker.gone = true,
            }
        }
        let now = Instant::now();
        for (name, address) in found {
            if self.brokers.len() >= brokers::MOST_BROKERS {
                tracing::warn!(topic = self.membership.topic, broker = name, "too many brokers: it is not read");
                continue;
            }
            self.brokers.push(Broker {
                name,
                address,
                session: None,
                generation: 0,
                gone: false,
                opening: false,
                receiving: 0,
                receives: 1,
                acknowledging: 0,
                due: false,
                beat_at: now,
                receive_at: now,
                acknowledge_at: now,
                reopening: Backoff::default(),
                refused: Backoff::default(),
            });
        }
    }

    /// Told once, and not insisted on: the next attempt fails with another.
    fn complain(&self, fault: Fault) {
        let _ = self.events.try_send(Err(fault));
    }
}
