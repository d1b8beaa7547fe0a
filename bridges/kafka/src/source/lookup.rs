//! Questions that block, asked on a thread of their own so that the reading thread always polls.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaError,
};
use trestle_core::{PartitionId, Start};

use super::{Context, inbox::Inbox};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What to find out of which partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// Where to begin.
    Begin,
    /// What the broker has.
    Bounds,
    /// The same, because nothing comes although there is something.
    Held,
    /// Nothing but whether it is answered.
    Reach,
}

pub(super) struct Found {
    pub question: Question,
    pub partitions: Vec<i32>,
    pub answer: Result<BTreeMap<i32, Answer>, KafkaError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The group's position: the next offset to read.
    Committed(i64),
    /// No position; from the first message that there is.
    Earliest,
    /// First offset, and the one after the last.
    Bounds(i64, i64),
}

/// Asks on a new thread; the answer comes to the inbox.
pub(super) fn ask(
    consumer: &Arc<BaseConsumer<Context>>,
    inbox: &Arc<Inbox>,
    topic: &str,
    start: &Start,
    question: Question,
    partitions: Vec<i32>,
) -> std::io::Result<()> {
    let (consumer, inbox, topic, start) = (consumer.clone(), inbox.clone(), topic.to_owned(), start.clone());
    let work = move || {
        let answer = match question {
            Question::Begin => begin(&consumer, &topic, &start, &partitions),
            Question::Bounds | Question::Held => bounds(&consumer, &topic, &partitions),
            Question::Reach => consumer.fetch_metadata(Some(&topic), REQUEST_TIMEOUT).map(|_| BTreeMap::new()),
        };
        // Given back before the answer: whoever hears it may destroy the consumer, which must not happen here.
        drop(consumer);
        inbox.ask(|requests| requests.found.push(Found { question, partitions, answer }));
    };
    std::thread::Builder::new().name("kafka-lookup".into()).spawn(work).map(drop)
}

fn begin(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    start: &Start,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Answer>, KafkaError> {
    let mut found = committed(consumer, topic, partitions)?;
    let missing: Vec<i32> = partitions.iter().copied().filter(|p| !found.contains_key(p)).collect();
    match start {
        _ if missing.is_empty() => {}
        Start::Earliest => {}
        Start::Latest => {
            pin_end(consumer, topic)?;
            found = committed(consumer, topic, partitions)?;
        }
        Start::Time(time) => found.extend(dated(consumer, topic, *time, &missing)?),
        Start::Offsets(offsets) => {
            let named = |p: &i32| Some((*p, i64::try_from(*offsets.get(&PartitionId((*p).try_into().ok()?))?).ok()?));
            found.extend(missing.iter().filter_map(named));
        }
    }
    Ok(partitions.iter().map(|p| (*p, found.get(p).map_or(Answer::Earliest, |at| Answer::Committed(*at)))).collect())
}

/// A group that is new to the topic begins at its end, now and for good: the ends of all partitions are committed before
/// anything is read. So a partition without a position beside others that have one was added later, and is read from its
/// beginning, and a crash before the first message skips none.
fn pin_end(consumer: &BaseConsumer<Context>, topic: &str) -> Result<(), KafkaError> {
    let all = all_partitions(consumer, topic)?;
    if committed(consumer, topic, &all)?.is_empty() { pin(consumer, topic, &all) } else { Ok(()) }
}

/// The first messages dated `time` or later, in milliseconds. Where there is none yet, the end, pinned as above; what comes
/// then is read whatever its date.
fn dated(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    time: i64,
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let (mut found, later) = by_time(consumer, topic, time, partitions)?;
    if !later.is_empty() {
        let all = all_partitions(consumer, topic)?;
        if committed(consumer, topic, &all)?.is_empty() {
            // All at once: a partition that is not pinned beside others that are was added later.
            pin(consumer, topic, &by_time(consumer, topic, time, &all)?.1)?;
        }
        found.extend(committed(consumer, topic, &later)?);
    }
    Ok(found)
}

/// The first offsets that are dated so or later, and the partitions that have none.
fn by_time(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    time: i64,
    partitions: &[i32],
) -> Result<(BTreeMap<i32, i64>, Vec<i32>), KafkaError> {
    let answer = consumer.offsets_for_times(list(topic, partitions, Offset::Offset(time.max(0)))?, REQUEST_TIMEOUT)?;
    let (mut found, mut later) = (BTreeMap::new(), Vec::new());
    for element in answer.elements() {
        element.error()?;
        match element.offset() {
            Offset::Offset(offset) => drop(found.insert(element.partition(), offset)),
            _ => later.push(element.partition()),
        }
    }
    Ok((found, later))
}

/// Commits the ends of partitions.
fn pin(consumer: &BaseConsumer<Context>, topic: &str, partitions: &[i32]) -> Result<(), KafkaError> {
    let ends = consumer.offsets_for_times(list(topic, partitions, Offset::End)?, REQUEST_TIMEOUT)?;
    let mut positions = TopicPartitionList::new();
    for element in ends.elements() {
        element.error()?;
        positions.add_partition_offset(topic, element.partition(), element.offset())?;
    }
    consumer.commit(&positions, CommitMode::Sync)
}

fn all_partitions(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    Ok(metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect())
}

fn committed(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let answer = consumer.committed_offsets(list(topic, partitions, Offset::Invalid)?, REQUEST_TIMEOUT)?;
    let mut found = BTreeMap::new();
    for element in answer.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            found.insert(element.partition(), offset);
        }
    }
    Ok(found)
}

fn bounds(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Answer>, KafkaError> {
    let one = |p: &i32| {
        let (low, high) = consumer.fetch_watermarks(topic, *p, REQUEST_TIMEOUT)?;
        Ok((*p, Answer::Bounds(low, high)))
    };
    partitions.iter().map(one).collect()
}

pub(crate) fn list(topic: &str, partitions: &[i32], offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}
