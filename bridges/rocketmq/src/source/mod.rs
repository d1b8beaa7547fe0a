//! Reads a topic as a member of a group.

mod allocate;
mod group;
mod member;
mod passed;
mod reader;
mod reading;

use std::{
    collections::BTreeMap,
    process,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep},
};
use trestle_core::{BoxFuture, Event, Fault, Lag, PartitionId, Position, Source, SourceControl, SourceSpec, Why};

use self::{
    group::Group,
    member::{Shared, keep},
};
use crate::{
    client::{Client, Routes},
    queues::Queues,
    settings::Millis,
    tags::Tags,
};

/// Events that wait to be taken; readings wait beyond it.
const EVENTS: usize = 16;
/// How long a source that is being closed tries to commit what is settled, and how often.
const LAST_COMMIT: Duration = Duration::from_secs(5);
const LAST_COMMIT_RETRY: Duration = Duration::from_millis(200);

pub async fn open(
    client: Client,
    spec: SourceSpec,
    cluster_options: &BTreeMap<String, String>,
) -> Result<(Box<dyn Source>, Arc<dyn SourceControl>), Fault> {
    let wrong = |error| Fault::unavailable(Why::Down, format!("{}: {error}", client.at(&spec.topic)));
    let millis = Millis::read(cluster_options, &spec.options).map_err(wrong)?;
    let tags = Tags::read(&spec.options).map_err(wrong)?;
    let route = client.route(&spec.topic).await?;
    let mut queues = Queues::default();
    queues.grow(route.readable());
    let group = Arc::new(Group {
        routes: Routes::new(&spec.topic, route),
        member: format!("trestle@{}@{:016x}", process::id(), unique()),
        pull_suspend: millis.get("brokerSuspendMaxTimeMillis"),
        shaken: Notify::new(),
        first_commits: Default::default(),
        client,
        spec,
        tags,
    });
    let intervals = (millis.get("heartbeatBrokerInterval"), millis.get("rebalanceInterval"));
    let shared = Arc::new(Shared::new(group, queues, intervals.0, intervals.1));
    let (sender, events) = mpsc::channel(EVENTS);
    let tasks = Tasks(vec![tokio::spawn(keep(shared.clone(), sender)), tokio::spawn(commit_often(shared.clone()))]);
    let control = Arc::new(Control { shared, tasks: Mutex::new(Some(tasks)) });
    Ok((Box::new(RocketMqSource { events }), control))
}

/// Commits what is settled, again and again.
async fn commit_often(shared: Arc<Shared>) {
    let interval = shared.group.spec.commit_interval.max(Duration::from_millis(10));
    let mut failing = false;
    loop {
        sleep(interval).await;
        match shared.commit(shared.readings()).await {
            Ok(()) => failing = false,
            Err(fault) if !failing => {
                failing = true;
                tracing::warn!(%fault, "positions cannot be committed now; what is settled may repeat after a crash");
            }
            Err(_) => {}
        }
    }
}

/// Different for every source, also across machines and restarts.
fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}

struct RocketMqSource {
    events: mpsc::Receiver<Result<Event, Fault>>,
}

impl Source for RocketMqSource {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, Fault>> {
        Box::pin(async move {
            match self.events.recv().await {
                Some(event) => event,
                None => std::future::pending().await,
            }
        })
    }
}

struct Control {
    shared: Arc<Shared>,
    tasks: Mutex<Option<Tasks>>,
}

struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl SourceControl for Control {
    fn start(&self, partition: PartitionId, from: Option<Position>) {
        if let Some(reading) = self.shared.reading(partition) {
            reading.start(from);
        }
    }

    fn credit(&self, partition: PartitionId, bytes: u64) {
        if let Some(reading) = self.shared.reading(partition) {
            reading.credit(bytes);
        }
    }

    fn commit(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Result<(), Fault>> {
        let shared = self.shared.clone();
        let readings = partitions.into_iter().filter_map(|partition| shared.reading(partition)).collect();
        Box::pin(async move { shared.commit(readings).await })
    }

    fn lag(&self) -> Vec<Lag> {
        let lag = |reading: &Arc<reading::Reading>| Lag {
            partition: reading.tracker.partition(),
            behind: reading.behind(),
            unit: "messages",
        };
        self.shared.readings().iter().map(lag).collect()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        drop(self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take());
        Box::pin(async move {
            let readings = shared.stop();
            let begin = Instant::now();
            while let Err(fault) = shared.commit(readings.clone()).await {
                if begin.elapsed() > LAST_COMMIT || shared.in_doubt() {
                    tracing::warn!(%fault, "the last positions were not committed: messages may repeat");
                    break;
                }
                sleep(LAST_COMMIT_RETRY).await;
            }
            let group = &shared.group;
            join_all(readings.iter().map(|reading| group.unlock(&reading.queue))).await;
            let masters = group.routes.masters();
            join_all(masters.iter().map(|address| group.unregister(address))).await;
        })
    }
}

impl Drop for Control {
    /// Without [`SourceControl::close`] the group learns of our end from the connections'.
    fn drop(&mut self) {
        self.shared.stop();
    }
}
