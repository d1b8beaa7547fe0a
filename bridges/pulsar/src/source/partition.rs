//! The task that reads one partition: subscribed all the time, reading while the broker says that it is the active one.

use std::{future::pending, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};
use trestle_core::{BoxFuture, Done, Event, Fault, PartitionId, Position, Restart, Tracker};

use super::{
    consumer::{Consumer, Subscription},
    orders::Orders,
    pace::{Backoff, Pace},
    reading::{LeftOut, Reading},
};
use crate::{
    acks::Ack,
    batch::EntryId,
    connection::{ConsumerEvent, RequestError},
};

/// Frames taken at once at most.
const FRAMES: usize = 64;
/// The broker has given the partition to another already, so a revoke waits no longer than this for `done` and the commit.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the last commit when the source is closed, and again for closing the consumer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct Partition {
    pub id: PartitionId,
    pub subscription: Arc<Subscription>,
    pub orders: Arc<Orders>,
    pub events: mpsc::Sender<Result<Event, Fault>>,
    pub reading: Reading,
    pub state: State,
}

#[derive(Default)]
pub(super) struct State {
    role: Role,
    /// The broker said on this very subscription that we are the active consumer.
    active: bool,
    consumer: Option<Consumer>,
    opening: Option<BoxFuture<'static, Result<Consumer, Fault>>>,
    backoff: Backoff,
    acking: Option<Acking>,
    commit_wanted: bool,
    commits: Vec<oneshot::Sender<Result<(), Fault>>>,
    seeking: Option<BoxFuture<'static, Result<(), RequestError>>>,
    pace: Pace,
    /// The entry that a redelivery left out, until a new consumer has shown whether it is still there.
    left_out: Option<EntryId>,
}

#[derive(Default)]
enum Role {
    #[default]
    Standby,
    Assigned(Assignment),
    Leaving(Leaving),
}

struct Assignment {
    tracker: Arc<Tracker>,
    started: bool,
    /// Where `start` said to begin, until the broker has gone there.
    seek: Option<Position>,
    /// The broker no longer has what is in front of this.
    gap: Option<Position>,
}

struct Leaving {
    tracker: Arc<Tracker>,
    /// The pipeline let go; what it settled is still to be committed.
    done: Option<BoxFuture<'static, ()>>,
    until: Instant,
}

struct Acking {
    ack: Ack,
    answer: BoxFuture<'static, Result<(), RequestError>>,
    commits: Vec<oneshot::Sender<Result<(), Fault>>>,
}

/// What woke the task.
enum Woken {
    Heard(usize),
    Opened(Result<Consumer, Fault>),
    Acknowledged(Result<(), RequestError>),
    Sought(Result<(), RequestError>),
    Ordered,
    LetGo,
    Paused,
    Abandoned,
}

impl Partition {
    pub async fn run(mut self) {
        let mut frames = Vec::with_capacity(FRAMES);
        loop {
            // Not while the subscription is being set to a position: the broker closes the consumers first and answers then.
            if self.state.consumer.is_none() && self.state.opening.is_none() && self.state.seeking.is_none() {
                self.open();
            }
            match self.woken(&mut frames).await {
                Woken::Heard(0) => self.disconnected("the connection was lost"),
                Woken::Heard(_) => {
                    for event in frames.drain(..) {
                        // What is left was said to a consumer that is given up.
                        if self.state.consumer.is_some() {
                            self.hear(event).await;
                        }
                    }
                }
                Woken::Opened(opened) => self.opened(opened),
                Woken::Acknowledged(answer) => self.acknowledged(answer),
                Woken::Sought(answer) => self.sought(answer),
                Woken::Ordered => {
                    if self.obey() {
                        return self.close().await;
                    }
                }
                Woken::LetGo => {
                    if let Role::Leaving(leaving) = &mut self.state.role {
                        leaving.done = None;
                    }
                }
                Woken::Paused => {}
                Woken::Abandoned => return self.close().await,
            }
            if let Err(error) = self.step().await {
                self.disconnected(&error.to_string());
            }
        }
    }

