//! One consumer at the broker: the commands it sends and what it hears.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{FutureExt, future::join};
use pulsar::message::proto::{
    CommandAck, CommandSeek, CommandSubscribe, KeySharedMeta, KeySharedMode, KeyValue, MessageIdData, ServerError,
    base_command::Type, command_ack::AckType, command_subscribe::InitialPosition,
};
use tokio::sync::mpsc;
use trestle_core::{BoxFuture, Fault, Start};

use super::options::{RECEIVER_QUEUE_MOST, SubscriptionType};
use crate::{
    classify,
    cluster::Cluster,
    connection::{Connection, ConsumerEvent, RequestError, command},
    pool::Use,
};

/// Room for all that permits allow, and for what is said beside it: reading the connection never waits for a partition.
const EVENTS: usize = RECEIVER_QUEUE_MOST as usize + 24;

/// What is subscribed to, and as whom.
pub(super) struct Subscription {
    pub cluster: Arc<Cluster>,
    /// The full name, of one partition.
    pub topic: String,
    pub group: String,
    /// The same for all partitions: the broker sorts by it and gives partition i to consumer i modulo their number.
    pub consumer_name: String,
    pub start: Start,
    pub subscription_type: SubscriptionType,
    /// Another instance is, or was, a member of the group. Of the source, not of this topic alone.
    pub shared: Arc<AtomicBool>,
    /// The last attempt was refused because another consumer has the subscription.
    pub taken: AtomicBool,
    /// It begins where it is to begin, see [`Subscription::begin`].
    pub begun: AtomicBool,
}

pub(super) struct Consumer {
    pub connection: Connection,
    pub events: mpsc::Receiver<ConsumerEvent>,
    id: u64,
    /// Permits were granted: something may be on its way.
    pub asked: bool,
}

impl Subscription {
    /// Connects and subscribes.
    pub async fn open(&self) -> Result<Consumer, Fault> {
        self.begin().await?;
        let connection = self.cluster.connect(&self.topic, Use::Consume(0)).await?;
        self.subscribe(connection, Vec::new()).await
    }

    /// Subscribes anew in place of `old`, on its connection. Both are asked for at once, so that the broker hardly gets to
    /// give the partition to another instance in between.
    pub async fn replace(&self, old: Consumer) -> Result<Consumer, Fault> {
        let subscribe = self.subscribe(old.connection.clone(), Vec::new());
        // Where closing fails the connection is lost, and the consumer with it.
        if self.subscription_type == SubscriptionType::Failover {
            return join(old.close(), subscribe).await.1;
        }
        // An exclusive one is refused as long as the old one is there; one that shares would be given what the old one had and
        // nothing of the rest.
        let _ = old.close().await;
        subscribe.await
    }

    /// `properties` are for a subscription that is not there yet.
    pub async fn subscribe(&self, connection: Connection, properties: Vec<KeyValue>) -> Result<Consumer, Fault> {
        let id = connection.next_id();
        let events = connection.consumer(id, EVENTS).map_err(|e| self.fault("subscribing to", &e))?;
        let position = match self.start {
            Start::Latest => InitialPosition::Latest,
            _ => InitialPosition::Earliest,
        };
        let subscribe = |request_id| {
            let mut subscribe = command(Type::Subscribe);
            subscribe.subscribe = Some(CommandSubscribe {
                topic: self.topic.clone(),
                subscription: self.group.clone(),
                sub_type: self.subscription_type.protocol() as i32,
                subscription_properties: properties.clone(),
                key_shared_meta: (self.subscription_type == SubscriptionType::KeyShared).then(auto_split),
                consumer_id: id,
                request_id,
                consumer_name: Some(self.consumer_name.clone()),
                durable: Some(true),
                initial_position: Some(position as i32),
                // A name that is not there is a mistake, and not a topic to create.
                force_topic_creation: Some(false),
                ..Default::default()
            });
            subscribe
        };
        if let Err(error) = connection.request(subscribe).await {
            // An answer may still come: then nobody would listen to the consumer.
            if !matches!(error, RequestError::Refused { .. }) {
                let _ = connection.close_consumer(id).await;
            }
            return Err(self.refused(&error));
        }
        self.taken.store(false, Ordering::Relaxed);
        Ok(Consumer { connection, events, id, asked: false })
    }

