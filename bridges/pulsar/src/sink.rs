//! Writes one topic: where keys go, whether the brokers answer, and the lanes.

mod options;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use pulsar::message::proto::{CommandProducer, ServerError, base_command::Type};
use tokio::time::{interval, timeout};
use trestle_core::{BoxFuture, Fault, FaultKind, Lane, LaneKey, Limits, PartitionId, Scope, Sink, SinkSpec, Why};

pub(crate) use self::options::Options;
use crate::{
    classify,
    cluster::Cluster,
    connection::{RequestError, command},
    lane::{LaneSpec, PulsarLane, UNIT_BYTES, UNIT_MESSAGES},
    place::place,
    pool::Use,
    topic::Topic,
};

/// How often a topic is asked for new partitions; the Java client's `autoUpdatePartitionsInterval`.
const PARTITIONS_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct PulsarSink {
    cluster: Arc<Cluster>,
    topic: Topic,
    spec: SinkSpec,
    options: Options,
    /// 0 for a topic without partitions.
    partitions: AtomicU32,
    /// The topic's own limit of a message, where it is known.
    max_message: Option<usize>,
}

impl PulsarSink {
    /// The topic has to exist: a sink creates none.
    pub async fn open(cluster: Arc<Cluster>, spec: SinkSpec) -> Result<Arc<PulsarSink>, Fault> {
        let wrong = |what: String| Fault::new(FaultKind::Unavailable(Why::Down), Scope::Cluster, what);
        let topic = Topic::parse(&spec.topic).map_err(wrong)?;
        let options =
            Options::parse(&spec.options).map_err(|e| wrong(format!("the options of the topic {topic}: {e}")))?;
        let partitions = cluster.partitions_of(&topic).await?;
        let max_message = match &cluster.admin {
            // Without permission to ask it is found out by the broker's refusal.
            Some(admin) => admin.policies(&topic).await.ok().and_then(|policies| policies.max_message()),
            None => None,
        };
        let partitions = AtomicU32::new(partitions);
        let sink = Arc::new(PulsarSink { cluster, topic, spec, options, partitions, max_message });
        tokio::spawn(watch_partitions(Arc::downgrade(&sink)));
        Ok(sink)
    }

    fn partition_topic(&self, partition: PartitionId) -> String {
        self.topic.partition(partition.0, self.partitions.load(Ordering::Relaxed) > 0)
    }

    /// Whether the broker of the partition would let a producer in. One is opened and closed again: that takes the
    /// broker, the topic's metadata and its quotas, and neither writes nor disturbs the lane's own producer, which has
    /// another name and, where it is exclusive, keeps this one out.
    async fn try_producer(&self, topic: &str) -> Result<(), Fault> {
        let connection = self.cluster.connect(topic, Use::Probe).await?;
        let id = connection.next_id();
        let open = |request_id| {
            let mut open = command(Type::Producer);
            open.producer = Some(CommandProducer {
                topic: topic.into(),
                producer_id: id,
                request_id,
                producer_name: Some(format!("trestle-{}-{}-probe", self.spec.route, self.spec.hop)),
                user_provided_producer_name: Some(true),
                ..Default::default()
            });
            open
        };
        let doubt = Doubt(Some(connection.clone()));
        let answer = connection.request(open).await;
        if answer.is_ok() {
            // An error says that the connection, and with it the producer, is gone.
            let _ = connection.close_producer(id, self.spec.send_timeout).await;
        }
        doubt.answered(&answer);
        match answer {
            Ok(_) => Ok(()),
            // The lane's own exclusive producer, or another instance's probe.
            Err(RequestError::Refused { error: ServerError::ProducerBusy | ServerError::ProducerFenced, .. }) => Ok(()),
            Err(e) => Err(classify::fault(format!("probing {topic} on cluster {}", self.cluster.name), &e)),
        }
    }
}

impl Sink for PulsarSink {
    fn limits(&self) -> Limits {
        Limits { unit_messages: UNIT_MESSAGES, unit_bytes: UNIT_BYTES }
    }

    fn partitions(&self) -> u32 {
        self.partitions.load(Ordering::Relaxed).max(1)
    }

    fn place(&self, key: &[u8]) -> PartitionId {
        PartitionId(place(key, self.partitions()))
    }

    fn probe(&self, partition: PartitionId) -> BoxFuture<'_, Result<(), Fault>> {
        async move {
            let topic = self.partition_topic(partition);
            let within = self.spec.send_timeout;
            timeout(within, self.try_producer(&topic)).await.unwrap_or_else(|_| {
                Err(Fault::down(format!(
                    "the broker of {topic} on cluster {} did not answer in {within:?}",
                    self.cluster.name
                )))
            })
        }
        .boxed()
    }

    /// A fenced lane takes the partition over from whoever had it; any other shares it. A lane that belongs to one source
    /// partition has a name of its own, which no second instance gets while the first is connected; one that does not
    /// has a name that no other instance has.
    fn lane(&self, key: LaneKey) -> BoxFuture<'_, Result<Box<dyn Lane>, Fault>> {
        let mut name = format!("trestle-{}-{}-{}", self.spec.route, self.spec.hop, key.target);
        match key.source {
            Some(source) => name += &format!("-{source}"),
            None if self.spec.fenced => {}
            None => name += &format!("-{:016x}", rand::random::<u64>()),
        }
        let spec = LaneSpec {
            cluster: self.cluster.clone(),
            topic: self.partition_topic(key.target),
            name,
            fenced: self.spec.fenced,
            send_timeout: self.spec.send_timeout,
            compression: self.options.compression,
            restore_schemas: self.options.restore_schemas && self.spec.hop == "deliver",
            split_large: self.spec.split_large,
            max_message: self.max_message,
        };
        async move { Ok(Box::new(PulsarLane::open(spec).await?) as Box<dyn Lane>) }.boxed()
    }
}

/// Ends with its sink.
async fn watch_partitions(sink: Weak<PulsarSink>) {
    let mut every = interval(PARTITIONS_EVERY);
    every.tick().await;
    loop {
        every.tick().await;
        let Some(sink) = sink.upgrade() else { return };
        // A topic without partitions cannot get any.
        let known = sink.partitions.load(Ordering::Relaxed);
        if known == 0 {
            return;
        }
        // An outage is told by those who need the cluster.
        if let Ok(now) = sink.cluster.partition_metadata(&sink.topic).await
            && now > known
        {
            sink.partitions.store(now, Ordering::Relaxed);
            tracing::info!(topic = %sink.topic, from = known, to = now, "partitions were added");
        }
    }
}

/// A connection that a probe waits on: without an answer it is ended, so that the next probe takes a new one.
struct Doubt(Option<crate::connection::Connection>);

impl Doubt {
    fn answered<T>(mut self, answer: &Result<T, RequestError>) {
        if !matches!(answer, Err(RequestError::Timeout { .. })) {
            self.0 = None;
        }
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.abort();
        }
    }
}