    async fn woken(&mut self, frames: &mut Vec<ConsumerEvent>) -> Woken {
        let state = &mut self.state;
        let letting_go = async {
            match &mut state.role {
                Role::Leaving(Leaving { done: Some(done), until, .. }) => {
                    let _ = tokio::time::timeout_at(*until, done).await;
                }
                Role::Leaving(leaving) => sleep_until(leaving.until).await,
                _ => pending().await,
            }
        };
        let heard = async {
            match &mut state.consumer {
                Some(consumer) => consumer.events.recv_many(frames, FRAMES).await,
                None => pending().await,
            }
        };
        tokio::select! {
            heard = heard => Woken::Heard(heard),
            opened = ready(state.opening.as_mut()) => Woken::Opened(opened),
            answer = ready(state.acking.as_mut().map(|acking| &mut acking.answer)) => Woken::Acknowledged(answer),
            answer = ready(state.seeking.as_mut()) => Woken::Sought(answer),
            () = self.orders.wake.notified() => Woken::Ordered,
            () = letting_go => Woken::LetGo,
            () = state.pace.passed() => Woken::Paused,
            () = self.events.closed() => Woken::Abandoned,
        }
    }

    fn open(&mut self) {
        let (subscription, epoch) = (self.subscription.clone(), self.reading.epoch + 1);
        let delay = self.state.backoff.next();
        self.reading.epoch = epoch;
        let open = async move {
            sleep(delay).await;
            subscription.open(epoch).await
        };
        self.state.opening = Some(open.boxed());
    }

    fn opened(&mut self, opened: Result<Consumer, Fault>) {
        self.state.opening = None;
        match opened {
            Ok(consumer) => {
                tracing::debug!(topic = self.subscription.topic, group = self.subscription.group, "subscribed");
                self.reading.flow.reset();
                if self.state.left_out.is_none() {
                    // The broker begins at the acknowledged position; what we know of the old delivery says nothing of the new.
                    self.reading.seen = Default::default();
                }
                self.reading.back(self.state.left_out, false);
                self.state.consumer = Some(consumer);
            }
            Err(fault) => self.complain(fault),
        }
    }

    /// Without a consumer from now on; a new one is opened.
    fn disconnected(&mut self, why: &str) {
        if self.state.consumer.take().is_none() {
            return;
        }
        tracing::info!(topic = self.subscription.topic, group = self.subscription.group, why, "subscribing again");
        self.state.active = false;
        let fault = Fault::down(format!("reading {}: {why}", self.subscription.topic));
        if let Some(acking) = self.state.acking.take() {
            answer(acking.commits, Err(&fault));
        }
        self.complain(fault);
    }

    async fn tell(&mut self, event: Event) {
        tell(&self.events, &self.orders, event).await;
    }

    /// Told once, and not insisted on: the next attempt fails with another.
    fn complain(&self, fault: Fault) {
        let _ = self.events.try_send(Err(fault));
    }

