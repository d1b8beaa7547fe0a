//! What transactions leave in a topic, and what they hold back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use trestle_core::{Event, Message, PartitionId};

use super::rig::*;

/// The source asks after half a minute.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

fn transactional(servers: &str, id: &str) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("transactional.id", id).set("transaction.timeout.ms", "300000");
    let producer: BaseProducer = config.create()?;
    producer.init_transactions(SOON)?;
    Ok(producer)
}

fn write(producer: &BaseProducer, topic: &str, values: &[&str]) -> Result<()> {
    for value in values {
        producer.send(BaseRecord::<(), _>::to(topic).payload(*value).partition(0)).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(SOON)?)
}

fn values(read: &[(PartitionId, Message)]) -> Vec<String> {
    let text = |message: &Message| String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned();
    read.iter().map(|(_, message)| text(message)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_records_are_not_read_and_an_open_transaction_is_told_and_waited_for() -> Result<()> {
    let servers = servers().await?;
    let (topic, group) = (unique("transactions"), unique("group"));
    create_topic(&servers, &topic, 1, &[]).await?;
    let (to, name) = (servers.clone(), topic.clone());
    let open = tokio::task::spawn_blocking(move || -> Result<BaseProducer> {
        let producer = transactional(&to, &format!("{name}-first"))?;
        for (values, commits) in [(["one", "two"], true), (["gone", "gone"], false), (["three", "four"], true)] {
            producer.begin_transaction()?;
            write(&producer, &name, &values)?;
            if commits {
                producer.commit_transaction(SOON)?;
            } else {
                producer.abort_transaction(SOON)?;
            }
        }
        let open = transactional(&to, &format!("{name}-second"))?;
        open.begin_transaction()?;
        write(&open, &name, &["five"])?;
        // Of nobody's transaction, and behind it.
        producer.begin_transaction()?;
        write(&producer, &name, &["six"])?;
        producer.commit_transaction(SOON)?;
        Ok(open)
    });
    let open = open.await??;

    let mut member = Member::join(&connector(&servers, &[])?, source_spec(&topic, &group)).await?;
    member.assigned(None).await?;
    let read = member.read(4).await?;
    ensure!(values(&read) == ["one", "two", "three", "four"], "{:?}", values(&read));
    let told = member.next(TOLD_WITHIN).await?.context("nothing is said of the transaction")?;
    let Event::Held { why: Some(why), .. } = &told else { anyhow::bail!("{}", what(&told)) };
    ensure!(why.contains("at offset 9 is still open") && why.contains("3 records"), "{why}");

    tokio::task::spawn_blocking(move || open.commit_transaction(SOON)).await??;
    let (mut read, mut taken_back) = (Vec::new(), false);
    while read.len() < 2 || !taken_back {
        match member.next(SOON).await?.context("what was held does not come")? {
            Event::Batch(batch) => {
                read.extend(batch.messages.iter().map(|m| (batch.partition, m.clone())));
                batch.ack.settle(0..batch.messages.len() as u32);
            }
            Event::Held { why: None, .. } => taken_back = true,
            other => anyhow::bail!("{}", what(&other)),
        }
    }
    ensure!(values(&read) == ["five", "six"], "{:?}", values(&read));
    member.control.close().await;
    Ok(())
}
