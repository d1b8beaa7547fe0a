//! Reads a topic without a group: partitions are assigned by hand, and nothing is committed.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use tokio::sync::mpsc;
use trestle_core::{Excerpt, Fault, FaultKind, PartitionId, Progress, ReadFrom, Reader, ReaderSpec, Scope, TaskReader};

use crate::{
    classify, fetching,
    native::{Event, Kind, Queue, Record},
    settings::Settings,
    source::{self, Context},
    topic::blocking,
    translate,
};

/// The library wants a name. No group comes into being: nobody joins it or commits for it.
const GROUP: &str = "trestle-reader";
/// What was read waits here; the thread waits beyond it.
const WAITING: usize = 2;
/// How soon the thread notices that nobody reads any more.
const LONGEST_WAIT: Duration = Duration::from_millis(200);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// One gathering ends at this many messages, or with the message that reaches this many bytes.
const MESSAGES: usize = 500;
const BYTES: usize = 1 << 20;

pub(crate) async fn open(cluster: &str, settings: &Settings, spec: ReaderSpec) -> Result<Box<dyn Reader>, Fault> {
    let doing = format!("reading {} on {cluster}", spec.topic);
    let mut config =
        fetching::config(settings, &spec.topic, &spec.options, spec.buffer_bytes, spec.largest_message, 1)?;
    config.set("group.id", GROUP).set("auto.offset.reset", "earliest").set("enable.partition.eof", "true");
    let (progress, heard) = mpsc::channel(WAITING);
    let about = doing.clone();
    let mut work = blocking(&about, move || Work::open(&config, spec, doing, progress)).await??;
    let spawned = thread::Builder::new().name("kafka-reader".into()).spawn(move || work.run());
    spawned.map_err(|error| Fault::down(format!("{about}: no thread: {error}")))?;
    Ok(Box::new(TaskReader::new(heard, 1, ())))
}

struct Work {
    doing: String,
    spec: ReaderSpec,
    /// Before the consumer: a queue must not outlive its client.
    queue: Queue,
    consumer: BaseConsumer<Context>,
    /// Where the partitions end that are not read to their end.
    ends: BTreeMap<i32, i64>,
    /// What was said already and lasts.
    trouble: Option<FaultKind>,
    progress: mpsc::Sender<Progress>,
}

/// Nobody hears any more.
struct Unheard;

impl Work {
    fn open(
        config: &ClientConfig,
        spec: ReaderSpec,
        doing: String,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Work, Fault> {
        let failed = |error: KafkaError| classify::client_fault(&error, Scope::Cluster, &doing);
        let consumer: BaseConsumer<Context> = config.create_with_context(Context).map_err(failed)?;
        let queue = Queue::of_consumer(consumer.client()).ok_or_else(|| Fault::down("the consumer has no queue"))?;
        let spans = spans(&consumer, &spec).map_err(failed)?;
        let mut assigned = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for (id, (from, end)) in spans {
            if from < end || spec.follow {
                assigned.add_partition_offset(&spec.topic, id, Offset::Offset(from)).map_err(failed)?;
                ends.insert(id, if spec.follow { i64::MAX } else { end });
            }
        }
        consumer.assign(&assigned).map_err(failed)?;
        Ok(Work { doing, spec, queue, consumer, ends, trouble: None, progress })
    }

    fn run(&mut self) {
        while !self.ends.is_empty() {
            if self.gather().is_err() || self.progress.is_closed() {
                return;
            }
        }
        // Nobody may hear it.
        let _ = self.progress.blocking_send(Progress::Ended);
    }

    fn gather(&mut self) -> Result<(), Unheard> {
        let (mut fetched, mut count, mut bytes) = (BTreeMap::<i32, Vec<Record>>::new(), 0, 0);
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut ended = Vec::new();
        while count < MESSAGES && bytes < BYTES {
            let wait = if count > 0 { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
            let Some(event) = self.queue.poll(wait) else { break };
            match event.kind() {
                Kind::Fetched => {
                    let Some(record) = event.into_record() else { continue };
                    let Some(end) = self.ends.get(&record.partition()) else { continue };
                    if record.offset() + 1 >= *end {
                        ended.push(record.partition());
                    }
                    if record.offset() < *end {
                        count += 1;
                        bytes += translate::record_bytes(&record);
                        fetched.entry(record.partition()).or_default().push(record);
                    }
                }
                // Also in front of the end, where a transaction is open.
                Kind::Error if event.error() == Some(Code::PartitionEOF) => {
                    ended.extend(event.place().filter(|_| !self.spec.follow).map(|place| place.partition));
                }
                Kind::Error => self.disturbed(&event)?,
                Kind::Log => {
                    if let Some((level, facility, line)) = event.log() {
                        source::log(level, &facility, &line);
                    }
                }
                _ => {}
            }
        }
        for (id, records) in fetched {
            self.trouble = None;
            let messages = translate::messages(&records, self.spec.largest_message);
            let excerpt = Excerpt { partition: PartitionId(id.unsigned_abs()), messages };
            self.progress.blocking_send(Progress::Read(excerpt)).map_err(|_| Unheard)?;
        }
        for id in ended {
            self.ends.remove(&id);
            let mut list = TopicPartitionList::new();
            list.add_partition(&self.spec.topic, id);
            // What it fetches in vain is dropped.
            let _ = self.consumer.pause(&list);
        }
        Ok(())
    }

    fn disturbed(&mut self, event: &Event) -> Result<(), Unheard> {
        let code = event.error().unwrap_or(Code::Unknown);
        let fault = classify::fault(code, Scope::Cluster, &self.doing, &event.text());
        if self.trouble.replace(fault.kind.clone()).is_some_and(|known| known == fault.kind) {
            return Ok(());
        }
        self.progress.blocking_send(Progress::Disturbed(fault)).map_err(|_| Unheard)
    }
}

/// Where to begin, and where each partition ends now.
fn spans(consumer: &BaseConsumer<Context>, spec: &ReaderSpec) -> Result<BTreeMap<i32, (i64, i64)>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(&spec.topic), REQUEST_TIMEOUT)?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == spec.topic);
    if let Some(error) = topic.and_then(|topic| topic.error()) {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let ids: Vec<i32> = topic.iter().flat_map(|topic| topic.partitions()).map(|p| p.id()).collect();
    let from = match spec.from {
        ReadFrom::Earliest => Offset::Beginning,
        ReadFrom::Time(time) => Offset::Offset(time.max(0)),
    };
    let ends = offsets(consumer, &spec.topic, &ids, Offset::End)?;
    let starts = offsets(consumer, &spec.topic, &ids, from)?;
    // No offset: nothing is of that time.
    Ok(ends.into_iter().map(|(id, end)| (id, (starts.get(&id).copied().unwrap_or(end), end))).collect())
}

/// Of each partition the offset of a time, or an edge.
fn offsets(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    ids: &[i32],
    of: Offset,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut found = BTreeMap::new();
    for element in consumer.offsets_for_times(source::list(topic, ids, of)?, REQUEST_TIMEOUT)?.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            found.insert(element.partition(), offset);
        }
    }
    Ok(found)
}
