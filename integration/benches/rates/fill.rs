//! The backlog.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::{Wanted, counts::Place};

const KEYS: u64 = 100;
const LIMIT: Duration = Duration::from_secs(120);

/// Writes keyed messages whose values do not compress.
pub async fn fill(place: &Place, wanted: &Wanted) -> Result<()> {
    place.create(wanted.partitions).await?;
    let Place::Kafka { servers, topic } = place.clone() else { bail!("only Kafka is filled") };
    let load = wanted.clone();
    tokio::task::spawn_blocking(move || write(&servers, &topic, &load)).await??;
    let stored = place.count(wanted.partitions).await?;
    if stored != wanted.messages {
        Err(anyhow!("{stored} are in the backlog, not {}", wanted.messages))
    } else {
        Ok(())
    }
}

fn write(servers: &str, topic: &str, wanted: &Wanted) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("partitioner", "murmur2_random")
        .create()?;
    let mut random = SmallRng::seed_from_u64(1);
    let mut value = vec![0; wanted.size];
    for number in 0..wanted.messages {
        random.fill_bytes(&mut value);
        let key = key(number);
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        while let Err((error, again)) = producer.send(record) {
            let KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) = error else { bail!(error) };
            producer.poll(Duration::from_millis(20));
            record = again;
        }
    }
    producer.flush(LIMIT).context("the backlog was not written in time")
}

pub fn key(number: u64) -> String {
    format!("key-{}", number % KEYS)
}
