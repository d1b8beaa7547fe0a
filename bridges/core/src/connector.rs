use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{BoxFuture, Fault, Marks, PartitionId, Reader, ReaderSpec, Sink, Source, SourceControl, Survey, survey};

/// One cluster of one protocol. Cheap to make: connections are opened by what it makes.
pub trait Connector: Send + Sync {
    /// Joins the group and reads the topic.
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<SourcePair, Fault>>;

    fn sink(&self, spec: SinkSpec) -> BoxFuture<'_, Result<Arc<dyn Sink>, Fault>>;

    /// Reads the topic without a group.
    fn reader(&self, spec: ReaderSpec) -> BoxFuture<'_, Result<Box<dyn Reader>, Fault>>;

    /// The marks of a group that the cluster itself keeps; `None` where it keeps none in any order. Nobody else can mark
    /// for the same group from the first mark on until this is dropped.
    fn marks<'a>(&'a self, _topic: &'a str, _group: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Marks>>, Fault>> {
        Box::pin(async { Ok(None) })
    }

    /// Full names of the topics that a route could read, those that the brokers keep for themselves left out. `like` is a
    /// pattern in the protocol's form of a name; what of it is no pattern, such as a namespace, may narrow the search.
    fn topics<'a>(&'a self, _like: &'a str) -> BoxFuture<'a, Result<Vec<String>, Fault>> {
        Box::pin(async { Err(Fault::down("this connector cannot list topics")) })
    }

    /// What the cluster says of a topic; [`Why::UnknownTopic`](crate::Why) when there is none.
    fn describe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, Fault>>;

    /// Creates what is missing (namespace, topic, partitions, subscription) and checks what is there; never takes away.
    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>>;

    /// Asks the cluster who it is and what it says of these topics, and changes nothing: no topic, subscription or group
    /// comes into being. The fault says which address did not answer, and why.
    fn survey<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<Survey, Fault>> {
        Box::pin(async move { Ok(survey::describe_each(self, topics).await) })
    }
}

/// What reads, and what steers it.
pub type SourcePair = (Box<dyn Source>, Arc<dyn SourceControl>);

#[derive(Clone, Debug)]
pub struct SourceSpec {
    pub topic: String,
    /// The consumer group, or the subscription's name.
    pub group: String,
    /// Where to begin when the group has no position.
    pub start: Start,
    pub route: String,
    /// Bytes that the client may buffer on its own.
    pub buffer_bytes: usize,
    /// Bytes of a message at most; a larger one is handed out as a defect.
    pub largest_message: usize,
    /// How often settled positions are committed.
    pub commit_interval: Duration,
    /// The protocol's own settings, by the client's own names.
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    /// At the first message that the cluster dates so or later, in milliseconds since 1970-01-01T00:00Z.
    Time(i64),
    /// At these offsets, by partition; one that is not named here begins at its first message.
    Offsets(BTreeMap<PartitionId, u64>),
}

#[derive(Clone, Debug)]
pub struct SinkSpec {
    pub topic: String,
    pub route: String,
    /// `stage`, `deliver` or `dead-letter`.
    pub hop: &'static str,
    /// One instance alone may write through each lane; a newer one takes it over. Where the protocol has no fence: ignored.
    pub fenced: bool,
    /// A message over the broker's limit is split the protocol's own way instead of refused.
    pub split_large: bool,
    /// A send not confirmed in this time is a `Timeout`.
    pub send_timeout: Duration,
    pub guarantee: Guarantee,
    pub options: BTreeMap<String, String>,
}

/// When a message counts as stored although the broker did not store it as safely as configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Guarantee {
    /// Only when it is stored as the cluster's configuration promises.
    #[default]
    Replicated,
    /// As soon as the broker accepted it.
    Accepted,
}

#[derive(Clone, Debug, Default)]
pub struct TopicInfo {
    pub partitions: u32,
    /// Bytes of a message at most, where the cluster says it.
    pub max_message: Option<usize>,
    /// Whether [`Connector::ensure`] can give it more partitions.
    pub grows: bool,
    /// What could make messages vanish before a group has read them, in sentences for people. A topic with any cannot
    /// hold what must stay ([`Ensure::durable`]).
    pub losses: Vec<String>,
    /// What could refuse or change messages that are written here.
    pub warnings: Vec<String>,
    /// What could not be found out.
    pub unchecked: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Ensure {
    /// The topic has at least this many partitions afterwards.
    pub partitions: u32,
    /// Present when messages must stay until this subscription acknowledges them. It is created at the beginning of the
    /// topic, and the call fails where the cluster's settings could drop messages before.
    pub durable: Option<Durable>,
}

#[derive(Clone, Debug)]
pub struct Durable {
    pub subscription: String,
}
