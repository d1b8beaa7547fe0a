//! The task that reads one partition: subscribed all the time, reading while the broker says that it is the active one.

mod leaving;
mod opening;
mod returning;

use std::{
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use trestle_core::{BoxFuture, Done, Event, Fault, PartitionId, Position, Restart, Tracker};

use super::{
    consumer::{Consumer, Subscription},
    orders::Orders,
    pace::{Backoff, Pace},
    reading::Reading,
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
                Woken::Opened(opened) => self.opened(opened).await,
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
                if let Err(gone) = self.reading.take(message, payload, wanted) {
                    self.gone(gone).await;
                }
            }
            ConsumerEvent::Active(active) => self.change(active).await,
            ConsumerEvent::Closed => self.disconnected("the broker closed the consumer"),
            ConsumerEvent::EndOfTopic => {
                tracing::info!(topic = self.subscription.topic, "the topic was terminated and is read to its end");
            }
        }
    }

    /// ACTIVE_CONSUMER_CHANGE.
    async fn change(&mut self, active: bool) {
        let was = std::mem::replace(&mut self.state.active, active);
        self.state.backoff.reset();
        if !active {
            self.subscription.shared.store(true, Ordering::Relaxed);
        }
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
            self.go_back(next);
        }
        let Some(consumer) = &mut self.state.consumer else { return Ok(()) };
        if tracker.is_running()
            && !self.reading.missed
            && let Some(permits) = self.reading.flow.due()
        {
            consumer.flow(permits).await?;
        }
        Ok(())
    }
}

impl Assignment {
    fn is_reading(&self) -> bool {
        self.started && self.seek.is_none() && self.tracker.is_running()
    }
}

/// Waits until the pipeline takes events, but not once it closes the source: a batch is then dropped unsettled.
pub(super) async fn tell(events: &mpsc::Sender<Result<Event, Fault>>, orders: &Orders, event: Event) {
    tokio::select! {
        _ = events.send(Ok(event)) => {}
        () = orders.closing() => {}
    }
}

pub(super) async fn ready<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

pub(super) fn answer(commits: Vec<oneshot::Sender<Result<(), Fault>>>, result: Result<(), &Fault>) {
    for commit in commits {
        // Who asked may have given up.
        let _ = commit.send(result.map_err(Clone::clone));
    }
}
