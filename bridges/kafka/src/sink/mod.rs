//! Writes a topic with one producer.

mod config;
mod lane;
mod producer;
mod suspects;
mod unit;

use std::{
    ffi::CString,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rdkafka::{ClientConfig, producer::Producer as _};
use tokio::sync::Semaphore;
use trestle_core::{BoxFuture, Fault, Lane, LaneKey, Limits, PartitionId, Scope, Sink, SinkSpec};

use crate::{
    classify, murmur2,
    settings::Settings,
    topic::{self, blocking},
};
use lane::{KafkaLane, Target};
use producer::Producer;
use suspects::Suspects;

/// How often the number of partitions is asked for.
const REFRESH: Duration = Duration::from_secs(10);
const REFRESH_TIMEOUT: Duration = Duration::from_secs(5);
/// Probes of one sink that block a thread each at the same time; the others wait their turn.
const PROBES: usize = 32;

pub(crate) async fn open(cluster: &str, settings: &Settings, spec: SinkSpec) -> Result<Arc<dyn Sink>, Fault> {
    let doing = format!("writing {} on {cluster}", spec.topic);
    let name = CString::new(spec.topic.as_str()).map_err(|error| Fault::down(format!("{doing}: {error}")))?;
    let (partitions, topic) = topic::inspect(settings.base(&spec.options), &doing, &spec.topic).await?;
    let config = config::producer(settings, &spec, topic.max_message_bytes)?;
    let shared = Arc::new(Shared {
        producer: Mutex::new(Producer::start(&config, &name, &doing)?),
        config,
        topic: name,
        doing,
        partitions: AtomicU32::new(partitions),
        suspects: Suspects::of(&topic, &spec.options),
    });
    tokio::spawn(refresh(Arc::downgrade(&shared), spec.topic.clone()));
    let limits = config::limits(topic.max_message_bytes);
    Ok(Arc::new(KafkaSink { shared, spec, limits, probes: Arc::new(Semaphore::new(PROBES)) }))
}

struct KafkaSink {
    shared: Arc<Shared>,
    spec: SinkSpec,
    limits: Limits,
    probes: Arc<Semaphore>,
}

/// What a sink and its lanes share.
struct Shared {
    config: ClientConfig,
    topic: CString,
    doing: String,
    producer: Mutex<Arc<Producer>>,
    partitions: AtomicU32,
    suspects: Suspects,
}

impl Shared {
    /// The producer; a new one in place of one that died.
    fn producer(&self) -> Result<Arc<Producer>, Fault> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if producer.is_dead() {
            *producer = Producer::start(&self.config, &self.topic, &self.doing)?;
        }
        Ok(producer.clone())
    }
}

impl Sink for KafkaSink {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn partitions(&self) -> u32 {
        self.shared.partitions.load(Ordering::Relaxed)
    }

    fn place(&self, key: &[u8]) -> PartitionId {
        PartitionId(murmur2::partition(key, self.partitions()))
    }

    /// Asks the partition's leader for its offsets, over the connection that sends use.
    fn probe(&self, partition: PartitionId) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let doing = format!("{}: probing partition {partition}", self.shared.doing);
            let timeout = self.spec.send_timeout;
            let deadline = tokio::time::Instant::now() + timeout;
            let producer = self.shared.producer()?;
            let topic = self.spec.topic.clone();
            let work = async {
                let permit = self.probes.clone().acquire_owned().await;
                let (left, client) = (deadline - tokio::time::Instant::now(), producer.client.clone());
                let id = i32::try_from(partition.0).unwrap_or(i32::MAX);
                blocking(&doing, move || {
                    let answer = client.client().fetch_watermarks(&topic, id, left);
                    drop(permit);
                    answer
                })
                .await
            };
            match tokio::time::timeout_at(deadline + Duration::from_millis(100), work).await {
                Ok(Ok(Ok(_))) => Ok(()),
                Ok(Ok(Err(error))) => Err(match producer.trouble() {
                    Some(code) if error.rdkafka_error_code().is_some_and(classify::says_nothing) => {
                        classify::fault(code, Scope::Partition, &doing, "")
                    }
                    _ => classify::client_fault(&error, Scope::Partition, &doing),
                }),
                Ok(Err(fault)) => Err(fault),
                Err(_) => Err(Fault::down(format!("{doing}: no answer in {timeout:?}"))),
            }
        })
    }

    fn lane(&self, key: LaneKey) -> BoxFuture<'_, Result<Box<dyn Lane>, Fault>> {
        let target = Target {
            shared: self.shared.clone(),
            partition: i32::try_from(key.target.0).unwrap_or(i32::MAX),
            doing: format!("{}, partition {}", self.shared.doing, key.target),
            request_bytes: self.limits.unit_bytes,
        };
        Box::pin(async { Ok(Box::new(KafkaLane(Arc::new(target))) as Box<dyn Lane>) })
    }
}

/// Looks for added partitions while the sink lives.
async fn refresh(sink: Weak<Shared>, topic: String) {
    loop {
        tokio::time::sleep(REFRESH).await;
        let Some(producer) = sink.upgrade().and_then(|shared| shared.producer().ok()) else { return };
        let name = topic.clone();
        let asked = move || producer.client.client().fetch_metadata(Some(&name), REFRESH_TIMEOUT);
        let Ok(Ok(metadata)) = blocking("counting partitions", asked).await else { continue };
        let now = metadata.topics().first().map_or(0, |topic| topic.partitions().len() as u32);
        let Some(shared) = sink.upgrade() else { return };
        let before = shared.partitions.fetch_max(now, Ordering::Relaxed);
        if before < now {
            tracing::info!(before, now, "{}: partitions were added", shared.doing);
        }
    }
}
