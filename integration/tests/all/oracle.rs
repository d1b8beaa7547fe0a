//! The judge of the other tests, judged: a bridge that does one thing wrong in 100,000 messages is found out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    message::{BorrowedMessage, Headers as _},
};
use tokio::time::timeout;
use trestle_core::{Connector, Ensure, Message, Position};
use trestle_integration::{
    Brokers, RocketMq,
    oracle::{Ledger, Load, Seen, Target, Verdict, Writer, judge},
    until,
};

use crate::{
    parts::{SOON, lane, sink_spec, store, unique},
    rocketmq::rig,
};

const MESSAGES: u64 = 100_000;
const PARTITIONS: u32 = 4;
/// Messages in one send.
const TOGETHER: usize = 500;

/// What a bridge reads of one partition, and puts into the queue of the same number.
type Partitions = BTreeMap<u32, Vec<Message>>;

#[tokio::test]
async fn a_bridge_that_does_one_thing_wrong_in_100_000_messages_is_found_out() -> Result<()> {
    let brokers = Brokers::shared().await?;
    let source = unique("judged");
    brokers.kafka.create_topic(&source, PARTITIONS as i32).await?;
    let load = Load::new(source.as_str(), MESSAGES);
    let ledger = Writer::start(&brokers.kafka.servers, &source, load, None)?.finish().await?;
    ensure!(ledger.confirmed.len() as u64 == MESSAGES, "{} confirmed", ledger.confirmed.len());
    let read = read(&brokers.kafka.servers, &source, &ledger).await?;
    // One of its own: what is stored here in one go would keep those waiting who share one.
    let rocketmq = RocketMq::start().await?;
    let connector = rig::connector(&rocketmq.namesrv)?;

    type Wrong = fn(&mut Vec<Message>);
    type Found = fn(&Verdict) -> bool;
    let kinds: [(&str, Wrong, Found); 6] = [
        ("nothing", |_| {}, |verdict| verdict.repeated.is_empty() && verdict.sound().is_ok()),
        ("drops", |messages| drop(messages.remove(7_000)), |verdict| verdict.lost.len() == 1),
        ("repeats", |messages| messages.insert(9_000, messages[7_000].clone()), |verdict| verdict.repeated.len() == 1),
        ("swaps", |messages| messages.swap(7_000, 7_001), |verdict| verdict.reordered.len() == 1),
        ("alters", |messages| alter(&mut messages[7_000]), |verdict| verdict.corrupt.len() == 1),
        ("invents", |messages| messages.insert(7_000, invented()), |verdict| verdict.phantoms.len() == 1),
    ];
    for (what, wrong, found) in kinds {
        let mut written = read.clone();
        wrong(written.get_mut(&1).context("partition 1 is empty")?);
        let seen = through(&connector, &rocketmq, what, written, &ledger.load).await?;
        let verdict = judge(&ledger, &seen, &[]);
        println!("{what}: {verdict}");
        ensure!(found(&verdict), "{what}: {verdict}");
        // And it is that alone which is found.
        let all = verdict.lost.len()
            + verdict.repeated.len()
            + verdict.phantoms.len()
            + verdict.corrupt.len()
            + verdict.reordered.len()
            + verdict.scattered.len();
        ensure!(all == usize::from(what != "nothing"), "{what}: {verdict}");
    }
    Ok(())
}

/// One bit.
fn alter(message: &mut Message) {
    let mut value = message.value.take().unwrap_or_default().to_vec();
    value[100] ^= 1;
    message.value = Some(value.into());
}

fn invented() -> Message {
    Message { value: Some("never sent".into()), time: Some(1), ..Message::at(Position::Offset(0)) }
}

/// Writes the messages as a bridge would, and gives what the oracle reads there.
async fn through(
    connector: &Arc<dyn Connector>,
    rocketmq: &RocketMq,
    what: &str,
    written: Partitions,
    load: &Load,
) -> Result<Vec<Seen>> {
    let topic = unique(what);
    connector.ensure(&topic, Ensure { partitions: PARTITIONS, durable: None }).await?;
    let sink = connector.sink(sink_spec(&topic)).await?;
    let count: usize = written.values().map(Vec::len).sum();
    for (partition, messages) in written {
        let mut lane = lane(&sink, partition).await?;
        for together in messages.chunks(TOGETHER) {
            store(&mut *lane, together.to_vec()).await?;
        }
        lane.close().await;
    }
    // A broker confirms what is in its log, and hands out what is in its queues: those follow.
    until("all that was confirmed can be read", SOON, || async {
        let stored = RocketMq::stored(rocketmq.address(), &topic, PARTITIONS).await?;
        ensure!(stored == count as u64, "{stored} of {count}");
        Ok(Some(()))
    })
    .await?;
    let mut target = Target::open(&rocketmq.namesrv, &topic).await?;
    target.read_on(load).await?;
    Ok(target.seen)
}

/// All that the ledger has, in order.
async fn read(servers: &str, topic: &str, ledger: &Ledger) -> Result<Partitions> {
    let consumer: StreamConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", unique("judged")).create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut read = Partitions::new();
    for _ in 0..ledger.confirmed.len() {
        let message = timeout(Duration::from_secs(10), consumer.recv()).await.context("Kafka has no more")??;
        read.entry(message.partition() as u32).or_default().push(taken(&message));
    }
    Ok(read)
}

fn taken(message: &BorrowedMessage<'_>) -> Message {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let mut taken = Message {
        key: message.key().map(bytes),
        value: message.payload().map(bytes),
        time: message.timestamp().to_millis(),
        ..Message::at(Position::Offset(message.offset() as u64))
    };
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        taken.headers.push(header.key.to_owned(), header.value.map(bytes));
    }
    taken
}
