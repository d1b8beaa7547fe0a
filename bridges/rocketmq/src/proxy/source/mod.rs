//! Reads a topic through a proxy, as one of the instances that share a group: one partition, numbered 0, assigned all the time,
//! and never revoked.
//!
//! Messages come in no order that holds between instances. Each is acknowledged on its own, with an answer, and kept from others
//! for as long as the pipeline has it. At least once: after a crash, and after an outage of the proxy that lasts longer than
//! `invisibleDuration`, what was not acknowledged goes to whoever asks. A broker moves a message away that has come and gone more
//! often than its group allows (`retryMaxTimes`), so that nothing is given back without need.

mod closing;
mod faults;
mod handle;
mod hold;
mod incoming;
mod options;
mod orders;
mod pace;
mod reader;

use std::{
    collections::BTreeMap,
    process,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use trestle_core::{
    BoxFuture, Event, Fault, PartitionId, Position, Source, SourceControl, SourcePair, SourceSpec, Start, Tracker, Why,
};

use self::{closing::CLOSE_LIMIT, options::Options, orders::Orders, reader::Reader};
use super::{brokers, client::Client, session::Membership};
use crate::remoting::Credentials;

/// Events that wait to be taken.
const EVENTS: usize = 16;
/// The only partition there is.
const PARTITION: PartitionId = PartitionId(0);

const ONLY_THE_GROUP_KNOWS: &str = "a gRPC proxy reads on from where the group is, and cannot say where a group begins that has \
     never read: write `start: earliest`, or set the group with `mqadmin resetOffsetByTime`, or read from the cluster's name \
     servers (`namesrv`)";

/// Where to read.
#[derive(Clone)]
pub struct Origin {
    pub cluster: String,
    /// `HOST:PORT`
    pub address: String,
    pub credentials: Option<Credentials>,
}

pub async fn open(origin: Origin, spec: SourceSpec) -> Result<SourcePair, Fault> {
    let about = format!("cluster {}, topic {}, gRPC proxy {}", origin.cluster, spec.topic, origin.address);
    let wrong = |problem: String| Fault::unavailable(Why::Down, format!("{about}: options: {problem}"));
    let options = Options::read(&spec.options).map_err(wrong)?;
    if spec.start != Start::Earliest {
        return Err(Fault::down(format!("{about}: {ONLY_THE_GROUP_KNOWS}")));
    }
    let id = format!("trestle@{}@{:016x}", process::id(), unique());
    let client = Client::connect(&origin.address, id.clone(), origin.credentials.clone());
    let client = client.await.map_err(|error| faults::fault(&error, &about))?;
    let found = brokers::readable(&client, &origin.address, &spec.topic).await;
    let found: BTreeMap<String, String> = found.map_err(|error| faults::fault(&error, &about))?;
    if found.is_empty() {
        return Err(Fault::unavailable(Why::Permission, format!("{about}: no broker lets it be read")));
    }
    let membership = Arc::new(Membership {
        topic: spec.topic.clone(),
        group: spec.group.clone(),
        expression: options.tags.expression,
        invisible: options.invisible,
        credentials: origin.credentials.clone(),
    });
    let orders = Arc::new(Orders::default());
    let wake = orders.clone();
    let tracker = Tracker::unordered(PARTITION, move || wake.wake.notify_one());
    let (sender, events) = mpsc::channel(EVENTS);
    let reader = Reader::new(membership, origin, id, about, spec, orders.clone(), tracker, sender, found);
    let task = Mutex::new(Some(tokio::spawn(reader.run())));
    Ok((Box::new(ProxySource { events }), Arc::new(Control { orders, task })))
}

/// Different for every source, also across machines and restarts.
fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}

struct ProxySource {
    events: mpsc::Receiver<Result<Event, Fault>>,
}

impl Source for ProxySource {
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
    orders: Arc<Orders>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl SourceControl for Control {
    fn start(&self, partition: PartitionId, from: Option<Position>) {
        if partition == PARTITION {
            self.orders.start(from);
        }
    }

    fn credit(&self, partition: PartitionId, bytes: u64) {
        if partition == PARTITION {
            self.orders.credit(bytes);
        }
    }

    fn commit(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Result<(), Fault>> {
        if !partitions.contains(&PARTITION) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let answered = self.orders.commit();
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(Fault::down("the source is closed"))) })
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.orders.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            if let Some(mut task) = task
                && timeout(CLOSE_LIMIT, &mut task).await.is_err()
            {
                task.abort();
            }
        })
    }
}

impl Drop for Control {
    /// Without [`SourceControl::close`]: the task acknowledges what it can and ends by itself.
    fn drop(&mut self) {
        self.orders.close();
    }
}
