//! Reads a topic through a durable subscription, of a type that `subscriptionType` says
//! ([`SubscriptionType`](options::SubscriptionType)).
//!
//! `Shared` and `Key_Shared` have a task of their own a partition ([`spread`]). Else one task a partition ([`partition`])
//! keeps a consumer subscribed and turns what the broker says into events:
//! - ACTIVE_CONSUMER_CHANGE true is `Assigned`, false is `Revoked`. All partitions use one consumer name, so that the
//!   broker spreads them evenly over the members of the group.
//!   An exclusive consumer is the active one as long as it is there.
//! - A lost connection or CLOSE_CONSUMER: subscribed again in the same assignment, which is `lost` only if another
//!   consumer turns out to have become active.
//! - A rewind is another consumer in place of the one before: what was on its way goes to nobody, and the broker begins at
//!   the acknowledged position.
//! - Acknowledgements are cumulative, end inside a batch where the settled prefix does, and are answered.
//! - Reading a connection never waits for a partition: what finds no budget is read past, and read again later.

mod beginning;
mod consumer;
pub(crate) mod flow;
mod held;
mod member;
pub(crate) mod options;
mod orders;
mod pace;
mod partition;
mod reading;
mod seen;
mod spread;

pub(crate) use consumer::acknowledge;

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, future::join_all};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use trestle_core::{BoxFuture, Event, Fault, PartitionId, Position, Source, SourceControl, SourceSpec, Start};

use self::{consumer::Subscription, options::Options, orders::Orders, partition::Partition, spread::SpreadPartition};
use crate::{cluster::Cluster, topic::Topic};

/// Events that wait to be taken at most, of all partitions together.
const EVENTS: usize = 64;
/// How often the number of partitions is asked for.
const DISCOVERY: Duration = Duration::from_secs(10);
/// How long an answered commit may take at most.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long closing may take at most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Joins the group and reads the topic; an error says that there is no such topic, or that nobody could be asked.
pub(crate) async fn open(
    cluster: Arc<Cluster>,
    spec: SourceSpec,
) -> Result<(Box<dyn Source>, Arc<dyn SourceControl>), Fault> {
    let options = Options::parse(&spec.options)?;
    let topic = Topic::of(&spec.topic)?;
    beginning::check(&cluster, &topic, &spec.start)?;
    let partitions = cluster.partitions_of(&topic).await?;
    let (events, heard) = mpsc::channel(EVENTS);
    let (closing, closed) = watch::channel(Closing::No);
    let members = Arc::new(Members { orders: Mutex::default(), closing });
    let consumer_name = unique_name("trestle");
    let owner = Owner {
        cluster,
        topic,
        options,
        spec,
        consumer_name,
        shared: Default::default(),
        events,
        members: members.clone(),
    };
    tokio::spawn(owner.run(partitions, closed));
    Ok((Box::new(PulsarSource { events: heard }), Arc::new(Control { members })))
}

struct PulsarSource {
    events: mpsc::Receiver<Result<Event, Fault>>,
}

impl Source for PulsarSource {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, Fault>> {
        async {
            match self.events.recv().await {
                Some(event) => event,
                None => pending().await,
            }
        }
        .boxed()
    }
}

struct Control {
    members: Arc<Members>,
}

/// The orders of each partition's task, and how far closing has got.
struct Members {
    orders: Mutex<BTreeMap<PartitionId, Arc<Orders>>>,
    closing: watch::Sender<Closing>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    Begun,
    Done,
}

impl Members {
    fn of(&self, partition: PartitionId) -> Option<Arc<Orders>> {
        self.lock().get(&partition).cloned()
    }

