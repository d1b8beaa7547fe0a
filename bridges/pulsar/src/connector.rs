//! One Pulsar cluster as the rest of Trestle sees it.

use std::sync::Arc;

use futures::FutureExt;
use pulsar::message::proto::{
    CommandSubscribe, ServerError,
    base_command::Type,
    command_subscribe::{InitialPosition, SubType},
};
use trestle_core::{
    BoxFuture, Connector, Ensure, Fault, FaultKind, Marks, Reader, ReaderSpec, Scope, Sink, SinkSpec, SourcePair,
    SourceSpec, Survey, TopicInfo, Why,
};

use crate::{
    classify,
    cluster::Cluster,
    connection::{RequestError, command},
    marks::SubscriptionMarks,
    pool::Use,
    reader,
    settings::Settings,
    sink::PulsarSink,
    source,
    topic::Topic,
};

pub(crate) struct PulsarConnector {
    pub(crate) cluster: Arc<Cluster>,
}

impl PulsarConnector {
    pub fn new(name: &str, settings: &Settings) -> Result<PulsarConnector, String> {
        Ok(PulsarConnector { cluster: Arc::new(Cluster::new(name, settings)?) })
    }

    pub(crate) async fn describe(&self, topic: &Topic) -> Result<TopicInfo, Fault> {
        let partitions = match &self.cluster.admin {
            Some(admin) => {
                let missing = || format!("there is no topic {topic} on cluster {}; create it", self.cluster.name);
                admin.partitions(topic).await?.ok_or_else(|| Fault::unavailable(Why::UnknownTopic, missing()))?
            }
            None => self.cluster.partitions_of(topic).await?,
        };
        let connection = self.cluster.connect(&topic.partition(0, partitions > 0), Use::Probe).await?;
        let mut info = TopicInfo {
            partitions: partitions.max(1),
            max_message: Some(connection.max_message()),
            // A topic without partitions can never get any.
            grows: partitions > 0 && self.cluster.admin.is_some(),
            ..TopicInfo::default()
        };
        match &self.cluster.admin {
            Some(admin) => match admin.policies(topic).await {
                Ok(policies) => {
                    info.losses = policies.losses(&topic.namespace());
                    info.warnings = policies.warnings();
                    info.max_message = info.max_message.min(policies.max_message().or(info.max_message));
                }
                Err(fault) => info.unchecked.push(format!("the policies of {topic} could not be read: {fault}")),
            },
            None => info.unchecked.push(self.unchecked(topic)),
        }
        Ok(info)
    }

    fn unchecked(&self, topic: &Topic) -> String {
        format!(
            "cluster {} has no `admin` URL: whether TTL, backlog eviction or the expiry of subscriptions could drop \
             messages of {topic} was not checked",
            self.cluster.name
        )
    }

    async fn ensure(&self, topic: &Topic, ensure: &Ensure) -> Result<TopicInfo, Fault> {
        let partitions = match &self.cluster.admin {
            Some(admin) => {
                admin.ensure_namespace(topic).await?;
                let there = match admin.partitions(topic).await? {
                    Some(there) => there,
                    None => {
                        // Always with partitions: a topic without can never get any.
                        admin.create_topic(topic, ensure.partitions.max(1)).await?;
                        admin.partitions(topic).await?.unwrap_or(ensure.partitions.max(1))
                    }
                };
                if there > 0 && there < ensure.partitions {
                    admin.grow_topic(topic, ensure.partitions).await?;
                }
                if there > 0 { there.max(ensure.partitions) } else { 0 }
            }
            None => self.cluster.partitions_of(topic).await?,
        };
        if partitions.max(1) < ensure.partitions {
            let name = &self.cluster.name;
            let detail = match partitions {
                0 => format!(
                    "{topic} on cluster {name} has no partitions and can never get any, but {} are needed; \
                              use another topic",
                    ensure.partitions
                ),
                _ => format!(
                    "{topic} on cluster {name} has {partitions} partitions and {} are needed; add them, or set \
                              the cluster's `admin` URL",
                    ensure.partitions
                ),
            };
            return Err(Fault::new(FaultKind::Unavailable(Why::UnknownTopic), Scope::Cluster, detail));
        }
        if let Some(durable) = &ensure.durable {
            match &self.cluster.admin {
                Some(admin) => {
                    admin.ensure_subscription(topic, partitions, &durable.subscription).await?;
                    let losses = admin.policies(topic).await?.losses(&topic.namespace());
                    if !losses.is_empty() {
                        let detail = format!("messages could vanish from {topic} unread: {}", losses.join("; "));
                        return Err(Fault::new(FaultKind::Unavailable(Why::Permission), Scope::Cluster, detail));
                    }
                }
                None => {
                    for index in 0..partitions.max(1) {
                        self.subscribe_once(&topic.partition(index, partitions > 0), &durable.subscription).await?;
                    }
                }
            }
        }
        self.describe(topic).await
    }

    /// Creates a durable subscription at the beginning of a partition by connecting to it for a moment.
    async fn subscribe_once(&self, topic: &str, subscription: &str) -> Result<(), Fault> {
        let connection = self.cluster.connect(topic, Use::Probe).await?;
        let id = connection.next_id();
        let what = || format!("creating subscription {subscription} on {topic} of cluster {}", self.cluster.name);
        let _events = connection.consumer(id, 1).map_err(|e| classify::fault(what(), &e))?;
        let subscribe = |request_id| {
            let mut subscribe = command(Type::Subscribe);
            subscribe.subscribe = Some(CommandSubscribe {
                topic: topic.into(),
                subscription: subscription.into(),
                sub_type: SubType::Exclusive as i32,
                consumer_id: id,
                request_id,
                durable: Some(true),
                initial_position: Some(InitialPosition::Earliest as i32),
                force_topic_creation: Some(false),
                ..Default::default()
            });
            subscribe
        };
        match connection.request(subscribe).await {
            Ok(_) => connection.close_consumer(id).await.map_err(|e| classify::fault(what(), &e)),
            // Somebody is connected to it: it is there.
            Err(RequestError::Refused { error: ServerError::ConsumerBusy, .. }) => Ok(()),
            Err(e) => Err(classify::fault(what(), &e)),
        }
    }
}

impl Connector for PulsarConnector {
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<SourcePair, Fault>> {
        source::open(self.cluster.clone(), spec).boxed()
    }

    fn sink(&self, spec: SinkSpec) -> BoxFuture<'_, Result<Arc<dyn Sink>, Fault>> {
        async move { Ok(PulsarSink::open(self.cluster.clone(), spec).await? as Arc<dyn Sink>) }.boxed()
    }

    fn reader(&self, spec: ReaderSpec) -> BoxFuture<'_, Result<Box<dyn Reader>, Fault>> {
        reader::open(self.cluster.clone(), spec).boxed()
    }

    fn marks<'a>(&'a self, topic: &'a str, group: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Marks>>, Fault>> {
        async move {
            let marks = SubscriptionMarks::open(self.cluster.clone(), Topic::of(topic)?, group).await?;
            Ok(Some(Box::new(marks) as Box<dyn Marks>))
        }
        .boxed()
    }

    fn topics<'a>(&'a self, like: &'a str) -> BoxFuture<'a, Result<Vec<String>, Fault>> {
        self.cluster.topics(like).boxed()
    }

    fn describe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        async move { self.describe(&Topic::of(topic)?).await }.boxed()
    }

    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        async move { self.ensure(&Topic::of(topic)?, &ensure).await }.boxed()
    }

    fn survey<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<Survey, Fault>> {
        self.survey(topics).boxed()
    }
}