    async fn hear(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Message(message, payload) => {
                let wanted = match &self.state.role {
                    Role::Assigned(assignment) => assignment.is_reading(),
                    _ => false,
                };
                let entry = EntryId { ledger: message.message_id.ledger_id, entry: message.message_id.entry_id };
                match self.reading.take(message, payload, wanted) {
                    Err(left_out) => self.left_out(left_out).await,
                    // It was there after all, or nothing was.
                    Ok(()) if wanted && self.state.left_out.is_some_and(|from| from <= entry) => {
                        self.state.left_out = None
                    }
                    Ok(()) => {}
                }
            }
            ConsumerEvent::Active(active) => self.change(active).await,
            ConsumerEvent::Closed => self.disconnected("the broker closed the consumer"),
            ConsumerEvent::EndOfTopic => {
                tracing::info!(topic = self.subscription.topic, "the topic was terminated and is read to its end");
            }
        }
    }

    async fn left_out(&mut self, LeftOut { from, to }: LeftOut) {
        if self.state.left_out.replace(from) != Some(from) {
            tracing::info!(
                topic = self.subscription.topic,
                ?from,
                ?to,
                "a redelivery left entries out: subscribing again"
            );
            return self.subscribe_again();
        }
        // Expired, or skipped by an operator.
        self.state.left_out = None;
        self.reading.seen.forget_before(to);
        if let Role::Assigned(assignment) = &mut self.state.role {
            let (from, to) = (from.message(0), to.message(0));
            assignment.started = false;
            assignment.gap = Some(to);
            self.tell(Event::Gap { partition: self.id, from, to }).await;
        }
    }

    /// Leaves nothing to a redelivery: for a new consumer the broker goes back by itself, also when a read is under way.
    fn subscribe_again(&mut self) {
        let Some(old) = self.state.consumer.take() else { return };
        let (subscription, epoch) = (self.subscription.clone(), self.reading.epoch + 1);
        self.state.active = false;
        self.reading.epoch = epoch;
        let open = async move {
            // Where it fails the connection is lost, and the consumer with it.
            let _ = old.close().await;
            subscription.open(epoch).await
        };
        self.state.opening = Some(open.boxed());
    }

    /// ACTIVE_CONSUMER_CHANGE.
    async fn change(&mut self, active: bool) {
        let was = std::mem::replace(&mut self.state.active, active);
        self.state.backoff.reset();
        match (&self.state.role, active) {
            (Role::Standby, true) => self.assign().await,
            // On a new subscription: another one took over while we were away.
            (Role::Assigned(_), false) => self.revoke(!was).await,
            _ => {}
        }
    }

    async fn assign(&mut self) {
        tracing::info!(topic = self.subscription.topic, group = self.subscription.group, "assigned");
        let orders = self.orders.clone();
        let tracker = Tracker::new(self.id, move || orders.wake.notify_one());
        self.orders.assign(Some(tracker.clone()));
        self.reading.assign();
        self.state.left_out = None;
        if self.state.consumer.as_ref().is_some_and(|consumer| consumer.asked) {
            // Permits of the assignment before may have brought messages already, or bring them before they are asked for.
            self.subscribe_again();
        }
        self.state.pace = Pace::default();
        self.state.role =
            Role::Assigned(Assignment { tracker: tracker.clone(), started: false, seek: None, gap: None });
        self.tell(Event::Assigned(vec![tracker])).await;
    }

    async fn revoke(&mut self, lost: bool) {
        tracing::info!(topic = self.subscription.topic, group = self.subscription.group, lost, "revoked");
        let Role::Assigned(assignment) = std::mem::take(&mut self.state.role) else { return };
        assignment.tracker.end(lost);
        self.state.seeking = None;
        let (done, let_go) = Done::new();
        let until = Instant::now() + REVOKE_TIMEOUT;
        let done_heard = let_go.map(drop).boxed();
        self.state.role = Role::Leaving(Leaving { tracker: assignment.tracker, done: Some(done_heard), until });
        self.tell(Event::Revoked { partitions: vec![self.id], lost, done }).await;
    }

    /// Takes the pipeline's orders; true to close.
    fn obey(&mut self) -> bool {
        let orders = self.orders.take();
        self.state.commit_wanted |= orders.tick;
        self.state.commits.extend(orders.commits);
        if let Role::Assigned(assignment) = &mut self.state.role {
            if let Some(from) = orders.start {
                self.reading.flow.grant(0);
                if let Some(gap) = assignment.gap.take() {
                    assignment.tracker.skip_to(from.unwrap_or(gap));
                } else if !assignment.started {
                    assignment.seek = from;
                    self.reading.floor = from;
                }
                assignment.started = true;
            }
            if let Some(credit) = orders.credit {
                self.reading.flow.grant(credit);
            }
        }
        orders.close
    }

    /// Does all that can be done now. An error says that the consumer is lost.
    async fn step(&mut self) -> Result<(), RequestError> {
        self.read_on().await?;
        self.acknowledge();
        self.leave().await;
        Ok(())
    }

    async fn read_on(&mut self) -> Result<(), RequestError> {
        let (Role::Assigned(assignment), true) = (&mut self.state.role, self.state.active) else { return Ok(()) };
        let Some(consumer) = &mut self.state.consumer else { return Ok(()) };
        if !assignment.started || self.state.seeking.is_some() {
            return Ok(());
        }
        if let Some((id, _)) = assignment.seek.and_then(EntryId::of) {
            self.state.seeking = Some(consumer.seek(id.message_id()));
            return Ok(());
        }
        let tracker = assignment.tracker.clone();
        let prefix = tracker.commit_point().max(self.reading.acks.confirmed());
        let mut back = None;
        if tracker.is_running() {
            while let Some(batch) = self.reading.next_batch(&tracker) {
                tell(&self.events, &self.orders, Event::Batch(batch)).await;
            }
            let missed = self.reading.missed && self.reading.flow.credit() > 0 && !self.reading.is_holding();
            if missed {
                back = Some(prefix.and_then(|prefix| self.reading.acks.behind(prefix)));
            }
        } else if self.state.pace.allows(prefix) {
            back = tracker.restart().map(|restart| match restart {
                Restart::At(position) => EntryId::of(position).map(|(id, _)| id),
                Restart::After(position) => self.reading.acks.behind(position),
                Restart::AtStart => None,
            });
            if back.is_some() {
                self.state.pace.went_back(prefix);
            }
        }
        if let Some(next) = back {
            // Not for nothing: a redelivery is where a broker loses its place.
            let needed = consumer.asked && self.reading.seen.reaches(next);
            self.reading.back(next, needed);
            match (needed, next) {
                (true, Some(_)) => {
                    self.reading.epoch += 1;
                    consumer.redeliver(self.reading.epoch).await?;
                }
                // Whether the broker went back could not be told.
                (true, None) => {
                    self.subscribe_again();
                    return Ok(());
                }
                (false, _) => {}
            }
        }
        if tracker.is_running()
            && !self.reading.missed
            && let Some(permits) = self.reading.flow.due()
        {
            consumer.flow(permits).await?;
        }
        Ok(())
    }

    fn sought(&mut self, answer: Result<(), RequestError>) {
        self.state.seeking = None;
        match answer {
            Ok(()) => {
                if let Role::Assigned(assignment) = &mut self.state.role {
                    assignment.seek = None;
                }
                // The broker closes every consumer of the subscription now; frames from before must not be read.
                self.disconnected("the subscription was set to another position");
            }
            Err(error) => {
                let fault = self.subscription.fault("going to the position to start at in", &error);
                self.disconnected(&fault.to_string());
                self.complain(fault);
            }
        }
    }

    /// Acknowledges what is settled, if it is time to.
    fn acknowledge(&mut self) {
        let state = &mut self.state;
        let wanted = state.commit_wanted || !state.commits.is_empty();
        if !wanted || state.acking.is_some() {
            return;
        }
        let tracker = match &state.role {
            Role::Standby => None,
            Role::Assigned(assignment) => Some(&assignment.tracker),
            Role::Leaving(leaving) => Some(&leaving.tracker),
        };
        let due = tracker.and_then(|tracker| tracker.commit_point()).and_then(|prefix| self.reading.acks.due(prefix));
        state.commit_wanted = false;
        let commits = std::mem::take(&mut state.commits);
        match (due, &state.consumer) {
            (None, _) => answer(commits, Ok(())),
            (Some(ack), Some(consumer)) => {
                state.acking = Some(Acking { answer: consumer.acknowledge(ack.id.clone()), ack, commits });
            }
            (Some(_), None) => {
                answer(commits, Err(&Fault::down(format!("{} is not connected", self.subscription.topic))));
            }
        }
    }

    fn acknowledged(&mut self, answered: Result<(), RequestError>) {
        let Some(acking) = self.state.acking.take() else { return };
        match answered {
            Ok(()) => {
                let position = acking.ack.position;
                self.reading.acks.confirm(position);
                if let Some(next) = self.reading.acks.behind(position) {
                    self.reading.seen.forget_before(next);
                }
                if let Role::Assigned(Assignment { tracker, .. }) | Role::Leaving(Leaving { tracker, .. }) =
                    &self.state.role
                {
                    tracker.committed(position);
                }
                answer(acking.commits, Ok(()));
            }
            Err(error) => {
                let fault = self.subscription.fault("acknowledging in", &error);
                answer(acking.commits, Err(&fault));
                // What stays unacknowledged is acknowledged with what comes next, or at the next tick.
                self.complain(fault);
            }
        }
    }

    /// Completes a revoke once the pipeline let go and the commit is answered, or when it takes too long.
    async fn leave(&mut self) {
        let Role::Leaving(leaving) = &self.state.role else { return };
        let timed_out = Instant::now() >= leaving.until;
        if !timed_out {
            if leaving.done.is_some() || self.state.acking.is_some() {
                return;
            }
            let due = leaving.tracker.commit_point().and_then(|prefix| self.reading.acks.due(prefix));
            if due.is_some() && self.state.consumer.is_some() {
                self.state.commit_wanted = true;
                return self.acknowledge();
            }
        }
        self.state.role = Role::Standby;
        self.orders.assign(None);
        if self.state.active {
            self.assign().await;
        }
    }

    /// The end: what is settled is committed with an answer, and the consumer closed, each in bounded time.
    async fn close(mut self) {
        let tracker = match std::mem::take(&mut self.state.role) {
            Role::Standby => None,
            Role::Assigned(Assignment { tracker, .. }) | Role::Leaving(Leaving { tracker, .. }) => Some(tracker),
        };
        if let Some(tracker) = &tracker {
            tracker.end(false);
        }
        if let Some(opening) = self.state.opening.take()
            && let Ok(Ok(consumer)) = timeout(CLOSE_TIMEOUT, opening).await
        {
            // Else the broker would keep a consumer that nobody listens to.
            self.state.consumer = Some(consumer);
        }
        let Some(consumer) = self.state.consumer.take() else {
            let fault = Fault::down(format!("{} is not connected", self.subscription.topic));
            return answer(self.state.commits, Err(&fault));
        };
        let mut commits = std::mem::take(&mut self.state.commits);
        let commit = async {
            if let Some(acking) = self.state.acking.take() {
                commits.extend(acking.commits);
                if acking.answer.await.is_ok() {
                    self.reading.acks.confirm(acking.ack.position);
                }
            }
            let due = tracker.and_then(|tracker| tracker.commit_point()).and_then(|p| self.reading.acks.due(p));
            match due {
                Some(ack) => consumer.acknowledge(ack.id).await,
                None => Ok(()),
            }
        };
        let committed = match timeout(CLOSE_TIMEOUT, commit).await {
            Ok(committed) => committed.map_err(|error| self.subscription.fault("acknowledging in", &error)),
            Err(_) => Err(Fault::down(format!("{} did not answer the last commit", self.subscription.topic))),
        };
        if let Err(fault) = &committed {
            tracing::warn!(topic = self.subscription.topic, %fault, "closed without the last commit");
        }
        answer(commits, committed.as_ref().map(drop));
        let _ = timeout(CLOSE_TIMEOUT, consumer.close()).await;
    }
}

impl Assignment {
    fn is_reading(&self) -> bool {
        self.started && self.seek.is_none() && self.tracker.is_running()
    }
}

/// Waits until the pipeline takes events, but not once it closes the source: a batch is then dropped unsettled.
async fn tell(events: &mpsc::Sender<Result<Event, Fault>>, orders: &Orders, event: Event) {
    tokio::select! {
        _ = events.send(Ok(event)) => {}
        () = orders.closing() => {}
    }
}

async fn ready<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

fn answer(commits: Vec<oneshot::Sender<Result<(), Fault>>>, result: Result<(), &Fault>) {
    for commit in commits {
        // Who asked may have given up.
        let _ = commit.send(result.map_err(Clone::clone));
    }
}
