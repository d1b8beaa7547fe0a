//! The task that reads: it owns all there is, and whatever takes time runs beside it and comes back as something done.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant, MissedTickBehavior, interval, sleep},
};
use trestle_core::{BoxFuture, Event, Fault, Position, SourceSpec, Tracker};

use super::{
    Origin,
    closing::Waiter,
    faults::fault,
    handle::of_its_own,
    hold::{Acked, Hold, Number, Renewed},
    incoming::incoming,
    orders::Orders,
    pace::{Backoff, Pace},
};
use crate::proxy::{
    brokers,
    client::{CallError, Client},
    protocol::{AckEntry, Delivered, code},
    session::{Membership, Session, Telemetry},
};

/// Messages of one batch at most.
const BATCH_MESSAGES: usize = 500;
/// Messages asked for at once at most; more than brokers give (`MAX_MSG_NUMS_FOR_POP_REQUEST`) would not come.
const RECEIVED_AT_ONCE: u64 = 32;
/// Requests for messages on their way to one broker at most, while it has some.
const RECEIVES: usize = 4;
/// Messages of one acknowledgement at most, and acknowledgements on their way to one broker. A proxy inside a broker stores those of
/// one request one after the other, each flushed to disk (`LocalMessageService.ackMessage`), and those of several side by side.
const ACKNOWLEDGED_AT_ONCE: usize = 32;
const ACKNOWLEDGEMENTS: usize = 8;
/// Renewals on their way at once at most.
const RENEWALS: usize = 32;
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often it is asked which brokers there are.
const LOOK: Duration = Duration::from_secs(30);
/// A proxy that answers at once although it has nothing is not asked more often than this.
const EMPTY_PACE: Duration = Duration::from_millis(50);
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

pub enum Done {
    Opened {
        broker: usize,
        opened: Box<Opened>,
    },
    Ended {
        broker: usize,
        generation: u64,
        why: String,
    },
    Received {
        broker: usize,
        generation: u64,
        /// Bytes that were asked for.
        expected: u64,
        since: Instant,
        messages: Vec<Delivered>,
        ended: Result<(), CallError>,
    },
    Acknowledged {
        broker: usize,
        generation: u64,
        entries: Vec<(Number, AckEntry)>,
        answers: Answers,
    },
    Renewed {
        number: Number,
        entry: AckEntry,
        since: Instant,
        renewed: Result<String, CallError>,
    },
    Beaten {
        broker: usize,
        generation: u64,
        beaten: Result<(), CallError>,
    },
    Looked(Result<BTreeMap<String, String>, CallError>),
}

type Opened = Result<(Session, Telemetry), CallError>;