    fn all(&self) -> Vec<Arc<Orders>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Arc<Orders>>> {
        // No change can panic half way.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceControl for Control {
    fn start(&self, partition: PartitionId, from: Option<Position>) {
        if let Some(orders) = self.members.of(partition) {
            orders.start(from);
        }
    }

    fn credit(&self, partition: PartitionId, bytes: u64) {
        if let Some(orders) = self.members.of(partition) {
            orders.credit(bytes);
        }
    }

    fn commit(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Result<(), Fault>> {
        let orders = partitions.into_iter().filter_map(|partition| self.members.of(partition));
        let answers: Vec<_> = orders.map(|orders| orders.commit()).collect();
        async move {
            let answers = timeout(COMMIT_TIMEOUT, join_all(answers)).await;
            let Ok(answers) = answers else {
                return Err(Fault::down(format!("a commit was not answered in {COMMIT_TIMEOUT:?}")));
            };
            for answer in answers {
                answer.unwrap_or_else(|_| Err(Fault::down("the source is closed")))?;
            }
            Ok(())
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let members = self.members.clone();
        async move {
            let mut closing = members.closing.subscribe();
            members.closing.send_if_modified(|now| {
                *now == Closing::No && {
                    *now = Closing::Begun;
                    true
                }
            });
            let closed = closing.wait_for(|now| *now == Closing::Done);
            if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
                tracing::warn!("a source was not closed in {CLOSE_TIMEOUT:?}");
            }
        }
        .boxed()
    }
}

/// Keeps the tasks: one a partition, more when the topic grows.
struct Owner {
    cluster: Arc<Cluster>,
    topic: Topic,
    options: Options,
    spec: SourceSpec,
    consumer_name: String,
    shared: Arc<AtomicBool>,
    events: mpsc::Sender<Result<Event, Fault>>,
    members: Arc<Members>,
}

impl Owner {
    async fn run(self, partitions: u32, mut closing: watch::Receiver<Closing>) {
        let (grown, sizes) = watch::channel(partitions.max(1));
        let mut tasks = JoinSet::new();
        tokio::select! {
            () = self.serve(&mut tasks, partitions > 0, sizes) => {}
            () = self.discover(grown), if partitions > 0 => {}
            () = closing.wait_for(|now| *now != Closing::No).map(drop) => {}
            () = self.events.closed() => {}
        }
        self.members.all().iter().for_each(|orders| orders.close());
        while tasks.join_next().await.is_some() {}
        self.members.closing.send_replace(Closing::Done);
    }

    /// Keeps a task for each partition and tells them when to commit.
    async fn serve(&self, tasks: &mut JoinSet<()>, partitioned: bool, mut sizes: watch::Receiver<u32>) {
        let mut known = *sizes.borrow_and_update();
        for index in 0..known {
            self.add(tasks, index, partitioned, self.spec.start.clone());
        }
        let mut commit = every(self.spec.commit_interval);
        loop {
            tokio::select! {
                _ = commit.tick() => self.members.all().iter().for_each(|orders| orders.tick()),
                Ok(()) = sizes.changed() => {
                    let now = *sizes.borrow_and_update();
                    for index in known..now {
                        tracing::info!(topic = %self.topic, partition = index, "the topic has grown");
                        // What is in a new partition was never read.
                        self.add(tasks, index, true, Start::Earliest);
                    }
                    known = now;
                }
                Some(ended) = tasks.join_next() => {
                    // They end by being closed only, so this is a defect of ours.
                    let fault = Fault::down(format!("a task that reads {} ended: {ended:?}", self.topic));
                    tracing::error!(%fault);
                    let _ = self.events.try_send(Err(fault));
                }
            }
        }
    }

    /// Asks for the number of partitions, which only grows, now and then.
    async fn discover(&self, grown: watch::Sender<u32>) {
        let mut tick = every(DISCOVERY);
        loop {
            tick.tick().await;
            match timeout(DISCOVERY, self.cluster.partition_metadata(&self.topic)).await {
                Ok(Ok(partitions)) => {
                    grown.send_if_modified(|known| {
                        let more = partitions > *known;
                        *known = partitions.max(*known);
                        more
                    });
                }
                Ok(Err(fault)) => tracing::debug!(%fault),
                Err(_) => tracing::debug!(topic = %self.topic, "nobody said how many partitions there are"),
            }
        }
    }

    fn add(&self, tasks: &mut JoinSet<()>, index: u32, partitioned: bool, start: Start) {
        let orders = Arc::new(Orders::default());
        self.members.lock().insert(PartitionId(index), orders.clone());
        let subscription = Arc::new(Subscription {
            cluster: self.cluster.clone(),
            topic: self.topic.partition(index, partitioned),
            group: self.spec.group.clone(),
            consumer_name: self.consumer_name.clone(),
            start,
            subscription_type: self.options.subscription_type,
            shared: self.shared.clone(),
            taken: AtomicBool::new(false),
            begun: AtomicBool::new(false),
        });
        let (id, events) = (PartitionId(index), self.events.clone());
        let (options, largest) = (&self.options, self.spec.largest_message);
        if options.subscription_type.is_spread() {
            tasks.spawn(SpreadPartition::new(id, subscription, orders, events, options, largest).run());
        } else {
            tasks.spawn(Partition::new(id, subscription, orders, events, options, largest).run());
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut every = interval(period.max(Duration::from_millis(1)));
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// Differs between instances.
pub(crate) fn unique_name(prefix: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unique = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now);
    format!("{prefix}-{unique:016x}")
}
