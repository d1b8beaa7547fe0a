//! A member of a consumer group: one thread that always polls, steered through an inbox, heard through a bounded channel.

mod commits;
mod config;
mod gather;
mod held;
mod identity;
mod inbox;
mod lookup;
mod outbox;
mod partition;
mod reader;
mod rebalance;
mod steer;
mod thread;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use identity::Identity;
pub(crate) use lookup::list;
use rdkafka::{client::ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};
use tokio::sync::{mpsc, oneshot, watch};
use trestle_core::{
    BoxFuture, Event, Fault, Lag, PartitionId, Position, Source, SourceControl, SourcePair, SourceSpec,
};

use crate::settings::Settings;
use inbox::{CommitRequest, Inbox};

/// Events between the thread and `next`. Batches wait no longer here than behind credit, so a few are enough.
const EVENTS: usize = 64;
/// `close` answers after this time at the latest; what is left is freed by the thread on its own.
const CLOSE_LIMIT: Duration = Duration::from_secs(15);

/// `partitions`: of the topic, as far as is known.
pub(crate) fn open(
    cluster: &str,
    settings: &Settings,
    spec: SourceSpec,
    partitions: usize,
) -> Result<SourcePair, Fault> {
    let (sender, events) = mpsc::channel(EVENTS);
    let (ended, ends) = watch::channel(());
    let shared = Arc::new(Shared { inbox: Arc::new(Inbox::default()), lag: Mutex::default() });
    let mut config = config::consumer(settings, &spec, partitions)?;
    let identity = match config.get("group.instance.id") {
        Some(_) => None,
        None => Identity::take(&settings.servers, &spec.group),
    };
    if let Some(identity) = &identity {
        config.set("group.instance.id", &identity.name);
    }
    thread::spawn(cluster.to_owned(), config, spec, shared.clone(), sender, (identity, ended))?;
    Ok((Box::new(KafkaSource { events, shared: shared.clone() }), Arc::new(Control { shared, ends })))
}

/// Between the thread and those who use it.
struct Shared {
    inbox: Arc<Inbox>,
    lag: Mutex<Vec<Lag>>,
}

struct KafkaSource {
    events: mpsc::Receiver<Result<Event, Fault>>,
    shared: Arc<Shared>,
}

impl Source for KafkaSource {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, Fault>> {
        Box::pin(async {
            match self.events.recv().await {
                Some(event) => {
                    self.shared.inbox.made_room();
                    event
                }
                // The thread mends itself after a panic, so it has ended only because it was closed.
                None => std::future::pending().await,
            }
        })
    }
}

struct Control {
    shared: Arc<Shared>,
    ends: watch::Receiver<()>,
}

impl SourceControl for Control {
    fn start(&self, partition: PartitionId, from: Option<Position>) {
        self.shared.inbox.ask(|requests| {
            requests.starts.insert(partition, from);
        });
    }

    fn credit(&self, partition: PartitionId, bytes: u64) {
        self.shared.inbox.ask(|requests| {
            requests.credits.insert(partition, bytes);
        });
    }

    fn commit(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Result<(), Fault>> {
        let (answer, answered) = oneshot::channel();
        self.shared.inbox.ask(|requests| requests.commits.push(CommitRequest { partitions, answer }));
        Box::pin(async { answered.await.unwrap_or_else(|_| Err(Fault::down("the source is closed"))) })
    }

    fn lag(&self) -> Vec<Lag> {
        self.shared.lag.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.shared.inbox.ask(|requests| requests.close = true);
        let mut ends = self.ends.clone();
        Box::pin(async move {
            // An error says that the thread ended; nothing is ever sent.
            let _ = tokio::time::timeout(CLOSE_LIMIT, ends.changed()).await;
        })
    }
}

/// What librdkafka calls back. Events are taken from the queue instead, so this hears only what comes during a destroy.
pub(crate) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl ConsumerContext for Context {}

/// librdkafka's log. What it says above debug level of connections and requests comes as an error event as well.
pub(crate) fn log(level: i32, facility: &str, line: &str) {
    const CRITICAL: i32 = 2;
    if level <= CRITICAL {
        tracing::warn!(target: "librdkafka", facility, "{line}");
    } else {
        tracing::debug!(target: "librdkafka", facility, "{line}");
    }
}