/// One for each entry, or what became of all.
pub type Answers = Result<Vec<Result<(), CallError>>, CallError>;

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

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        let forgotten = self.hold.settle(&self.tracker.commit_points(usize::MAX));
        if !forgotten.is_empty() {
            tracing::warn!(
                topic = self.membership.topic,
                group = self.membership.group,
                messages = forgotten.len(),
                "delivered, and taken for lost by the broker meanwhile: it hands them out again"
            );
            self.confirmed(&forgotten);
        }
        self.hand_out_again(now);
        for broker in 0..self.brokers.len() {
            self.open(broker);
            self.acknowledge(broker, now);
            self.beat(broker, now);
            self.receive(broker, now);
        }
        self.renew(now);
        self.look(now);
        self.fail_waiters_of_the_lost();
    }

    /// Where the epoch has ended and nothing of it lives.
    fn hand_out_again(&mut self, now: Instant) {
        if self.tracker.may_restart() && self.pace.allows(self.acknowledged, now) && self.tracker.restart().is_some() {
            self.hold.restart(now);
        }
    }

    fn open(&mut self, at: usize) {
        let Some(broker) = self.brokers.get_mut(at) else { return };
        if broker.session.is_some() || broker.opening || broker.gone {
            return;
        }
        broker.opening = true;
        let (delay, id) = (broker.reopening.next(), format!("{}@{at}", self.id));
        let (membership, name, address) = (self.membership.clone(), broker.name.clone(), broker.address.clone());
        self.doings.push(Box::pin(async move {
            sleep(delay).await;
            Done::Opened { broker: at, opened: Box::new(Session::open(membership, name, address, id).await) }
        }));
    }

    fn beat(&mut self, at: usize, now: Instant) {
        let Some(broker) = self.brokers.get_mut(at).filter(|broker| broker.beat_at <= now) else { return };
        let Some(session) = broker.session.clone() else { return };
        broker.beat_at = now + HEARTBEAT;
        let generation = broker.generation;
        self.doings
            .push(Box::pin(async move { Done::Beaten { broker: at, generation, beaten: session.heartbeat().await } }));
    }

    fn receive(&mut self, at: usize, now: Instant) {
        loop {
            let spoken_for = self.hold.waiting_bytes() as u64 + self.expected;
            let wanted = self.started && self.tracker.is_running() && !self.hold.is_full() && self.credit > spoken_for;
            let free = |broker: &&mut Broker| broker.receiving < broker.receives && broker.receive_at <= now;
            let Some(broker) = self.brokers.get_mut(at).filter(|broker| wanted && free(broker)) else { return };
            let Some(session) = broker.session.clone() else { return };
            let largest = self.largest.max(1);
            let most = ((self.credit - spoken_for) / largest).clamp(1, RECEIVED_AT_ONCE);
            let (generation, expected) = (broker.generation, most * largest);
            broker.receiving += 1;
            self.expected += expected;
            self.doings.push(Box::pin(async move {
                // Invisible from the moment at which the broker hands it out, which is no earlier than this.
                let since = Instant::now();
                let (messages, ended) = session.receive(most as usize).await;
                Done::Received { broker: at, generation, expected, since, messages, ended }
            }));
        }
    }

    fn acknowledge(&mut self, at: usize, now: Instant) {
        let wanted = !self.waiters.is_empty() || self.tracker.uncommitted() >= ACKNOWLEDGED_AT_ONCE;
        if wanted || self.brokers.get(at).is_some_and(|broker| broker.due) {
            self.acknowledge_now(at, now);
        }
    }

    pub fn acknowledge_now(&mut self, at: usize, now: Instant) {
        loop {
            let Some(broker) = self.brokers.get_mut(at) else { return };
            if broker.acknowledging >= ACKNOWLEDGEMENTS || broker.acknowledge_at > now {
                return;
            }
            let Some(session) = broker.session.clone() else { return };
            let entries = self.hold.acknowledge(at, ACKNOWLEDGED_AT_ONCE);
            if entries.is_empty() {
                broker.due = false;
                return;
            }
            broker.acknowledging += 1;
            let generation = broker.generation;
            self.doings.push(Box::pin(async move {
                let answers = session.acknowledge(entries.iter().map(|(_, entry)| entry.clone()).collect()).await;
                Done::Acknowledged { broker: at, generation, entries, answers }
            }));
        }
    }

    fn renew(&mut self, now: Instant) {
        let free = RENEWALS.saturating_sub(self.renewals);
        for (number, broker, entry) in self.hold.renew(now, free) {
            self.renewals += 1;
            let session = self.brokers.get(broker).and_then(|broker| broker.session.clone());
            let invisible = self.membership.invisible;
            self.doings.push(Box::pin(async move {
                let since = Instant::now();
                let renewed = match session {
                    Some(session) => session.change_invisible(entry.clone(), invisible).await,
                    None => Err(CallError::Unreachable("not connected".into())),
                };
                Done::Renewed { number, entry, since, renewed }
            }));
        }
    }

    fn look(&mut self, now: Instant) {
        if self.looking || now < self.look_at {
            return;
        }
        self.looking = true;
        let (origin, topic, id) = (self.origin.clone(), self.membership.topic.clone(), self.id.clone());
        self.doings.push(Box::pin(async move {
            let look = async {
                let client = Client::connect(&origin.address, id, origin.credentials).await?;
                brokers::readable(&client, &origin.address, &topic).await
            };
            Done::Looked(look.await)
        }));
    }

    pub fn done(&mut self, done: Done) {
        match done {
            Done::Opened { broker, opened } => self.opened(broker, *opened),
            Done::Ended { broker, generation, why } if self.is_current(broker, generation) => self.lost(broker, &why),
            Done::Ended { .. } => {}
            Done::Received { broker, generation, expected, since, messages, ended } => {
                self.expected -= expected;
                let came = !messages.is_empty();
                self.received(broker, since, messages);
                if self.is_current(broker, generation) {
                    self.receive_ended(broker, since, came, ended);
                }
            }
            Done::Acknowledged { broker, generation, entries, answers } => {
                self.acknowledgement_ended(broker, generation, entries, answers);
            }
            Done::Renewed { number, entry, since, renewed } => {
                self.renewals -= 1;
                let invisible = self.membership.invisible;
                let renewed = match renewed {
                    Ok(handle) => Renewed::Done { handle: of_its_own(handle), visible_at: since + invisible },
                    Err(error) if error.is_refused_with(code::INVALID_RECEIPT_HANDLE) => Renewed::RanOut,
                    Err(error) => {
                        tracing::debug!(topic = self.membership.topic, %error, "a message was not kept invisible");
                        Renewed::Failed
                    }
                };
                self.hold.renewed(number, &entry, renewed, Instant::now(), invisible);
            }
            Done::Beaten { broker, generation, beaten } if self.is_current(broker, generation) => match beaten {
                Ok(()) => {}
                Err(error) => self.lost(broker, &error.to_string()),
            },
            Done::Beaten { .. } => {}
            Done::Looked(looked) => {
                (self.looking, self.look_at) = (false, Instant::now() + LOOK);
                match looked {
                    Ok(found) => self.looked(found),
                    Err(error) => {
                        tracing::debug!(topic = self.membership.topic, %error, "the topic's brokers are not known");
                    }
                }
            }
        }
    }

    fn is_current(&self, broker: usize, generation: u64) -> bool {
        self.brokers.get(broker).is_some_and(|broker| broker.session.is_some() && broker.generation == generation)
    }

    fn opened(&mut self, at: usize, opened: Opened) {
        let about = self.about.clone();
        let Some(broker) = self.brokers.get_mut(at) else { return };
        broker.opening = false;
        match opened {
            Ok((session, telemetry)) => {
                tracing::debug!(topic = self.membership.topic, broker = broker.name, "a member of the group");
                let generation = broker.generation;
                broker.session = Some(session);
                broker.beat_at = Instant::now() + HEARTBEAT;
                self.doings.push(Box::pin(async move {
                    Done::Ended { broker: at, generation, why: telemetry.ended().await }
                }));
            }
            Err(error) => self.complain(fault(&error, &about)),
        }
    }

    /// The session is over; another one is opened.
    fn lost(&mut self, at: usize, why: &str) {
        let Some(broker) = self.brokers.get_mut(at) else { return };
        tracing::info!(topic = self.membership.topic, broker = broker.name, why, "connecting again");
        broker.session = None;
        broker.generation += 1;
        (broker.receiving, broker.acknowledging) = (0, 0);
        self.complain(Fault::down(format!("{}: {why}", self.about)));
    }

    pub fn received(&mut self, at: usize, since: Instant, messages: Vec<Delivered>) {
        if messages.is_empty() {
            return;
        }
        let mut largest = 0;
        for delivered in messages {
            largest = largest.max(delivered.body.len() as u64);
            let Some(incoming) = incoming(delivered, self.largest_message) else {
                self.complain(Fault::down(format!("{}: a message came without a handle", self.about)));
                continue;
            };
            largest = largest.max(incoming.message.size() as u64);
            self.hold.arrive(at, incoming, since, self.membership.invisible);
        }
        self.largest = largest.max(self.largest - self.largest / 8);
        if let Some(broker) = self.brokers.get_mut(at) {
            broker.reopening.reset();
            broker.refused.reset();
        }
    }

    fn receive_ended(&mut self, at: usize, since: Instant, came: bool, ended: Result<(), CallError>) {
        let Some(broker) = self.brokers.get_mut(at) else { return };
        broker.receiving -= 1;
        broker.receives = if came { RECEIVES } else { 1 };
        match ended {
            Ok(()) => {
                broker.reopening.reset();
                broker.refused.reset();
                broker.receive_at = if came { since } else { since + EMPTY_PACE };
            }
            Err(error) if error.is_of_the_connection() => self.lost(at, &error.to_string()),
            Err(error) => {
                broker.receive_at = Instant::now() + broker.refused.next();
                // A proxy at its limit says so, and is asked again later.
                if !error.is_refused_with(code::TOO_MANY_REQUESTS) {
                    self.complain(fault(&error, &self.about));
                }
            }
        }
    }

    fn acknowledgement_ended(
        &mut self,
        at: usize,
        generation: u64,
        entries: Vec<(Number, AckEntry)>,
        answers: Answers,
    ) {
        let mut failure = None;
        let mut answers = match answers {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                failure = Some(error);
                Vec::new().into_iter()
            }
        };
        let mut confirmed = Vec::new();
        for (number, entry) in &entries {
            let acked = match answers.next() {
                Some(Ok(())) => Acked::Done,
                Some(Err(error)) if error.is_refused_with(code::INVALID_RECEIPT_HANDLE) => Acked::RanOut,
                Some(Err(error)) => {
                    failure.get_or_insert(error);
                    Acked::Failed
                }
                None => Acked::Failed,
            };
            confirmed.extend(self.hold.acknowledged(*number, entry, acked));
        }
        self.confirmed(&confirmed);
        let current = self.is_current(at, generation);
        let Some(broker) = self.brokers.get_mut(at).filter(|_| current) else { return };
        broker.acknowledging -= 1;
        let Some(error) = failure else { return };
        // It is acknowledged with what comes next, a little later.
        broker.acknowledge_at = Instant::now() + TICK;
        let fault = fault(&error, &format!("{}: acknowledging", self.about));
        self.waiters.drain(..).for_each(|waiter| waiter.fail(&fault));
        match error.is_of_the_connection() {
            true => self.lost(at, &error.to_string()),
            false => self.complain(fault),
        }
    }

    /// Nothing more is to be done about these.
    pub fn confirmed(&mut self, positions: &[Position]) {
        if positions.is_empty() {
            return;
        }
        self.acknowledged += positions.len() as u64;
        self.tracker.committed_each(positions);
        let positions = positions.iter().copied().collect();
        self.waiters = self.waiters.drain(..).filter_map(|waiter| waiter.confirmed(&positions)).collect();
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
