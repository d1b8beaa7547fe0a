//! Writes messages, as fast as it goes or at a rate.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesOrdered};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, MissedTickBehavior, interval};
use trestle_core::{
    BoxFuture, Connector, Guarantee, Lane, LaneKey, Message, Outcome, PartitionId, Position, Sent, Sink, SinkSpec,
    Slice, Tracker,
};

use super::{Task, Took, now};
use crate::{process::Usage, shape::Shape};

const KEYS: u64 = 100;
/// How often what is due is sent.
const TICK: Duration = Duration::from_millis(1);
/// Values differ from each other, and are not made while anything is measured.
const VALUES: usize = 64;

async fn sink(connector: &dyn Connector, task: &Task) -> Result<Arc<dyn Sink>> {
    let spec = SinkSpec {
        topic: task.place.topic().into(),
        route: "alone".into(),
        hop: "stage",
        fenced: false,
        split_large: false,
        send_timeout: Duration::from_secs(30),
        guarantee: Guarantee::Replicated,
        options: BTreeMap::new(),
    };
    Ok(connector.sink(spec).await?)
}

/// Messages by number.
struct Load {
    sink: Arc<dyn Sink>,
    shape: Shape,
    values: Vec<Bytes>,
    /// Of all, in ms: a broker may drop what says to be old.
    time: i64,
}

impl Load {
    fn new(sink: Arc<dyn Sink>, shape: Shape) -> Load {
        let mut random = SmallRng::seed_from_u64(1);
        let mut value = || {
            let mut value = vec![0; shape.size];
            random.fill_bytes(&mut value);
            Bytes::from(value)
        };
        let values = (0..VALUES).map(|_| value()).collect();
        Load { sink, shape, values, time: (now() / 1_000) as i64 }
    }

    fn key(&self, number: u64) -> Option<Bytes> {
        self.shape.keys.then(|| format!("key-{}", number % KEYS).into())
    }

    fn partition(&self, number: u64) -> PartitionId {
        match self.key(number) {
            Some(key) => self.sink.place(&key),
            None => PartitionId((number % u64::from(self.sink.partitions())) as u32),
        }
    }

    fn message(&self, number: u64) -> Message {
        Message {
            key: self.key(number),
            value: Some(self.values[number as usize % VALUES].clone()),
            time: Some(self.time),
            ..Message::at(Position::Offset(number))
        }
    }
}

/// A lane, and what of it is not answered.
struct Writer {
    lane: Box<dyn Lane>,
    tracker: Arc<Tracker>,
    in_flight: FuturesOrdered<BoxFuture<'static, (Slice, Sent)>>,
}

impl Writer {
    async fn open(sink: &Arc<dyn Sink>, partition: PartitionId) -> Result<Writer> {
        let lane = sink.lane(LaneKey { target: partition, source: None }).await?;
        Ok(Writer { lane, tracker: Tracker::new(partition, || {}), in_flight: FuturesOrdered::new() })
    }

    /// Waits as long as the lane takes no more.
    async fn write(&mut self, messages: Vec<Message>) -> Result<()> {
        while self.in_flight.len() >= self.lane.window() {
            self.answered().await?;
        }
        let slice = Slice::whole(Arc::new(self.tracker.admit(messages).context("nothing new")?));
        let sent = self.lane.send(vec![slice.clone()]);
        self.in_flight.push_back(Box::pin(async move { (slice, sent.await) }));
        Ok(())
    }

    /// False when there is nothing to wait for.
    async fn answered(&mut self) -> Result<bool> {
        let Some((slice, sent)) = self.in_flight.next().await else { return Ok(false) };
        ensure!(sent.runs.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stored)), "not stored: {sent:?}");
        // Else the tracker would have it sent again.
        slice.settle();
        Ok(true)
    }
}

/// Each partition's share, in units as large as they may be and as many at once as the lanes take.
pub async fn write(connector: &dyn Connector, task: &Task) -> Result<Took> {
    let load = Load::new(sink(connector, task).await?, task.shape);
    let limits = load.sink.limits();
    let unit = limits.unit_messages.min(limits.unit_bytes / (task.shape.size + 200)).max(1);
    let mut shares: BTreeMap<PartitionId, Vec<u64>> = BTreeMap::new();
    for number in 0..task.shape.messages {
        shares.entry(load.partition(number)).or_default().push(number);
    }
    let (begin, before) = (Instant::now(), Usage::of(std::process::id())?);
    let lanes = shares.iter().map(async |(partition, numbers)| {
        let mut writer = Writer::open(&load.sink, *partition).await?;
        for numbers in numbers.chunks(unit) {
            writer.write(numbers.iter().map(|number| load.message(*number)).collect()).await?;
        }
        while writer.answered().await? {}
        anyhow::Ok(())
    });
    futures::future::try_join_all(lanes).await?;
    let after = Usage::of(std::process::id())?;
    Ok(Took { messages: task.shape.messages, seconds: begin.elapsed().as_secs_f64(), before, after })
}

/// So many messages a second, each with the time when it was sent.
pub async fn send(connector: &dyn Connector, task: &Task, rate: u64) -> Result<()> {
    let load = Load::new(sink(connector, task).await?, task.shape);
    let mut writers = BTreeMap::new();
    for partition in (0..load.sink.partitions()).map(PartitionId) {
        writers.insert(partition, Writer::open(&load.sink, partition).await?);
    }
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begin, mut next) = (Instant::now(), 0);
    while next < task.shape.messages {
        tick.tick().await;
        let due = ((begin.elapsed().as_secs_f64() * rate as f64) as u64).min(task.shape.messages);
        let mut batches: BTreeMap<PartitionId, Vec<Message>> = BTreeMap::new();
        let sent = now().to_be_bytes();
        for number in next..due {
            let mut message = load.message(number);
            let value = message.value.take().unwrap_or_default();
            message.value = Some([&sent[..], &value[sent.len()..]].concat().into());
            batches.entry(load.partition(number)).or_default().push(message);
        }
        next = due;
        for (partition, messages) in batches {
            writers.get_mut(&partition).context("no such partition")?.write(messages).await?;
        }
    }
    for writer in writers.values_mut() {
        while writer.answered().await? {}
    }
    Ok(())
}
