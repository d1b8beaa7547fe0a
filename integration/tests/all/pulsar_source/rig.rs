//! What the tests of the Pulsar source have in common: a reader, a judge of what it reads, and topics to read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use tokio::time::timeout;
use trestle_core::{Batch, Connector, Event, PartitionId, Source, SourceControl, SourceSpec, Tracker};
use trestle_integration::{Brokers, Pulsar};

use crate::{
    parts::{SOON, source_spec},
    pulsar_sink::rig::{Owner, connector, number, numbered, spec as sink_spec},
};

pub fn spec(topic: &str) -> SourceSpec {
    source_spec(topic, "readers")
}

/// A source whose partitions are started and given credit as they are assigned.
pub struct Reader {
    pub source: Box<dyn Source>,
    pub control: Arc<dyn SourceControl>,
    credit: u64,
    pub assigned: usize,
    pub trackers: HashMap<PartitionId, Arc<Tracker>>,
    pub faults: usize,
    /// Partitions that were taken away; an error unless there are [`others`](Self::others).
    pub revoked: usize,
    /// There are other readers of this group.
    pub others: bool,
}

impl Reader {
    pub async fn open(connector: &Arc<dyn Connector>, spec: SourceSpec, credit: u64) -> Result<Reader> {
        let (source, control) = connector.source(spec).await?;
        Ok(Reader {
            source,
            control,
            credit,
            assigned: 0,
            trackers: HashMap::new(),
            faults: 0,
            revoked: 0,
            others: false,
        })
    }

    /// The next batch; `None` after a quiet `limit`.
    pub async fn batch(&mut self, limit: Duration) -> Result<Option<Batch>> {
        loop {
            match timeout(limit, self.source.next()).await {
                Err(_) => return Ok(None),
                Ok(Err(_)) => self.faults += 1,
                Ok(Ok(Event::Batch(batch))) => return Ok(Some(batch)),
                Ok(Ok(Event::Assigned(trackers))) => {
                    for tracker in trackers {
                        self.assigned += 1;
                        self.control.start(tracker.partition(), None);
                        self.control.credit(tracker.partition(), self.credit);
                        self.trackers.insert(tracker.partition(), tracker);
                    }
                }
                Ok(Ok(Event::Revoked { partitions, lost, done })) => {
                    ensure!(self.others, "revoked: {partitions:?}, lost {lost}");
                    self.revoked += partitions.len();
                    self.trackers.retain(|partition, _| !partitions.contains(partition));
                    drop(done);
                }
                Ok(Ok(Event::Held { .. })) => bail!("Pulsar holds nothing back"),
                Ok(Ok(Event::Gap { partition, from, to })) => bail!("gap in {partition}: {from} to {to}"),
            }
        }
    }

    pub async fn next(&mut self) -> Result<Batch> {
        self.batch(SOON).await?.context("stalled")
    }
}

pub fn numbers(batch: &Batch) -> Vec<u64> {
    batch.messages.iter().map(|m| number(m.value.as_deref().unwrap_or(&[0; 8]))).collect()
}

pub fn settle_all(batch: &Batch) {
    batch.ack.settle(0..batch.messages.len() as u32);
}

/// The shared broker with a new topic `public/default/NAME`, and numbered messages in each of its partitions.
pub async fn filled(topic: &str, partitions: u32, each: u64) -> Result<(&'static Pulsar, Arc<dyn Connector>)> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic(&format!("public/default/{topic}"), partitions).await?;
    let connector = connector(pulsar);
    fill(&connector, topic, partitions, each).await?;
    Ok((pulsar, connector))
}

pub async fn fill(connector: &Arc<dyn Connector>, topic: &str, partitions: u32, each: u64) -> Result<()> {
    let sink = connector.sink(sink_spec(topic)).await?;
    let mut owners = try_join_all((0..partitions).map(|partition| Owner::open(&sink, partition))).await?;
    for owner in &mut owners {
        owner.push(numbered(0..each, 1024))?;
        owner.deliver().await?;
    }
    for owner in owners {
        owner.lane.close().await;
    }
    Ok(())
}

/// What a reader of numbered messages may see: each partition in order within an epoch, and nothing that is settled.
#[derive(Default)]
pub struct Judge {
    newest: HashMap<(u32, u64), u64>,
    pub settled: HashMap<u32, HashSet<u64>>,
}

impl Judge {
    pub fn hear(&mut self, batch: &Batch) -> Result<()> {
        let partition = batch.partition.0;
        let settled = self.settled.entry(partition).or_default();
        for number in numbers(batch) {
            let newest = self.newest.insert((partition, batch.epoch.0), number);
            ensure!(newest.is_none_or(|newest| newest < number), "{number} came behind {newest:?} in {partition}");
            ensure!(!settled.contains(&number), "{number} of {partition} was settled");
        }
        Ok(())
    }

    pub fn settle(&mut self, batch: &Batch, indexes: Vec<u32>) {
        let numbers = numbers(batch);
        let settled = self.settled.entry(batch.partition.0).or_default();
        settled.extend(indexes.iter().map(|index| numbers[*index as usize]));
        batch.ack.settle(indexes.into_iter());
    }

    pub fn settle_all(&mut self, batch: &Batch) {
        self.settle(batch, (0..batch.messages.len() as u32).collect());
    }

    pub fn all(&self) -> usize {
        self.settled.values().map(HashSet::len).sum()
    }
}

/// `LEDGER:ENTRY` that the subscription's cursor has reached.
pub async fn acknowledged(pulsar: &Pulsar, topic: &str, partition: u32) -> Result<(u64, i64)> {
    let path = format!("persistent/public/default/{topic}-partition-{partition}/internalStats");
    let stats: serde_json::Value = serde_json::from_str(&pulsar.rest("GET", &path, "").await?)?;
    let position = stats["cursors"]["readers"]["markDeletePosition"].as_str().context("no cursor")?;
    let (ledger, entry) = position.split_once(':').context("no position")?;
    Ok((ledger.parse()?, entry.parse()?))
}
