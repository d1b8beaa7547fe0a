//! One connection to one broker: requests and their answers, and events for its producers and consumers.
//!
//! A connection never mends itself. When it is lost every waiting request is answered with [`RequestError::Lost`] and
//! every event channel ends; the owner (lane, source) asks the [`Pool`](crate::pool::Pool) for a new one.

mod routes;
mod tasks;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use pulsar::message::proto::{
    BaseCommand, CommandAuthResponse, CommandCloseConsumer, CommandCloseProducer, CommandConnect, CommandFlow,
    CommandMessage, CommandPing, CommandSendError, CommandSendReceipt, FeatureFlags, ServerError, base_command::Type,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use self::routes::Routes;
use crate::{
    access::Access,
    frame::{self, Encoded, FRAME_PADDING, Frame, FrameError, Payload},
    url::BrokerUrl,
};

/// Protocol v21, of Pulsar 3.0 and later; a broker answers with what both know.
const PROTOCOL_VERSION: i32 = 21;
/// What brokers before v14 use, which do not say (`Commands.DEFAULT_MAX_MESSAGE_SIZE`).
const DEFAULT_MAX_MESSAGE: usize = 5 * 1024 * 1024;
/// Time for the TCP connection, the TLS handshake and CONNECT together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker may take to answer a request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Without data for this long a PING is sent; without any for as long again the connection is dead.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Frames waiting to be written at most; who writes more waits.
const WRITE_QUEUE_FRAMES: usize = 8;
/// Receipts and the like that a producer has not taken yet. More than a lane's window and its chunks: it never fills
/// unless the broker sends what nobody asked for.
const PRODUCER_EVENTS: usize = 64;

pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A handle; cheap to clone. The connection is closed when the last one is dropped, or by [`Connection::close`].
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

/// Does not keep the connection open.
#[derive(Clone)]
pub struct WeakConnection(Weak<Inner>);

impl WeakConnection {
    pub fn upgrade(&self) -> Option<Connection> {
        self.0.upgrade().map(Connection)
    }
}

struct Inner {
    shared: Arc<Shared>,
    max_message: usize,
    next_id: AtomicU64,
}

/// What the handles and the two tasks share. The tasks hold no handle, so that dropping the last one ends them.
pub(crate) struct Shared {
    /// `host:port`, for people.
    address: String,
    access: Access,
    writes: mpsc::Sender<Encoded>,
    routes: Routes,
    stop: watch::Sender<Stop>,
    /// Counts PONGs.
    pongs: watch::Sender<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stop {
    No,
    /// What is queued is still written.
    Gently,
    /// What is queued is thrown away.
    Now,
}

/// Why a request has no answer that could be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    #[error("{address} answered {error:?}: {message}")]
    Refused { address: String, error: ServerError, message: String },
    #[error("{address} did not answer in {after:?}")]
    Timeout { address: String, after: Duration },
    #[error("{address}: {reason}")]
    Lost { address: String, reason: String },
}

/// For one producer of a connection. The channel ends when the connection is lost.
#[derive(Debug)]
pub enum ProducerEvent {
    Receipt(CommandSendReceipt),
    Error(CommandSendError),
    /// The broker closed it (CLOSE_PRODUCER): the topic moves, or was fenced or deleted.
    Closed,
}

/// For one consumer of a connection. The channel ends when the connection is lost.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages; a box would cost each of them an allocation")]
pub enum ConsumerEvent {
    Message(CommandMessage, Payload),
    /// ACTIVE_CONSUMER_CHANGE: whether a failover subscription delivers to this consumer now.
    Active(bool),
    /// The broker closed it (CLOSE_CONSUMER): the topic moves, or the subscription was deleted.
    Closed,
    /// The topic was terminated and everything was delivered.
    EndOfTopic,
}

impl Connection {
    /// Connects and says CONNECT. `proxy_to` names the broker (`host:port`) behind a Pulsar proxy at `url`.
    pub async fn open(url: &BrokerUrl, proxy_to: Option<String>, access: Access) -> Result<Connection, RequestError> {
        let address = url.address();
        match timeout(CONNECT_TIMEOUT, Connection::connect(url, proxy_to, access)).await {
            Ok(opened) => opened,
            Err(_) => Err(RequestError::Timeout { address, after: CONNECT_TIMEOUT }),
        }
    }