    fn refused(&self, error: &RequestError) -> Fault {
        let mut fault = self.fault("subscribing to", error);
        let RequestError::Refused { error: ServerError::ConsumerBusy, message, .. } = error else { return fault };
        self.taken.store(true, Ordering::Relaxed);
        let (group, kind) = (&self.group, self.subscription_type.name());
        // `AbstractDispatcherSingleActiveConsumer.addConsumer`, `PersistentSubscription.addConsumer`.
        fault.detail += &if message.contains("different type") {
            format!(
                "; subscription `{group}` is read with another type than `subscriptionType: {kind}` at this moment: give all \
                 its readers the same type, or use a group of its own"
            )
        } else if self.subscription_type == SubscriptionType::Exclusive {
            format!(
                "; subscription `{group}` is Exclusive and another consumer has it: stop that one, or set `subscriptionType: \
                 Failover` on all of them so that this one stands by; it is tried again until then"
            )
        } else {
            return fault;
        };
        fault
    }

    pub fn fault(&self, what: &str, error: &RequestError) -> Fault {
        classify::fault(format!("{what} {} on cluster {}", self.topic, self.cluster.name), error)
    }
}

impl Consumer {
    pub async fn flow(&mut self, permits: u32) -> Result<(), RequestError> {
        self.asked = true;
        self.connection.flow(self.id, permits).await
    }

    /// Acknowledges everything up to this id; resolves with the broker's answer.
    pub fn acknowledge(&self, message: MessageIdData) -> BoxFuture<'static, Result<(), RequestError>> {
        acknowledge(self.connection.clone(), self.id, AckType::Cumulative, vec![message]).boxed()
    }

    /// Acknowledges these messages, each on its own; resolves with the broker's answer.
    pub fn acknowledge_each(&self, messages: Vec<MessageIdData>) -> BoxFuture<'static, Result<(), RequestError>> {
        acknowledge(self.connection.clone(), self.id, AckType::Individual, messages).boxed()
    }

    /// Sets the subscription to this message. The broker closes all its consumers then.
    pub fn seek(&self, message: MessageIdData) -> BoxFuture<'static, Result<(), RequestError>> {
        self.seek_to(CommandSeek { message_id: Some(message), ..Default::default() })
    }

    /// Sets the subscription to the first message published at this time, in ms, or later; as [`Consumer::seek`].
    pub fn seek_time(&self, time: i64) -> BoxFuture<'static, Result<(), RequestError>> {
        let time = u64::try_from(time).unwrap_or_default();
        self.seek_to(CommandSeek { message_publish_time: Some(time), ..Default::default() })
    }

    fn seek_to(&self, to: CommandSeek) -> BoxFuture<'static, Result<(), RequestError>> {
        let (connection, consumer_id) = (self.connection.clone(), self.id);
        async move {
            let seek = |request_id| {
                let mut seek = command(Type::Seek);
                seek.seek = Some(CommandSeek { consumer_id, request_id, ..to });
                seek
            };
            connection.request(seek).await.map(drop)
        }
        .boxed()
    }

    pub async fn close(&self) -> Result<(), RequestError> {
        self.connection.close_consumer(self.id).await
    }
}

/// The broker divides the keys evenly among the consumers that are there.
fn auto_split() -> KeySharedMeta {
    KeySharedMeta { key_shared_mode: KeySharedMode::AutoSplit as i32, ..Default::default() }
}

/// Resolves with the broker's answer.
pub(crate) async fn acknowledge(
    connection: Connection,
    consumer_id: u64,
    ack_type: AckType,
    message_id: Vec<MessageIdData>,
) -> Result<(), RequestError> {
    let answer = connection.request(|request_id| {
        let mut ack = command(Type::Ack);
        let (ack_type, request_id) = (ack_type as i32, Some(request_id));
        ack.ack = Some(CommandAck { consumer_id, ack_type, message_id, request_id, ..Default::default() });
        ack
    });
    let answer = answer.await?.ack_response.unwrap_or_default();
    match answer.error.and_then(|error| ServerError::try_from(error).ok()) {
        Some(error) => Err(RequestError::Refused {
            address: connection.address().into(),
            error,
            message: answer.message.unwrap_or_default(),
        }),
        None => Ok(()),
    }
}
