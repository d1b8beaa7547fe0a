//! One consumer at the broker: the commands it sends and what it hears.

use std::sync::Arc;

use futures::FutureExt;
use pulsar::message::proto::{
    CommandAck, CommandRedeliverUnacknowledgedMessages, CommandSeek, CommandSubscribe, MessageIdData, ServerError,
    base_command::Type,
    command_ack::AckType,
    command_subscribe::{InitialPosition, SubType},
};
use tokio::sync::mpsc;
use trestle_core::{BoxFuture, Fault, Start};

use super::options::RECEIVER_QUEUE_MOST;
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
}

pub(super) struct Consumer {
    pub connection: Connection,
    pub events: mpsc::Receiver<ConsumerEvent>,
    id: u64,
    /// Permits were granted: something may be on its way.
    pub asked: bool,
}

impl Subscription {
    /// Connects and subscribes. `epoch` marks what the broker delivers from now on.
    pub async fn open(&self, epoch: u64) -> Result<Consumer, Fault> {
        let connection = self.cluster.connect(&self.topic, Use::Consume(0)).await?;
        let id = connection.next_id();
        let events = connection.consumer(id, EVENTS).map_err(|e| self.fault("subscribing to", &e))?;
        let position = match self.start {
            Start::Earliest => InitialPosition::Earliest,
            Start::Latest => InitialPosition::Latest,
        };
        let subscribe = |request_id| {
            let mut subscribe = command(Type::Subscribe);
            subscribe.subscribe = Some(CommandSubscribe {
                topic: self.topic.clone(),
                subscription: self.group.clone(),
                sub_type: SubType::Failover as i32,
                consumer_id: id,
                request_id,
                consumer_name: Some(self.consumer_name.clone()),
                durable: Some(true),
                initial_position: Some(position as i32),
                // A name that is not there is a mistake, and not a topic to create.
                force_topic_creation: Some(false),
                consumer_epoch: Some(epoch),
                ..Default::default()
            });
            subscribe
        };
        if let Err(error) = connection.request(subscribe).await {
            // An answer may still come: then nobody would listen to the consumer.
            if !matches!(error, RequestError::Refused { .. }) {
                let _ = connection.close_consumer(id).await;
            }
            return Err(self.fault("subscribing to", &error));
        }
        Ok(Consumer { connection, events, id, asked: false })
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

    /// Everything that is not acknowledged is delivered again, from the acknowledged position on and marked with `epoch`
    /// (PIP-84). Permits stay as they are.
    pub async fn redeliver(&self, epoch: u64) -> Result<(), RequestError> {
        let mut redeliver = command(Type::RedeliverUnacknowledgedMessages);
        redeliver.redeliver_unacknowledged_messages = Some(CommandRedeliverUnacknowledgedMessages {
            consumer_id: self.id,
            consumer_epoch: Some(epoch),
            ..Default::default()
        });
        self.connection.tell(&redeliver).await
    }

    /// Acknowledges everything up to this id; resolves with the broker's answer.
    pub fn acknowledge(&self, message: MessageIdData) -> BoxFuture<'static, Result<(), RequestError>> {
        let (connection, consumer_id) = (self.connection.clone(), self.id);
        async move {
            let answer = connection.request(|request_id| {
                let mut ack = command(Type::Ack);
                ack.ack = Some(CommandAck {
                    consumer_id,
                    ack_type: AckType::Cumulative as i32,
                    message_id: vec![message],
                    request_id: Some(request_id),
                    ..Default::default()
                });
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
        .boxed()
    }

    /// Sets the subscription to this message. The broker closes all its consumers then.
    pub fn seek(&self, message: MessageIdData) -> BoxFuture<'static, Result<(), RequestError>> {
        let (connection, consumer_id) = (self.connection.clone(), self.id);
        async move {
            let seek = |request_id| {
                let mut seek = command(Type::Seek);
                let message_id = Some(message);
                seek.seek = Some(CommandSeek { consumer_id, request_id, message_id, ..Default::default() });
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