    async fn connect(url: &BrokerUrl, proxy_to: Option<String>, access: Access) -> Result<Connection, RequestError> {
        let address = url.address();
        let lost = |reason: String| RequestError::Lost { address: address.clone(), reason };
        let (mut reader, mut writer) = access.dial(url).await.map_err(lost)?;
        let token = access.token().await.map_err(lost)?;
        let connect = CommandConnect {
            client_version: concat!("trestle-", env!("CARGO_PKG_VERSION")).into(),
            auth_method_name: token.as_ref().map(|_| "token".into()),
            auth_data: token,
            protocol_version: Some(PROTOCOL_VERSION),
            proxy_to_broker_url: proxy_to,
            feature_flags: Some(FeatureFlags { supports_auth_refresh: Some(true), ..Default::default() }),
            ..Default::default()
        };
        let hello = BaseCommand { connect: Some(connect), ..command(Type::Connect) };
        writer.write_all(&frame::encode(&hello).head).await.map_err(|e| lost(e.to_string()))?;
        let mut buffer = BytesMut::with_capacity(READ_BUFFER);
        let max_message = loop {
            let limit = DEFAULT_MAX_MESSAGE + FRAME_PADDING;
            let Some(Frame { command: answer, .. }) =
                read_frame(&mut reader, &mut buffer, limit).await.map_err(lost)?
            else {
                return Err(lost("the broker closed the connection instead of answering CONNECT".into()));
            };
            if let Some(connected) = answer.connected {
                let said = connected.max_message_size.and_then(|size| usize::try_from(size).ok());
                break said.filter(|size| *size > 0).unwrap_or(DEFAULT_MAX_MESSAGE);
            } else if let Some(error) = answer.error {
                return Err(RequestError::Refused { address, error: error.error(), message: error.message });
            } else if answer.auth_challenge.is_some() {
                let response = auth_response(&access).await.map_err(lost)?;
                writer.write_all(&response.head).await.map_err(|e| lost(e.to_string()))?;
            } else {
                return Err(lost(format!("{:?} in answer to CONNECT", answer.r#type())));
            }
        };
        tracing::debug!(address, max_message, "connected");
        let (writes, queue) = mpsc::channel(WRITE_QUEUE_FRAMES);
        let (stop, stopped) = watch::channel(Stop::No);
        let shared =
            Arc::new(Shared { address, access, writes, routes: Routes::default(), stop, pongs: watch::Sender::new(0) });
        tokio::spawn(tasks::write(writer, queue, stopped.clone(), tasks::Task::of(&shared)));
        tokio::spawn(tasks::read(reader, buffer, max_message + FRAME_PADDING, stopped, tasks::Task::of(&shared)));
        Ok(Connection(Arc::new(Inner { shared, max_message, next_id: AtomicU64::new(1) })))
    }

    pub fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.0.shared.address
    }

    /// Bytes of metadata and payload of one entry at most, as the broker said.
    pub fn max_message(&self) -> usize {
        self.0.max_message
    }

    /// A number no producer, consumer or request of this connection has.
    pub fn next_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub fn is_lost(&self) -> bool {
        self.0.shared.routes.lost().is_some() || *self.0.shared.stop.borrow() != Stop::No
    }

    /// Why requests fail now; for people.
    pub fn lost(&self) -> RequestError {
        self.0.shared.lost()
    }

    /// Sends the command that `build` makes of a new request id, and waits for its answer: any command that carries the
    /// id back, but for ERROR, which comes as [`RequestError::Refused`].
    ///
    /// A response's own error fields (lookup, partition metadata) are the caller's to read.
    pub async fn request(&self, build: impl FnOnce(u64) -> BaseCommand) -> Result<BaseCommand, RequestError> {
        self.request_within(REQUEST_TIMEOUT, build).await
    }

    /// [`Connection::request`] with another bound.
    pub async fn request_within(
        &self,
        after: Duration,
        build: impl FnOnce(u64) -> BaseCommand,
    ) -> Result<BaseCommand, RequestError> {
        let (shared, id) = (&self.0.shared, self.next_id());
        let (answer, answered) = oneshot::channel();
        let _forget = shared.routes.add_request(id, answer).map_err(|_| shared.lost())?;
        let exchange = async {
            self.write(frame::encode(&build(id))).await?;
            answered.await.map_err(|_| shared.lost())
        };
        let answer = timeout(after, exchange)
            .await
            .map_err(|_| RequestError::Timeout { address: shared.address.clone(), after })??;
        match answer.error {
            Some(e) => {
                Err(RequestError::Refused { address: shared.address.clone(), error: e.error(), message: e.message })
            }
            None => Ok(answer),
        }
    }

    /// Queues a frame to be written, waiting while the queue is full. An error says that the connection is lost.
    pub async fn write(&self, frame: Encoded) -> Result<(), RequestError> {
        self.0.shared.writes.send(frame).await.map_err(|_| self.lost())
    }

    /// Waits for room in the write queue; what is sent into it is written next.
    pub async fn room(&self) -> Result<mpsc::Permit<'_, Encoded>, RequestError> {
        self.0.shared.writes.reserve().await.map_err(|_| self.lost())
    }

    /// Whether the broker answers a PING in this time. Then everything written before has reached it; else the
    /// connection leads nowhere (a frozen broker, a path that drops packets), and whoever asked should [abort](Self::abort).
    pub async fn answers(&self, within: Duration) -> bool {
        let mut pongs = self.0.shared.pongs.subscribe();
        let ping = BaseCommand { ping: Some(CommandPing {}), ..command(Type::Ping) };
        let answered = async { self.tell(&ping).await.is_ok() && pongs.changed().await.is_ok() };
        tokio::select! {
            answered = timeout(within, answered) => answered.unwrap_or(false),
            () = self.gone() => false,
        }
    }

    /// Queues a command that has no answer.
    pub async fn tell(&self, command: &BaseCommand) -> Result<(), RequestError> {
        self.write(frame::encode(command)).await
    }

    /// Grants a consumer this many more messages.
    pub async fn flow(&self, consumer_id: u64, message_permits: u32) -> Result<(), RequestError> {
        let flow = CommandFlow { consumer_id, message_permits };
        self.tell(&BaseCommand { flow: Some(flow), ..command(Type::Flow) }).await
    }

    /// Routes what the broker says of this consumer into the returned channel, from now until it is dropped; call
    /// before SUBSCRIBE. While the channel is full **nothing of this connection is read**: make it as large as the
    /// permits and keep taking.
    pub fn consumer(&self, consumer_id: u64, events: usize) -> Result<mpsc::Receiver<ConsumerEvent>, RequestError> {
        let (sender, receiver) = mpsc::channel(events.max(1));
        self.0.shared.routes.add_consumer(consumer_id, sender).map_err(|_| self.lost())?;
        Ok(receiver)
    }

    /// Routes what the broker says of this producer into the returned channel; call before PRODUCER.
    pub fn producer(&self, producer_id: u64) -> Result<mpsc::Receiver<ProducerEvent>, RequestError> {
        let (sender, receiver) = mpsc::channel(PRODUCER_EVENTS);
        self.0.shared.routes.add_producer(producer_id, sender).map_err(|_| self.lost())?;
        Ok(receiver)
    }

    /// Answered once the consumer is gone at the broker.
    pub async fn close_consumer(&self, consumer_id: u64) -> Result<(), RequestError> {
        let close = |request_id| BaseCommand {
            close_consumer: Some(CommandCloseConsumer { consumer_id, request_id }),
            ..command(Type::CloseConsumer)
        };
        self.request(close).await.map(drop)
    }

    /// Answered once the producer is gone at the broker and everything it sent before is stored or refused: receipts
    /// come before the answer (`Producer.close` waits for `pendingPublishAcks`).
    pub async fn close_producer(&self, producer_id: u64, within: Duration) -> Result<(), RequestError> {
        let close = |request_id| BaseCommand {
            close_producer: Some(CommandCloseProducer { producer_id, request_id }),
            ..command(Type::CloseProducer)
        };
        self.request_within(within, close).await.map(drop)
    }

    /// Closes at once; nothing that is still queued will be written.
    pub fn abort(&self) {
        self.0.shared.stop(Stop::Now);
    }

    /// Resolves when the connection is lost or closed.
    pub async fn gone(&self) {
        // The sender lives in `Shared`, which `self` holds.
        let _ = self.0.shared.stop.subscribe().wait_for(|stop| *stop != Stop::No).await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop(Stop::Gently);
    }
}

impl Shared {
    fn lost(&self) -> RequestError {
        let reason = self.routes.lost().unwrap_or_else(|| "the connection is closed".into());
        RequestError::Lost { address: self.address.clone(), reason }
    }

    fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|now| {
            let change = stop > *now;
            if change {
                *now = stop;
            }
            change
        });
    }

    /// The first reason given stays.
    fn fail(&self, reason: String) {
        self.routes.fail(reason);
        self.stop(Stop::Now);
    }
}

/// A command of this type, to be filled in.
pub fn command(r#type: Type) -> BaseCommand {
    BaseCommand { r#type: r#type as i32, ..Default::default() }
}

const READ_BUFFER: usize = 256 * 1024;

/// The next frame; `None` at the end of the stream.
async fn read_frame(reader: &mut Reader, buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, String> {
    loop {
        if let Some(frame) = frame::decode(buffer, limit).map_err(|e: FrameError| e.to_string())? {
            return Ok(Some(frame));
        }
        if buffer.capacity() - buffer.len() < READ_BUFFER / 4 {
            buffer.reserve(READ_BUFFER);
        }
        if reader.read_buf(buffer).await.map_err(|e| e.to_string())? == 0 {
            return Ok(None);
        }
    }
}

async fn auth_response(access: &Access) -> Result<Encoded, String> {
    let response = CommandAuthResponse {
        client_version: Some(concat!("trestle-", env!("CARGO_PKG_VERSION")).into()),
        response: Some(access.data().await?),
        protocol_version: Some(PROTOCOL_VERSION),
    };
    Ok(frame::encode(&BaseCommand { auth_response: Some(response), ..command(Type::AuthResponse) }))
}
