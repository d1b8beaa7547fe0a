//! What a topic holds, read without a group.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use trestle_core::{FaultKind, ReadFrom, Reader, ReaderSpec, Start, Why};

use crate::{Subject, rig::*};

pub async fn a_reader_reads_everything_once_in_order_and_ends(subject: &dyn Subject) {
    let rig = Rig::new(subject, 3).await;
    rig.write(0, 0..700).await;
    rig.write(1, 700..703).await;
    let mut reader = open(&rig, ReadFrom::Earliest, false).await;
    // Behind the end that the reader saw.
    rig.write(1, 703..710).await;
    let read = all(&rig, &mut reader).await;
    assert_eq!(read, BTreeMap::from([(0, upto(700)), (1, vec![700, 701, 702])]));
    let mut again = open(&rig, ReadFrom::Earliest, false).await;
    assert_eq!(all(&rig, &mut again).await[&1], (700..710).collect::<Vec<_>>(), "two readers do not share");
}

pub async fn a_reader_leaves_groups_as_they_are(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..20).await;
    let mut member = rig.member().await;
    let batches = member.batches(20).await;
    let first = &batches[0];
    first.ack.settle(0..1);
    let mut reader = open(&rig, ReadFrom::Earliest, false).await;
    assert_eq!(all(&rig, &mut reader).await[&0], upto(20), "a reader sees what a group has read");
    member.is_quiet("a reader takes nothing away").await;
    drop(batches);
    member.close().await;
    let mut member = rig.member().await;
    assert_eq!(member.numbers(19).await, (1..20).collect::<Vec<_>>(), "the group goes on at its own place");
    member.close().await;
}

pub async fn a_reader_from_a_time_leaves_out_what_is_older(subject: &dyn Subject) {
    let rig = Rig::new(subject, 1).await;
    rig.write(0, 0..10).await;
    // Of a second's precision where a cluster dates by seconds.
    pass(Duration::from_secs(2));
    let between = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    pass(Duration::from_secs(1));
    rig.write(0, 10..20).await;
    let mut reader = open(&rig, ReadFrom::Time(between), false).await;
    assert_eq!(all(&rig, &mut reader).await, BTreeMap::from([(0, (10..20).collect())]));
    let mut reader = open(&rig, ReadFrom::Time(between + 3_600_000), false).await;
    assert_eq!(all(&rig, &mut reader).await, BTreeMap::new(), "nothing is of that time");
}

pub async fn a_reader_that_follows_waits_for_what_is_written(subject: &dyn Subject) {
    let rig = Rig::new(subject, 2).await;
    rig.write(1, 0..5).await;
    let mut reader = open(&rig, ReadFrom::Earliest, true).await;
    let mut read = Vec::new();
    let mut until = async |count| {
        while read.len() < count {
            read.extend(next(&rig, &mut reader).await.expect("it does not end").1);
        }
        read.clone()
    };
    assert_eq!(until(5).await, upto(5));
    // The reader is asked first, with nothing there to read.
    let (read, ()) = tokio::join!(until(9), rig.write(0, 5..9));
    assert_eq!(read, upto(9));
}

pub async fn a_reader_of_an_empty_topic_ends_at_once(subject: &dyn Subject) {
    let rig = Rig::new(subject, 2).await;
    let mut reader = open(&rig, ReadFrom::Earliest, false).await;
    assert_eq!(next(&rig, &mut reader).await, None);
    assert_eq!(next(&rig, &mut reader).await, None, "and it stays so");
}

pub async fn a_reader_of_an_unknown_topic_says_so(subject: &dyn Subject) {
    let rig = Rig::without_topic(subject);
    let opened = rig.in_time("reader", rig.connector.reader(spec(&rig, ReadFrom::Earliest, false))).await;
    let fault = opened.err().expect("a topic that is not there is not made");
    assert_eq!(fault.kind, FaultKind::Unavailable(Why::UnknownTopic), "{fault}");
}

fn spec(rig: &Rig<'_>, from: ReadFrom, follow: bool) -> ReaderSpec {
    let source = rig.source_spec(Start::Earliest);
    let (topic, options) = (source.topic, source.options);
    ReaderSpec { topic, from, follow, buffer_bytes: 8 << 20, largest_message: 8 << 20, options }
}

async fn open(rig: &Rig<'_>, from: ReadFrom, follow: bool) -> Box<dyn Reader> {
    rig.patient("reader", || rig.connector.reader(spec(rig, from, follow))).await
}

/// Partition and numbers; `None` at the end.
async fn next(rig: &Rig<'_>, reader: &mut Box<dyn Reader>) -> Option<(u32, Vec<u64>)> {
    let read = async {
        loop {
            // A fault is a disturbance that the reader mends.
            if let Ok(excerpt) = reader.next().await {
                return excerpt;
            }
        }
    };
    let excerpt = rig.in_time("read", read).await?;
    assert!(!excerpt.messages.is_empty(), "no excerpt is empty");
    Some((excerpt.partition.0, excerpt.messages.iter().map(number).collect()))
}

/// What is read until the end, by partition.
async fn all(rig: &Rig<'_>, reader: &mut Box<dyn Reader>) -> BTreeMap<u32, Vec<u64>> {
    let mut read: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    while let Some((partition, numbers)) = next(rig, reader).await {
        read.entry(partition).or_default().extend(numbers);
    }
    read
}

/// Waits on the wall clock, by which brokers date; the tests' own may stand still.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}
