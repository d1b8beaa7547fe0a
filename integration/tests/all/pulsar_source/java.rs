//! What Pulsar's own client has written, read.

use anyhow::{Result, ensure};
use trestle_core::{Cause, Message, Position, SourceSpec};
use trestle_integration::{Brokers, Native, Pulsar};

use super::{
    rig::{Reader, settle_all, spec},
    types::of_type,
};
use crate::pulsar_sink::rig::{connector, number};

/// Writes `count` messages of `size` bytes, as `PulsarProduce.java` says.
pub async fn produce(pulsar: &Pulsar, topic: &str, how: &str, count: u64, size: usize) -> Result<()> {
    let topic = format!("persistent://public/default/{topic}");
    let (count, size) = (count.to_string(), size.to_string());
    let program = Native::compile(&pulsar.broker, "PulsarProduce", "/opt/pulsar/lib").await?;
    program.printed(&[], &[&pulsar.url, &topic, how, &count, &size]).await.map(drop)
}

/// As many messages as `until` wants, all settled.
async fn read(reader: &mut Reader, mut until: impl FnMut(&[Message]) -> bool) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    while !until(&messages) {
        let batch = reader.next().await?;
        settle_all(&batch);
        messages.extend(batch.messages.iter().cloned());
    }
    Ok(messages)
}

fn value(number: u64, size: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.extend((8..size).map(|at| (at / 7) as u8));
    value
}

#[tokio::test]
async fn batches_of_javas_client_come_apart_whatever_compresses_them() -> Result<()> {
    const EACH: u64 = 200;
    let how = "NONE,LZ4,ZLIB,ZSTD,SNAPPY";
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/java-batches", 1).await?;
    produce(pulsar, "java-batches", how, EACH, 3000).await?;
    let mut reader = Reader::open(&connector(pulsar), spec("java-batches"), 64 << 20).await?;
    let messages = read(&mut reader, |messages| messages.len() as u64 >= 5 * EACH).await?;
    ensure!(messages.len() as u64 == 5 * EACH);
    for (at, message) in (0..).zip(&messages) {
        ensure!(message.defect.is_none(), "{at}: {:?}", message.defect);
        ensure!(message.value.as_deref() == Some(&value(at, 3000)[..]), "{at} has another value");
        ensure!(message.key.as_deref() == Some(format!("key-{}", at % 10).as_bytes()), "{at}: {:?}", message.key);
        ensure!(message.time == Some(1 + at as i64), "{at}: {:?}", message.time);
    }
    let batched = |m: &&Message| matches!(m.position, Position::Entry { index, .. } if index > 0);
    ensure!(messages.iter().filter(batched).count() as u64 > 4 * EACH, "they were no batches");
    reader.control.close().await;
    Ok(())
}

#[tokio::test]
async fn a_chunked_message_of_javas_client_comes_whole_or_as_defects_that_say_why() -> Result<()> {
    const SIZE: usize = 1_000_000;
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/java-chunks", 1).await?;
    produce(pulsar, "java-chunks", "chunked", 3, SIZE).await?;
    let mut whole = Reader::open(&connector(pulsar), spec("java-chunks"), 64 << 20).await?;
    let messages = read(&mut whole, |messages| messages.len() >= 3).await?;
    ensure!(messages.len() == 3);
    for (at, message) in (0..).zip(&messages) {
        ensure!(message.defect.is_none(), "{:?}", message.defect);
        ensure!(message.value.as_deref() == Some(&value(at, SIZE)[..]), "{at} has another value");
    }
    whole.control.close().await;
    // Where several readers share it each could be given a part: every part says so, and is read on past.
    let shared = SourceSpec { group: "sharing".into(), ..of_type("java-chunks", "Shared") };
    let mut parts = Reader::open(&connector(pulsar), shared, 64 << 20).await?;
    let bytes = |messages: &[Message]| messages.iter().map(|m| m.value.as_ref().map_or(0, |v| v.len())).sum::<usize>();
    let messages = read(&mut parts, |messages| bytes(messages) >= 3 * SIZE).await?;
    for message in &messages {
        let defect = message.defect.as_ref();
        ensure!(
            defect.is_some_and(|d| d.cause == Cause::Untranslatable && d.detail.contains("Failover")),
            "{:?}: {defect:?}",
            message.position
        );
    }
    ensure!(messages.len() >= 30 && number(messages[0].value.as_deref().unwrap_or(&[1; 8])) == 0);
    parts.control.close().await;
    Ok(())
}
