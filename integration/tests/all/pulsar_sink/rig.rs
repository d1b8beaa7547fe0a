//! The owner of a lane, as the pipeline is one, and a reader that shares no code with the sink.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::FuturesOrdered};
use pulsar::{
    Consumer, ConsumerOptions, SubType, TokioExecutor,
    consumer::{InitialPosition, Message as Received},
};
use tokio::time::{sleep, timeout};
use trestle_core::{
    Connector, Fault, Lane, LaneKey, Message, Outcome, PartitionId, Position, Sent, Sink, SinkSpec, Slice, Tracker,
};
use trestle_integration::Pulsar;

use crate::parts::{self, SOON, sink_spec};

const POLL: Duration = Duration::from_millis(100);

pub fn settings(pulsar: &Pulsar) -> trestle_pulsar::Settings {
    serde_json::from_value(serde_json::json!({ "url": pulsar.url, "admin": pulsar.admin })).unwrap()
}

pub fn connector(pulsar: &Pulsar) -> Arc<dyn Connector> {
    trestle_pulsar::connector("staging", settings(pulsar)).unwrap()
}

pub fn spec(topic: &str) -> SinkSpec {
    SinkSpec { hop: "stage", ..sink_spec(topic) }
}

pub fn key(partition: u32) -> LaneKey {
    LaneKey { target: PartitionId(partition), source: Some(PartitionId(partition)) }
}

pub fn message(offset: u64, value: impl Into<Bytes>) -> Message {
    Message { time: Some(1_700_000_000_000), position: Position::Offset(offset), ..parts::message(value) }
}

/// Values that begin with their number.
pub fn numbered(numbers: impl Iterator<Item = u64>, size: usize) -> Vec<Message> {
    let value = |number: u64| {
        let mut value = vec![b'x'; size.max(8)];
        value[..8].copy_from_slice(&number.to_be_bytes());
        value
    };
    numbers.map(|number| message(number, value(number))).collect()
}

pub fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// One source partition and the way of its messages through one lane.
pub struct Owner {
    pub sink: Arc<dyn Sink>,
    pub lane: Box<dyn Lane>,
    pub partition: u32,
    pub tracker: Arc<Tracker>,
    pub stored: usize,
    /// Messages answered `Unknown`, as often as they were.
    pub unknown: usize,
    pub faults: Vec<Fault>,
    waiting: VecDeque<Slice>,
}

impl Owner {
    pub async fn open(sink: &Arc<dyn Sink>, partition: u32) -> Result<Owner> {
        let lane = sink.lane(key(partition)).await?;
        let tracker = Tracker::new(PartitionId(partition), || {});
        let (sink, waiting) = (sink.clone(), VecDeque::new());
        Ok(Owner { sink, lane, partition, tracker, stored: 0, unknown: 0, faults: Vec::new(), waiting })
    }

    /// Takes messages, to be sent in units of 500.
    pub fn push(&mut self, messages: Vec<Message>) -> Result<()> {
        let mut messages = VecDeque::from(messages);
        while !messages.is_empty() {
            let unit: Vec<_> = messages.drain(..messages.len().min(500)).collect();
            let batch = self.tracker.admit(unit).context("nothing of it is new")?;
            self.waiting.push_back(Slice::whole(Arc::new(batch)));
        }
        Ok(())
    }

    /// Sends all it has with the window full, and again what was not stored, until all is.
    pub async fn deliver(&mut self) -> Result<()> {
        let deadline = Instant::now() + SOON * 2;
        loop {
            let left = self.stream().await;
            if left.is_empty() {
                return Ok(());
            }
            self.waiting = left;
            ensure!(Instant::now() < deadline, "still not stored; the last fault was {:?}", self.faults.last());
            while self.sink.probe(PartitionId(self.partition)).await.is_err() && Instant::now() < deadline {
                sleep(POLL).await;
            }
        }
    }

    /// Sends until something is not stored, and returns what is left, in order.
    pub async fn stream(&mut self) -> VecDeque<Slice> {
        let mut in_flight = FuturesOrdered::new();
        let (mut failed, mut left) = (false, VecDeque::new());
        loop {
            while !failed && in_flight.len() < self.lane.window() {
                let Some(slice) = self.waiting.pop_front() else { break };
                let sent = self.lane.send(vec![slice.clone()]);
                in_flight.push_back(async move { (slice, sent.await) });
            }
            let Some((mut slice, sent)) = in_flight.next().await else { break };
            for (messages, outcome) in sent.runs {
                let part = slice.take_front(messages);
                match outcome {
                    Outcome::Stored => {
                        self.stored += messages;
                        part.settle();
                        continue;
                    }
                    Outcome::Unknown(fault) => {
                        self.unknown += messages;
                        self.faults.push(fault);
                    }
                    Outcome::Refused(fault) => self.faults.push(fault),
                    Outcome::NotSent => {}
                }
                failed = true;
                left.push_back(part);
            }
            assert!(slice.is_empty(), "the lane said nothing of {} messages", slice.len());
        }
        left.append(&mut self.waiting);
        left
    }

    /// One unit, of an assignment of its own: what becomes of it is not followed up.
    pub async fn send(&mut self, messages: Vec<Message>) -> Result<Sent> {
        let batch = Tracker::new(PartitionId(self.partition), || {}).admit(messages).context("no message")?;
        Ok(timeout(SOON, self.lane.send(vec![Slice::whole(Arc::new(batch))])).await?)
    }
}

/// Everything in a topic (the full name, of one partition), from its beginning to what is its end now.
pub async fn read_all(pulsar: &Pulsar, topic: &str) -> Result<Vec<Received<Vec<u8>>>> {
    let client = pulsar::Pulsar::builder(&pulsar.url, TokioExecutor).build().await?;
    let options = ConsumerOptions::default().with_initial_position(InitialPosition::Earliest).durable(false);
    let mut consumer: Consumer<Vec<u8>, TokioExecutor> = client
        .consumer()
        .with_topic(topic)
        .with_subscription_type(SubType::Exclusive)
        .with_subscription(format!("reader-{:016x}", rand::random::<u64>()))
        .with_options(options)
        .build()
        .await?;
    let end = consumer.get_last_message_id().await?.pop().context("no end")?;
    let mut all = Vec::new();
    if end.entry_id > i64::MAX as u64 {
        return Ok(all);
    }
    let batch = |received: &Received<Vec<u8>>| received.message_id().clone();
    loop {
        let Ok(received) = timeout(SOON, consumer.try_next()).await else {
            bail!("{topic} stopped after {}", all.len())
        };
        let received = received?.context("the reader ended")?;
        let (id, last_of_batch) = (batch(&received), received.metadata().num_messages_in_batch());
        all.push(received);
        let whole = id.batch_index.is_none_or(|index| index < 0 || index + 1 == last_of_batch);
        if (id.ledger_id, id.entry_id) >= (end.ledger_id, end.entry_id) && whole {
            return Ok(all);
        }
    }
}

/// The numbers of [`numbered`] messages in a topic.
pub async fn read_numbers(pulsar: &Pulsar, topic: &str) -> Result<Vec<u64>> {
    Ok(read_all(pulsar, topic).await?.iter().map(|received| number(&received.payload.data)).collect())
}

/// Nothing lost, first deliveries in order; gives how many were repeats.
pub fn judge(numbers: &[u64], all: u64) -> Result<usize> {
    let mut next = 0;
    for number in numbers {
        ensure!(*number <= next, "{number} came before {next}");
        next = next.max(*number + 1);
    }
    ensure!(next == all, "{next} of {all} arrived");
    Ok(numbers.len() - all as usize)
}
