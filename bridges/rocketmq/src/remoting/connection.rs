use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    codes::request::NOTIFY_CONSUMER_IDS_CHANGED,
    frame::{Answer, Incoming, LARGEST_FRAME_BYTES, Request, decode},
};

/// Frames that wait for the socket; callers wait beyond it.
const WRITE_QUEUE: usize = 64;
const READ_BUFFER_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The request surely did not reach the other side.
    #[error("{0}")]
    NotSent(String),
    /// The connection ended before the answer; the request may have been carried out.
    #[error("{0}")]
    Lost(String),
    /// No answer in time; the request may have been carried out.
    #[error("{0}")]
    Timeout(String),
}

/// What becomes of the connection when a call's future is dropped. At a timeout it is always reset: no copy of the request
/// leaves this side later, and a peer that vanished without a word is found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abandoned {
    /// Reset as well.
    Close,
    /// Kept: asking twice does no harm.
    Keep,
}

/// One TCP connection with any number of calls in flight.
pub struct Connection {
    address: String,
    frames: mpsc::Sender<(BytesMut, Bytes)>,
    shared: Arc<Shared>,
    opaque: AtomicI32,
    task: JoinHandle<()>,
}

struct Shared {
    waiting: Mutex<HashMap<i32, oneshot::Sender<Answer>>>,
    closed: AtomicBool,
    close: Notify,
}

impl Connection {
    /// `members_changed` is notified when the broker says so of a group.
    pub async fn open(address: &str, limit: Duration, members_changed: Arc<Notify>) -> Result<Connection, CallError> {
        let not_sent = |why: &dyn std::fmt::Display| CallError::NotSent(format!("cannot connect to {address}: {why}"));
        let stream = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Err(_) => return Err(not_sent(&format!("no answer in {limit:?}"))),
            Ok(Err(error)) => return Err(not_sent(&error)),
            Ok(Ok(stream)) => stream,
        };
        stream.set_nodelay(true).map_err(|error| not_sent(&error))?;
        let shared =
            Arc::new(Shared { waiting: Mutex::default(), closed: AtomicBool::new(false), close: Notify::new() });
        let (frames, queue) = mpsc::channel(WRITE_QUEUE);
        let task = tokio::spawn(run(stream, queue, shared.clone(), members_changed));
        Ok(Connection { address: address.to_owned(), frames, shared, opaque: AtomicI32::new(0), task })
    }

    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends a request, signed already, and waits for its answer until `deadline`.
    pub async fn call(&self, request: &Request, deadline: Instant, abandoned: Abandoned) -> Result<Answer, CallError> {
        let opaque = self.opaque.fetch_add(1, Ordering::Relaxed);
        let head = request.head(opaque).map_err(|error| CallError::NotSent(error.to_string()))?;
        let (sender, receiver) = oneshot::channel();
        let mut call = Call { shared: &self.shared, opaque, abandoned, answered: false };
        self.shared.lock().insert(opaque, sender);
        // Checked after the entry is made: the task clears the entries after it set the mark.
        if self.is_closed() {
            call.answered = true;
            self.shared.lock().remove(&opaque);
            return Err(CallError::NotSent(format!("the connection to {} is closed", self.address)));
        }
        let exchange = async {
            let lost = || CallError::Lost(format!("the connection to {} was lost", self.address));
            self.frames.send((head, request.body.clone())).await.map_err(|_| lost())?;
            receiver.await.map_err(|_| lost())
        };
        let answer = match timeout_at(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => {
                call.abandoned = Abandoned::Close;
                return Err(CallError::Timeout(format!("no answer from {} to request {}", self.address, request.code)));
            }
        };
        call.answered = true;
        answer
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way; cleans up however it ends.
struct Call<'a> {
    shared: &'a Shared,
    opaque: i32,
    abandoned: Abandoned,
    answered: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        self.shared.lock().remove(&self.opaque);
        if self.abandoned == Abandoned::Close {
            self.shared.closed.store(true, Ordering::Release);
            self.shared.close.notify_one();
        }
    }
}

async fn run(
    stream: TcpStream,
    queue: mpsc::Receiver<(BytesMut, Bytes)>,
    shared: Arc<Shared>,
    members_changed: Arc<Notify>,
) {
    // Without lingering, closing discards what the kernel has not sent yet.
    let _ = stream.set_zero_linger();
    let (reader, writer) = stream.into_split();
    tokio::select! {
        _ = read(reader, &shared, &members_changed) => {}
        _ = write(writer, queue) => {}
        _ = shared.close.notified() => {}
    }
    shared.closed.store(true, Ordering::Release);
    // Their callers learn that the connection is lost.
    shared.lock().clear();
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<(BytesMut, Bytes)>) -> io::Result<()> {
    while let Some((head, body)) = queue.recv().await {
        writer.write_all_buf(&mut head.freeze().chain(body)).await?;
    }
    Ok(())
}

async fn read(reader: OwnedReadHalf, shared: &Shared, members_changed: &Notify) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    loop {
        let length = reader.read_u32().await? as usize;
        if length > LARGEST_FRAME_BYTES {
            return Err(io::Error::other("a frame larger than any answer"));
        }
        let mut frame = BytesMut::with_capacity(length);
        let mut rest = (&mut reader).take(length as u64);
        while frame.len() < length {
            if rest.read_buf(&mut frame).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match decode(frame.freeze())? {
            Incoming::Answer { opaque, answer } => {
                if let Some(caller) = shared.lock().remove(&opaque) {
                    // The caller may have given up meanwhile.
                    let _ = caller.send(answer);
                }
            }
            Incoming::Request { code: NOTIFY_CONSUMER_IDS_CHANGED } => members_changed.notify_one(),
            Incoming::Request { .. } | Incoming::Foreign => {}
        }
    }
}
