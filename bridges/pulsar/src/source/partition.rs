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
    sync::mpsc,
    time::{Instant, sleep_until},
};
use trestle_core::{BoxFuture, Done, Event, Fault, PartitionId, Position, Restart, Tracker};

use super::{
    consumer::{Consumer, Subscription},
    member::{FRAMES, Member, heard, ready},
    options::Options,
    orders::Orders,
    pace::Pace,
    reading::Reading,
};
use crate::{
    acks::Ack,
    batch::EntryId,
    connection::{ConsumerEvent, RequestError},
};

/// The broker has given the partition to another already, so a revoke waits no longer than this for `done` and the commit.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Partition {
    id: PartitionId,
    member: Member<Ack>,
    reading: Reading,
    role: Role,
    /// The broker said on this very subscription that we are the active consumer.
    active: bool,
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
    pub fn new(
        id: PartitionId,
        subscription: Arc<Subscription>,
        orders: Arc<Orders>,
        events: mpsc::Sender<Result<Event, Fault>>,
        options: &Options,
        largest_message: usize,
    ) -> Self {
        Partition {
            id,
            member: Member::new(subscription, orders, events),
            reading: Reading::new(options, largest_message),
            role: Role::Standby,
            active: false,
            seeking: None,
            pace: Pace::default(),
        }
    }

    pub async fn run(mut self) {
        let mut frames = Vec::with_capacity(FRAMES);
        loop {
            // Not while the subscription is being set to a position: the broker closes the consumers first and answers then.
            if self.member.consumer.is_none() && self.member.opening.is_none() && self.seeking.is_none() {
                self.member.open();
            }
            match self.woken(&mut frames).await {
                Woken::Heard(0) => self.disconnected("the connection was lost"),
                Woken::Heard(_) => {
                    for event in frames.drain(..) {
                        // What is left was said to a consumer that is given up.
                        if self.member.consumer.is_some() {
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
                    if let Role::Leaving(leaving) = &mut self.role {
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
        let letting_go = async {
            match &mut self.role {
                Role::Leaving(Leaving { done: Some(done), until, .. }) => {
                    let _ = tokio::time::timeout_at(*until, done).await;
                }
                Role::Leaving(leaving) => sleep_until(leaving.until).await,
                _ => pending().await,
            }
        };
        let member = &mut self.member;
        tokio::select! {
            heard = heard(&mut member.consumer, frames) => Woken::Heard(heard),
            opened = ready(member.opening.as_mut()) => Woken::Opened(opened),
            answer = ready(member.acking.as_mut().map(|acking| &mut acking.answer)) => Woken::Acknowledged(answer),
            answer = ready(self.seeking.as_mut()) => Woken::Sought(answer),
            () = member.orders.wake.notified() => Woken::Ordered,
            () = letting_go => Woken::LetGo,
            () = self.pace.passed() => Woken::Paused,
            () = member.events.closed() => Woken::Abandoned,
        }
    }

    async fn hear(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Message(message, payload) => {
                let wanted = match &self.role {
                    Role::Assigned(assignment) => assignment.is_reading(),
                    _ => false,
                };
                if wanted && let Err(why) = self.member.learn(&mut self.reading.schemas, &payload).await {
                    return self.disconnected(&why);
                }
                if let Err(gone) = self.reading.take(message, payload, wanted) {
                    self.gone(gone).await;
                }
            }
            ConsumerEvent::Active(active) => self.change(active).await,
            ConsumerEvent::Closed => self.disconnected("the broker closed the consumer"),
            ConsumerEvent::EndOfTopic => self.member.terminated(),
        }
    }

    /// ACTIVE_CONSUMER_CHANGE.
    async fn change(&mut self, active: bool) {
        let was = std::mem::replace(&mut self.active, active);
        self.member.backoff.reset();
        if !active {
            self.member.subscription.shared.store(true, Ordering::Relaxed);
        }
        match (&self.role, active) {
            (Role::Standby, true) => self.assign().await,
            // On a new subscription: another one took over while we were away.
            (Role::Assigned(_), false) => self.revoke(!was).await,
            _ => {}
        }
    }

    async fn assign(&mut self) {
        tracing::info!(topic = self.member.subscription.topic, group = self.member.subscription.group, "assigned");
        let orders = self.member.orders.clone();
        let tracker = Tracker::new(self.id, move || orders.wake.notify_one());
        self.member.orders.assign(Some(tracker.clone()));
        self.reading.assign();
        if self.member.consumer.as_ref().is_some_and(|consumer| consumer.asked) {
            // Permits of the assignment before may have brought messages already, or bring them before they are asked for.
            self.subscribe_again();
        }
        self.pace = Pace::default();
        self.role = Role::Assigned(Assignment { tracker: tracker.clone(), started: false, seek: None, gap: None });
        self.member.tell(Event::Assigned(vec![tracker])).await;
    }

    async fn revoke(&mut self, lost: bool) {
        tracing::info!(topic = self.member.subscription.topic, group = self.member.subscription.group, lost, "revoked");
        let Role::Assigned(assignment) = std::mem::take(&mut self.role) else { return };
        assignment.tracker.end(lost);
        self.seeking = None;
        let (done, let_go) = Done::new();
        let until = Instant::now() + REVOKE_TIMEOUT;
        let done_heard = let_go.map(drop).boxed();
        self.role = Role::Leaving(Leaving { tracker: assignment.tracker, done: Some(done_heard), until });
        self.member.tell(Event::Revoked { partitions: vec![self.id], lost, done }).await;
    }

    /// Takes the pipeline's orders; true to close.
    fn obey(&mut self) -> bool {
        let orders = self.member.ordered();
        if let Role::Assigned(assignment) = &mut self.role {
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
        let (Role::Assigned(assignment), true) = (&mut self.role, self.active) else { return Ok(()) };
        let Some(consumer) = &mut self.member.consumer else { return Ok(()) };
        if !assignment.started || self.seeking.is_some() {
            return Ok(());
        }
        if let Some((id, _)) = assignment.seek.and_then(EntryId::of) {
            self.seeking = Some(consumer.seek(id.message_id()));
            return Ok(());
        }
        let tracker = assignment.tracker.clone();
        let prefix = tracker.commit_point().max(self.reading.acks.confirmed());
        let mut back = None;
        if tracker.is_running() {
            while let Some(batch) = self.reading.next_batch(&tracker) {
                self.member.tell(Event::Batch(batch)).await;
            }
            let missed = self.reading.missed && self.reading.flow.credit() > 0 && !self.reading.is_holding();
            if missed {
                back = Some(prefix.and_then(|prefix| self.reading.acks.behind(prefix)));
            }
        } else if self.pace.allows(prefix) {
            back = tracker.restart().map(|restart| match restart {
                Restart::At(position) => EntryId::of(position).map(|(id, _)| id),
                Restart::After(position) => self.reading.acks.behind(position),
                Restart::AtStart => None,
            });
            if back.is_some() {
                self.pace.went_back(prefix);
            }
        }
        if let Some(next) = back {
            self.go_back(next);
        }
        let Some(consumer) = &mut self.member.consumer else { return Ok(()) };
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
