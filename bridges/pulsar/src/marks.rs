//! The acknowledgements of a durable subscription, one by one. What is acknowledged is read from the broker's own record of the
//! subscription; acknowledging needs a consumer, which is exclusive and asks for no messages.

use std::{collections::BTreeMap, sync::Arc};

use pulsar::message::proto::{CommandSubscribe, base_command::Type, command_ack::AckType, command_subscribe::SubType};
use trestle_core::{BoxFuture, Fault, FaultKind, Marks, PartitionId, Position, Why};

use crate::{
    acknowledged::Acknowledged,
    batch::EntryId,
    classify,
    cluster::Cluster,
    connection::{Connection, RequestError, command},
    pool::Use,
    source::acknowledge,
    topic::Topic,
};

pub(crate) struct SubscriptionMarks {
    cluster: Arc<Cluster>,
    topic: Topic,
    /// 0 for a topic without.
    partitions: u32,
    subscription: String,
    marked: BTreeMap<PartitionId, Acknowledged>,
    consumers: BTreeMap<PartitionId, Consumer>,
}

struct Consumer {
    connection: Connection,
    id: u64,
    /// Nothing comes on it but its end.
    _events: tokio::sync::mpsc::Receiver<crate::connection::ConsumerEvent>,
}

impl SubscriptionMarks {
    /// A subscription that is not there has acknowledged nothing.
    pub async fn open(cluster: Arc<Cluster>, topic: Topic, subscription: &str) -> Result<Self, Fault> {
        let Some(admin) = &cluster.admin else {
            let detail = format!(
                "what subscription {subscription} of {topic} has acknowledged is told by the REST interface alone: set the \
                 `admin` URL of cluster {}",
                cluster.name
            );
            return Err(Fault::unavailable(Why::Permission, detail));
        };
        let partitions = cluster.partitions_of(&topic).await?;
        let mut marked = BTreeMap::new();
        for index in 0..partitions.max(1) {
            let acknowledged = admin.acknowledged(&topic, index, partitions > 0, subscription).await?;
            marked.insert(PartitionId(index), acknowledged.unwrap_or_default());
        }
        let subscription = subscription.to_owned();
        Ok(SubscriptionMarks { cluster, topic, partitions, subscription, marked, consumers: BTreeMap::new() })
    }

    fn fault(&self, error: &RequestError) -> Fault {
        let name = &self.cluster.name;
        let doing = format!("acknowledging on subscription {} of {} on cluster {name}", self.subscription, self.topic);
        let mut fault = classify::fault(doing, error);
        if let RequestError::Refused { error: pulsar::message::proto::ServerError::ConsumerBusy, .. } = error {
            // Waiting would not help: it is a person's decision who goes on.
            fault.kind = FaultKind::Unavailable(Why::Permission);
            fault.detail += "; somebody else works on it, another replay perhaps: end it first";
        }
        fault
    }

    async fn consumer(&mut self, partition: PartitionId) -> Result<(Connection, u64), Fault> {
        if let Some(consumer) = self.consumers.get(&partition) {
            return Ok((consumer.connection.clone(), consumer.id));
        }
        let topic = self.topic.partition(partition.0, self.partitions > 0);
        let connection = self.cluster.connect(&topic, Use::Consume(0)).await?;
        let id = connection.next_id();
        let events = connection.consumer(id, 8).map_err(|error| self.fault(&error))?;
        let subscribe = |request_id| {
            let mut subscribe = command(Type::Subscribe);
            subscribe.subscribe = Some(CommandSubscribe {
                topic,
                subscription: self.subscription.clone(),
                sub_type: SubType::Exclusive as i32,
                consumer_id: id,
                request_id,
                durable: Some(true),
                force_topic_creation: Some(false),
                ..Default::default()
            });
            subscribe
        };
        connection.request(subscribe).await.map_err(|error| self.fault(&error))?;
        self.consumers.insert(partition, Consumer { connection: connection.clone(), id, _events: events });
        Ok((connection, id))
    }

    async fn acknowledge(
        &mut self,
        partition: PartitionId,
        entries: &[EntryId],
        upto: Option<EntryId>,
    ) -> Result<(), Fault> {
        let (connection, id) = self.consumer(partition).await?;
        let ids = entries.iter().filter(|id| upto.is_none_or(|upto| **id > upto)).map(|id| id.message_id());
        let ids: Vec<_> = ids.collect();
        let mut done = Ok(());
        if let Some(upto) = upto {
            done = acknowledge(connection.clone(), id, AckType::Cumulative, vec![upto.message_id()]).await;
        }
        if done.is_ok() && !ids.is_empty() {
            done = acknowledge(connection, id, AckType::Individual, ids).await;
        }
        done.map_err(|error| {
            // The next attempt begins with a new one.
            self.consumers.remove(&partition);
            self.fault(&error)
        })
    }
}

impl Marks for SubscriptionMarks {
    fn has(&self, partition: PartitionId, position: Position) -> bool {
        let marked = self.marked.get(&partition);
        marked.zip(EntryId::of(position)).is_some_and(|(marked, (id, _))| marked.has(id))
    }

    fn mark(
        &mut self,
        partition: PartitionId,
        positions: Vec<Position>,
        upto: Option<Position>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let entries: Vec<EntryId> = positions.into_iter().filter_map(EntryId::of).map(|(id, _)| id).collect();
            let upto = upto.and_then(EntryId::of).map(|(id, _)| id);
            self.acknowledge(partition, &entries, upto).await?;
            let marked = self.marked.entry(partition).or_default();
            upto.into_iter().for_each(|upto| marked.add_upto(upto));
            entries.into_iter().for_each(|id| marked.add(id));
            Ok(())
        })
    }
}

impl Drop for SubscriptionMarks {
    fn drop(&mut self) {
        // Others may mark as soon as it is gone. Connections are shared and stay.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for consumer in std::mem::take(&mut self.consumers).into_values() {
                runtime.spawn(async move {
                    let _ = consumer.connection.close_consumer(consumer.id).await;
                });
            }
        }
    }
}
