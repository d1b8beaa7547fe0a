//! The task that reads one partition together with the other instances of the group (`Shared`, `Key_Shared`): subscribed and
//! assigned all the time, nothing is ever revoked.
//!
//! - Each settled message is acknowledged on its own, with an answer ([`acks`]).
//! - What is given back goes to the group by another consumer in place of the one before, once nothing of the epoch lives and
//!   what settled is acknowledged: then hardly anything comes twice. Never by a request to redeliver.
//! - A lost connection gives everything that is not acknowledged to the group at once, while it still is in the pipeline's
//!   hands: the only case in which a message is delivered twice without a crash.

mod acks;
mod leaving;
mod opening;
mod reading;

use std::{future::pending, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};
use trestle_core::{BoxFuture, Event, Fault, PartitionId, Tracker};

use self::{acks::Due, reading::Reading};
use super::{
    consumer::{Consumer, Subscription},
    orders::Orders,
    pace::{Backoff, Pace},
    partition::{ready, tell},
};
use crate::connection::{ConsumerEvent, RequestError};

/// Frames taken at once at most.
const FRAMES: usize = 64;
/// Settled messages of one acknowledgement at most.
const ACKNOWLEDGED_AT_ONCE: usize = 20_000;
/// Nothing more is handed out while the broker has yet to confirm so many.
const UNCONFIRMED: usize = 100_000;
/// For the last commit when the source is closed, and again for closing the consumer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct SpreadPartition {
    subscription: Arc<Subscription>,
    orders: Arc<Orders>,
    events: mpsc::Sender<Result<Event, Fault>>,
    reading: Reading,
    tracker: Arc<Tracker>,
    /// The pipeline was told of the partition.
    assigned: bool,
    started: bool,
    consumer: Option<Consumer>,
    opening: Option<BoxFuture<'static, Result<Consumer, Fault>>>,
    backoff: Backoff,
    acking: Option<Acking>,
    /// The last acknowledgement failed: what waits for one waits no longer.
    ack_failed: bool,
    commit_wanted: bool,
    commits: Vec<oneshot::Sender<Result<(), Fault>>>,
    pace: Pace,
    /// Messages acknowledged so far: what `pace` calls progress.
    acknowledged: u64,
}

struct Acking {
    due: Due,
    answer: BoxFuture<'static, Result<(), RequestError>>,
    commits: Vec<oneshot::Sender<Result<(), Fault>>>,
}

/// What woke the task.
enum Woken {
    Heard(usize),
    Opened(Result<Consumer, Fault>),
    Acknowledged(Result<(), RequestError>),
    Ordered,
    Paused,
    Abandoned,
}

impl SpreadPartition {
    pub fn new(
        id: PartitionId,
        subscription: Arc<Subscription>,
        orders: Arc<Orders>,
        events: mpsc::Sender<Result<Event, Fault>>,
        receiver_queue: Option<u32>,
        largest_message: usize,
    ) -> Self {
        let wake = orders.clone();
        SpreadPartition {
            subscription,
            events,
            reading: Reading::new(receiver_queue, largest_message),
            tracker: Tracker::unordered(id, move || wake.wake.notify_one()),
            orders,
            assigned: false,
            started: false,
            consumer: None,
            opening: None,
            backoff: Backoff::default(),
            acking: None,
            ack_failed: false,
            commit_wanted: false,
            commits: Vec::new(),
            pace: Pace::default(),
            acknowledged: 0,
        }
    }

    pub async fn run(mut self) {
        let mut frames = Vec::with_capacity(FRAMES);
        loop {
            if self.consumer.is_none() && self.opening.is_none() {
                self.open();
            }
            match self.woken(&mut frames).await {
                Woken::Heard(0) => self.disconnected("the connection was lost"),
                Woken::Heard(_) => frames.drain(..).for_each(|event| self.hear(event)),
                Woken::Opened(opened) => self.opened(opened).await,
                Woken::Acknowledged(answered) => self.answered(answered),
                Woken::Ordered => {
                    if self.obey() {
                        return self.close().await;
                    }
                }
                Woken::Paused => {}
                Woken::Abandoned => return self.close().await,
            }
            self.acknowledge();
            self.give_back();
            self.hand_out().await;
            if let Err(error) = self.ask_for_more().await {
                self.disconnected(&error.to_string());
            }
        }
    }

    async fn woken(&mut self, frames: &mut Vec<ConsumerEvent>) -> Woken {
        let heard = async {
            match &mut self.consumer {
                Some(consumer) => consumer.events.recv_many(frames, FRAMES).await,
                None => pending().await,
            }
        };
        tokio::select! {
            heard = heard => Woken::Heard(heard),
            opened = ready(self.opening.as_mut()) => Woken::Opened(opened),
            answered = ready(self.acking.as_mut().map(|acking| &mut acking.answer)) => Woken::Acknowledged(answered),
            () = self.orders.wake.notified() => Woken::Ordered,
            () = self.pace.passed() => Woken::Paused,
            () = self.events.closed() => Woken::Abandoned,
        }
    }

    fn hear(&mut self, event: ConsumerEvent) {
        // What is left was said to a consumer that is given up.
        if self.consumer.is_none() {
            return;
        }
        match event {
            ConsumerEvent::Message(message, payload) => {
                self.backoff.reset();
                let wanted = self.started && self.tracker.is_running();
                self.reading.take(message, payload, wanted);
            }
            ConsumerEvent::Active(_) => {}
            ConsumerEvent::Closed => self.disconnected("the broker closed the consumer"),
            ConsumerEvent::EndOfTopic => {
                tracing::info!(topic = self.subscription.topic, "the topic was terminated and is read to its end");
            }
        }
    }

    /// Told once, and not insisted on: the next attempt fails with another.
    fn complain(&self, fault: Fault) {
        let _ = self.events.try_send(Err(fault));
    }

    /// Takes the pipeline's orders; true to close.
    fn obey(&mut self) -> bool {
        let orders = self.orders.take();
        self.commit_wanted |= orders.tick;
        self.commits.extend(orders.commits);
        if let Some(from) = orders.start {
            if let Some(from) = from {
                let kind = self.subscription.subscription_type.name();
                let detail = format!("a {kind} subscription has no position to begin at, and {from} was asked for");
                self.complain(Fault::down(detail));
            }
            self.started = true;
            self.reading.flow.grant(0);
        }
        if let Some(credit) = orders.credit {
            self.reading.flow.grant(credit);
        }
        orders.close
    }

    async fn hand_out(&mut self) {
        if !self.started || !self.tracker.is_running() || self.tracker.uncommitted() >= UNCONFIRMED {
            return;
        }
        while let Some(batch) = self.reading.next_batch(&self.tracker) {
            tell(&self.events, &self.orders, Event::Batch(batch)).await;
        }
    }

    async fn ask_for_more(&mut self) -> Result<(), RequestError> {
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        let wanted = self.started && self.tracker.is_running() && self.tracker.uncommitted() < UNCONFIRMED;
        if wanted
            && !self.reading.missed
            && let Some(permits) = self.reading.flow.due()
        {
            consumer.flow(permits).await?;
        }
        Ok(())
    }
}
