//! What the tests of the connector have in common.

use std::{
    collections::BTreeMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::time::timeout;
use trestle_core::{
    Batch, Connector, Event, Fault, Message, Outcome, PartitionId, Position, Sent, Source, SourceControl, SourceSpec,
    Tracker,
};
use trestle_integration::Brokers;

pub use crate::parts::*;
pub use trestle_integration::create_kafka_topic as create_topic;

/// The shared broker, or one started by hand and named by `$KAFKA_SERVERS`.
pub async fn servers() -> Result<String> {
    match env::var("KAFKA_SERVERS") {
        Ok(servers) => Ok(servers),
        Err(_) => Ok(Brokers::shared().await?.kafka.servers.clone()),
    }
}

pub fn connector(servers: &str, options: &[(&str, &str)]) -> Result<Arc<dyn Connector>> {
    let options: BTreeMap<_, _> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let settings = trestle_kafka::Settings { servers: servers.to_owned(), options };
    trestle_kafka::connector("main", settings).map_err(|wrong| anyhow!(wrong))
}

/// Writes `count` numbered messages, spread over the partitions.
pub fn fill(servers: &str, topic: &str, partitions: i32, count: u64, size: usize) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("acks", "all")
        .set("linger.ms", "20")
        .set("message.max.bytes", "9000000")
        .create()?;
    for number in 0..count {
        let mut value = number.to_be_bytes().to_vec();
        value.resize(size.max(8), 7);
        let partition = (number % partitions as u64) as i32;
        let mut record = BaseRecord::<(), _>::to(topic).payload(&value).partition(partition);
        while let Err((_, again)) = producer.send(record) {
            record = again;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(SOON)?;
    Ok(())
}

/// Writes `count` small messages to one partition.
pub fn fill_one(servers: &str, topic: &str, partition: i32, count: u64) -> Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", servers).set("message.timeout.ms", "2000").create()?;
    for number in 0..count {
        let value = number.to_be_bytes();
        let record = BaseRecord::<(), [u8]>::to(topic).payload(&value[..]).partition(partition);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(SOON)?;
    Ok(())
}

/// The group's positions as a broker tells them.
pub async fn committed(servers: &str, group: &str, topic: &str, partitions: i32) -> Result<BTreeMap<u32, i64>> {
    let (servers, group, topic) = (servers.to_owned(), group.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &servers).set("group.id", &group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&topic, 0, partitions - 1);
        let answer = consumer.committed_offsets(list, SOON)?;
        let mut found = BTreeMap::new();
        for element in answer.elements() {
            if let Offset::Offset(offset) = element.offset() {
                found.insert(element.partition() as u32, offset);
            }
        }
        Ok(found)
    })
    .await?
}

/// A source with its control.
pub struct Member {
    pub source: Box<dyn Source>,
    pub control: Arc<dyn SourceControl>,
    pub trackers: BTreeMap<PartitionId, Arc<Tracker>>,
    /// Faults that `next` answered, in passing.
    pub faults: Vec<Fault>,
}

impl Member {
    pub async fn join(connector: &Arc<dyn Connector>, spec: SourceSpec) -> Result<Member> {
        let (source, control) = connector.source(spec).await?;
        Ok(Member { source, control, trackers: BTreeMap::new(), faults: Vec::new() })
    }

    /// The next event; faults are kept and passed over.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Event>> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.source.next()).await {
                Err(_) => return Ok(None),
                Ok(Err(fault)) => self.faults.push(fault),
                Ok(Ok(event)) => {
                    if let Event::Assigned(trackers) = &event {
                        self.trackers.extend(trackers.iter().map(|t| (t.partition(), t.clone())));
                    }
                    if let Event::Revoked { partitions, .. } = &event {
                        partitions.iter().for_each(|p| drop(self.trackers.remove(p)));
                    }
                    return Ok(Some(event));
                }
            }
        }
    }

    /// Waits for an assignment and starts all of it with plenty of credit.
    pub async fn assigned(&mut self, from: Option<Position>) -> Result<Vec<PartitionId>> {
        loop {
            match self.next(SOON).await?.with_context(|| format!("not assigned; faults: {:?}", self.faults))? {
                Event::Assigned(trackers) if trackers.is_empty() => {}
                Event::Assigned(trackers) => {
                    let partitions: Vec<_> = trackers.iter().map(|t| t.partition()).collect();
                    for partition in &partitions {
                        self.control.start(*partition, from);
                        self.control.credit(*partition, PLENTY);
                    }
                    return Ok(partitions);
                }
                Event::Revoked { .. } => {}
                _ => bail!("an event before the assignment"),
            }
        }
    }

    pub async fn batch(&mut self) -> Result<Batch> {
        match self.next(SOON).await?.with_context(|| format!("no batch; faults: {:?}", self.faults))? {
            Event::Batch(batch) => Ok(batch),
            other => bail!("{} instead of a batch", what(&other)),
        }
    }

    /// Reads and settles until `count` messages came.
    pub async fn read(&mut self, count: usize) -> Result<Vec<(PartitionId, Message)>> {
        let mut read = Vec::new();
        while read.len() < count {
            let batch = self.batch().await.with_context(|| format!("after {} of {count}", read.len()))?;
            let partition = batch.partition;
            read.extend(batch.messages.iter().map(|m| (partition, m.clone())));
            batch.ack.settle(0..batch.messages.len() as u32);
        }
        Ok(read)
    }
}

pub fn what(event: &Event) -> String {
    match event {
        Event::Assigned(trackers) => format!("assigned {}", trackers.len()),
        Event::Batch(batch) => format!("a batch of {}", batch.messages.len()),
        Event::Revoked { partitions, lost, .. } => format!("revoked {partitions:?}, lost: {lost}"),
        Event::Held { partition, why } => format!("{partition} is held: {why:?}"),
        Event::Gap { partition, from, to } => format!("a gap in {partition} from {from} to {to}"),
    }
}

/// The last outcome of each message, in a form that can be compared at a glance.
pub fn said(sent: &Sent) -> Vec<String> {
    let one = |outcome: &Outcome| match outcome {
        Outcome::Stored => "stored".to_owned(),
        Outcome::NotSent => "not sent".to_owned(),
        Outcome::Refused(fault) => format!("refused {:?} {:?}", fault.kind, fault.scope),
        Outcome::Unknown(fault) => format!("unknown {:?} {:?}", fault.kind, fault.scope),
    };
    sent.runs.iter().map(|(count, outcome)| format!("{count} {}", one(outcome))).collect()
}
