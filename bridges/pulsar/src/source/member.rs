//! What every task that reads a partition has: a consumer or one on its way, and commits that wait for an answer.

use std::{future::pending, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use trestle_core::{BoxFuture, Event, Fault};

use super::{
    consumer::{Consumer, Subscription},
    orders::{Open, Orders},
    pace::Backoff,
};
use crate::{
    connection::{ConsumerEvent, RequestError},
    frame::Payload,
    schema::Known,
};

/// Frames taken at once at most.
pub(super) const FRAMES: usize = 64;
/// For the last commit when the source is closed, and again for closing the consumer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

type Commits = Vec<oneshot::Sender<Result<(), Fault>>>;

/// `A` is what an acknowledgement says that is on its way.
pub(super) struct Member<A> {
    pub subscription: Arc<Subscription>,
    pub orders: Arc<Orders>,
    pub events: mpsc::Sender<Result<Event, Fault>>,
    pub consumer: Option<Consumer>,
    pub opening: Option<BoxFuture<'static, Result<Consumer, Fault>>>,
    pub backoff: Backoff,
    pub acking: Option<Acking<A>>,
    /// It is time to commit.
    pub commit_wanted: bool,
    pub commits: Commits,
}

pub(super) struct Acking<A> {
    pub what: A,
    pub answer: BoxFuture<'static, Result<(), RequestError>>,
    pub commits: Commits,
}

impl<A> Member<A> {
    pub fn new(
        subscription: Arc<Subscription>,
        orders: Arc<Orders>,
        events: mpsc::Sender<Result<Event, Fault>>,
    ) -> Self {
        Member {
            subscription,
            orders,
            events,
            consumer: None,
            opening: None,
            backoff: Backoff::default(),
            acking: None,
            commit_wanted: false,
            commits: Vec::new(),
        }
    }

    /// Has a consumer on its way, after a pause if the last attempt failed.
    pub fn open(&mut self) {
        let subscription = self.subscription.clone();
        let delay = self.backoff.next();
        let open = async move {
            sleep(delay).await;
            subscription.open().await
        };
        self.opening = Some(open.boxed());
    }

    /// Has another consumer on its way in place of this one.
    pub fn replace(&mut self, old: Consumer) {
        let subscription = self.subscription.clone();
        self.opening = Some(async move { subscription.replace(old).await }.boxed());
    }

    /// Whether there is a consumer now; else whoever waits for a commit is told.
    pub fn opened(&mut self, opened: Result<Consumer, Fault>) -> bool {
        self.opening = None;
        match opened {
            Ok(consumer) => {
                tracing::debug!(topic = self.subscription.topic, group = self.subscription.group, "subscribed");
                self.consumer = Some(consumer);
                true
            }
            Err(fault) => {
                answer(std::mem::take(&mut self.commits), Err(&fault));
                self.complain(fault);
                false
            }
        }
    }

    /// Without a consumer from now on; a new one is opened.
    pub fn disconnected(&mut self, why: &str) {
        if self.consumer.take().is_none() {
            return;
        }
        tracing::info!(topic = self.subscription.topic, group = self.subscription.group, why, "subscribing again");
        let fault = Fault::down(format!("reading {}: {why}", self.subscription.topic));
        if let Some(acking) = self.acking.take() {
            answer(acking.commits, Err(&fault));
        }
        self.complain(fault);
    }

    /// Has `schemas` know the schema of an entry. Without it the entry cannot be handed out; the error says why.
    pub async fn learn(&mut self, schemas: &mut Known, payload: &Payload) -> Result<(), String> {
        let Some(consumer) = &self.consumer else { return Ok(()) };
        let topic = &self.subscription.topic;
        schemas
            .learn(&consumer.connection, topic, payload)
            .await
            .map_err(|error| format!("asking for a schema: {error}"))
    }

    /// A commit cannot be made for want of a consumer.
    pub fn not_connected(&self) -> Fault {
        Fault::down(format!("{} is not connected", self.subscription.topic))
    }

    pub fn terminated(&self) {
        tracing::info!(topic = self.subscription.topic, "the topic was terminated and is read to its end");
    }

    /// Waits until the pipeline takes events, but not once it closes the source: a batch is then dropped unsettled.
    pub async fn tell(&mut self, event: Event) {
        tokio::select! {
            _ = self.events.send(Ok(event)) => {}
            () = self.orders.closing() => {}
        }
    }

    /// Told once, and not insisted on: the next attempt fails with another.
    pub fn complain(&self, fault: Fault) {
        let _ = self.events.try_send(Err(fault));
    }

    /// The pipeline's orders; those that ask for a commit are taken in.
    pub fn ordered(&mut self) -> Open {
        let mut orders = self.orders.take();
        self.commit_wanted |= orders.tick;
        self.commits.append(&mut orders.commits);
        orders
    }

    /// The consumer that is there, or the one on its way: else the broker would keep one that nobody listens to.
    pub async fn last_consumer(&mut self) -> Option<Consumer> {
        if let Some(opening) = self.opening.take()
            && let Ok(Ok(consumer)) = timeout(CLOSE_TIMEOUT, opening).await
        {
            self.consumer = Some(consumer);
        }
        if self.consumer.is_none() {
            answer(std::mem::take(&mut self.commits), Err(&self.not_connected()));
        }
        self.consumer.take()
    }

    /// Waits for the last commit and closes the consumer, each in bounded time.
    pub async fn close(self, consumer: &Consumer, commit: impl Future<Output = Result<(), RequestError>>) {
        let topic = &self.subscription.topic;
        let committed = match timeout(CLOSE_TIMEOUT, commit).await {
            Ok(committed) => committed.map_err(|error| self.subscription.fault("acknowledging in", &error)),
            Err(_) => Err(Fault::down(format!("{topic} did not answer the last commit"))),
        };
        if let Err(fault) = &committed {
            tracing::warn!(topic, %fault, "closed without the last commit");
        }
        answer(self.commits, committed.as_ref().map(drop));
        let _ = timeout(CLOSE_TIMEOUT, consumer.close()).await;
    }
}

/// What the consumer hears; stays pending without one. 0: the connection is lost.
pub(super) async fn heard(consumer: &mut Option<Consumer>, frames: &mut Vec<ConsumerEvent>) -> usize {
    match consumer {
        Some(consumer) => consumer.events.recv_many(frames, FRAMES).await,
        None => pending().await,
    }
}

pub(super) async fn ready<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

pub(super) fn answer(commits: Commits, result: Result<(), &Fault>) {
    for commit in commits {
        // Who asked may have given up.
        let _ = commit.send(result.map_err(Clone::clone));
    }
}
