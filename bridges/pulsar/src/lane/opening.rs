//! Opening and closing the producer of a lane.

use std::{sync::Arc, time::Duration};

use pulsar::message::proto::{
    CommandCloseProducer, CommandProducer, CompressionType, ProducerAccessMode, base_command::Type,
};
use tokio::{sync::mpsc, time::timeout};
use trestle_core::Fault;

use super::encode::Encoder;
use crate::{
    classify,
    cluster::Cluster,
    connection::{Connection, ProducerEvent, RequestError, command},
    pool::Use,
};

/// Lookup, connection, PRODUCER and the look at the end of the topic.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A broker that is well answers a PING, and closes a producer nothing of which is stuck, in this time.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What a lane needs to open its producer, again and again.
pub(crate) struct LaneSpec {
    pub cluster: Arc<Cluster>,
    /// Full name, of one partition.
    pub topic: String,
    /// The same for every producer of the lane: it is what keeps an old one from storing behind a new one.
    pub name: String,
    pub fenced: bool,
    pub send_timeout: Duration,
    pub compression: CompressionType,
    /// Schemas that messages bring are registered with the topic.
    pub restore_schemas: bool,
    pub split_large: bool,
    /// The topic's own limit, when it is lower than the broker's.
    pub max_message: Option<usize>,
}

pub(super) struct Producer {
    pub id: u64,
    pub connection: Connection,
    pub events: mpsc::Receiver<ProducerEvent>,
    pub encoder: Encoder,
    leaving: Leaving,
}

impl Producer {
    /// Closes it; with an answer everything it sent has been answered, too.
    pub async fn close(self) {
        let _ = self.connection.close_producer(self.id, ANSWER_TIMEOUT).await;
        self.leaving.done();
    }

    /// It is gone, or known to be beyond reach.
    pub fn forget(self) {
        self.leaving.done();
    }
}

/// What the broker said when it let the producer in.
pub(super) struct Opened {
    pub producer: Producer,
    /// With broker deduplication: the last sequence id stored under this name; else -1.
    pub last_sequence: i64,
    pub topic_epoch: Option<u64>,
}

impl LaneSpec {
    /// Opens a producer. `epoch` counts the openings; `topic_epoch` is what a fenced lane got the first time.
    pub(super) async fn open(&self, epoch: u64, topic_epoch: Option<u64>) -> Result<Opened, Fault> {
        let connection = self.cluster.connect(&self.topic, Use::Produce).await?;
        let what = || format!("opening a producer on {} of cluster {}", self.topic, self.cluster.name);
        let fault = |e: &RequestError| classify::fault(what(), e);
        let id = connection.next_id();
        let events = connection.producer(id).map_err(|e| fault(&e))?;
        let mode = if self.fenced { ProducerAccessMode::ExclusiveWithFencing } else { ProducerAccessMode::Shared };
        let open = |request_id| {
            let mut open = command(Type::Producer);
            open.producer = Some(CommandProducer {
                topic: self.topic.clone(),
                producer_id: id,
                request_id,
                producer_name: Some(self.name.clone()),
                user_provided_producer_name: Some(true),
                epoch: Some(epoch),
                producer_access_mode: Some(mode as i32),
                topic_epoch,
                ..Default::default()
            });
            open
        };
        // From here on: what is given up may be opened by the broker all the same, and would hold the name.
        let leaving = Leaving { connection: Some(connection.clone()), id };
        let answer = match connection.request(open).await {
            Err(RequestError::Refused { error, address, message }) => {
                leaving.done();
                return Err(fault(&RequestError::Refused { error, address, message }));
            }
            other => other.map_err(|e| fault(&e))?,
        };
        let Some(success) = answer.producer_success else {
            return Err(Fault::down(format!("{}: an answer to something else", what())));
        };
        if success.producer_ready == Some(false) {
            return Err(Fault::down(format!("{}: another producer holds the topic exclusively", what())));
        }
        let limit = self.max_message.unwrap_or(usize::MAX).min(connection.max_message());
        let encoder = Encoder {
            producer_id: id,
            name: self.name.clone(),
            topic: self.topic.clone(),
            max_message: limit,
            compression: self.compression,
            split_large: self.split_large,
        };
        Ok(Opened {
            last_sequence: success.last_sequence_id(),
            topic_epoch: success.topic_epoch,
            producer: Producer { id, connection, events, encoder, leaving },
        })
    }
}

/// A producer that was asked for. Dropped before it is done, it is closed and its connection checked.
struct Leaving {
    connection: Option<Connection>,
    id: u64,
}

impl Leaving {
    fn done(mut self) {
        self.connection = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let producer_id = self.id;
        // Bounded by its timeouts; there is nobody to tell how it went.
        tokio::spawn(async move {
            let close = CommandCloseProducer { producer_id, request_id: connection.next_id() };
            let mut closing = command(Type::CloseProducer);
            closing.close_producer = Some(close);
            let told = timeout(ANSWER_TIMEOUT, connection.tell(&closing)).await;
            if !matches!(told, Ok(Ok(()))) || !connection.answers(ANSWER_TIMEOUT).await {
                connection.abort();
            }
        });
    }
}
