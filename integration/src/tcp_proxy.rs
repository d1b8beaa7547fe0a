use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::docker::{detach, on_runtime};

/// What a connection through the proxy meets, those that are open as well as new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every byte goes through at once.
    Pass,
    /// Connections are reset, new ones right after they were accepted.
    Cut,
    /// Connections stay open and nothing goes through, either way: a peer that vanished without a word.
    Stall,
    /// Requests go through and answers do not: what was written is written, and the writer never hears of it.
    StallAnswers,
    /// Every byte arrives this much later, each way; the rate stays the same.
    Delay(Duration),
    /// Requests go through at so many bytes a second, those of all connections together; answers at once.
    Slow(u32),
}

/// Stands before a broker and misbehaves as told. Ends, and resets what is open, when dropped.
pub struct TcpProxy {
    port: u16,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    mode: Mode,
    /// How often open connections were reset: a connection ends when it differs from what it was at its start.
    resets: u64,
    /// How often open connections were forgotten: likewise, but they stay open and silent.
    forgotten: u64,
}

/// When all that was let through has passed, while the proxy is slow.
type Link = Arc<Mutex<Option<Instant>>>;

/// A direction holds at most this much while it delays: `CHUNKS` of up to `CHUNK_BYTES`, or of `SLOW_BYTES`.
const CHUNKS: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;
/// What goes through at once when it is slow.
const SLOW_BYTES: usize = 1024;

impl TcpProxy {
    /// Listens on the local `port` and connects to the local port `upstream`.
    pub async fn start(port: u16, upstream: u16) -> Result<TcpProxy> {
        let (state, watched) = watch::channel(State { mode: Mode::Pass, resets: 0, forgotten: 0 });
        on_runtime(async move {
            let listener = listen(port).with_context(|| format!("the proxy's port {port}"))?;
            detach(accept(listener, upstream, watched));
            Ok(())
        })
        .await?;
        Ok(TcpProxy { port, state })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.resets += u64::from(mode == Mode::Cut);
        });
    }

    /// Resets the connections that are open now; new ones are served as before.
    pub fn reset_connections(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Nothing goes through the connections that are open now any more, and neither end is told; new ones are served as
    /// before. So it is when a router has lost its table.
    pub fn forget_connections(&self) {
        self.state.send_modify(|state| state.forgotten += 1);
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    // Connections inherit it. Without, the kernel takes megabytes of what a slow broker would not have taken.
    socket.set_recv_buffer_size(CHUNK_BYTES as u32)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(1024)
}

async fn accept(listener: TcpListener, upstream: u16, mut state: watch::Receiver<State>) {
    let link = Link::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                detach(serve(client, upstream, state.clone(), link.clone()));
            }
            // The proxy was dropped.
            gone = state.changed() => if gone.is_err() { return },
        }
    }
}

async fn serve(mut client: TcpStream, upstream: u16, mut state: watch::Receiver<State>, link: Link) {
    let begin = *state.borrow_and_update();
    let broker = match begin.mode {
        Mode::Cut => None,
        _ => TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await.ok(),
    };
    let Some(mut broker) = broker else {
        return reset(&client);
    };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let cut = {
        let (client_read, client_write) = client.split();
        let (broker_read, broker_write) = broker.split();
        let forgotten = |now: &State| now.forgotten != begin.forgotten;
        let blocked_requests = |now: &State| forgotten(now) || now.mode == Mode::Stall;
        let blocked_answers = |now: &State| forgotten(now) || matches!(now.mode, Mode::Stall | Mode::StallAnswers);
        let requests = pump(client_read, broker_write, state.clone(), blocked_requests, Some(link));
        let answers = pump(broker_read, client_write, state.clone(), blocked_answers, None);
        tokio::select! {
            (first, second) = async { tokio::join!(requests, answers) } => first.is_err() || second.is_err(),
            // An error means that the proxy was dropped.
            _ = state.wait_for(|now| now.resets != begin.resets) => true,
        }
    };
    if cut {
        reset(&client);
        reset(&broker);
    }
}

/// Makes the close that follows a reset instead of a farewell.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction. Read and write go on side by side, so that a delay costs latency and not rate. Without a link it is
/// never slow.
async fn pump<R, W>(
    mut from: R,
    mut to: W,
    state: watch::Receiver<State>,
    blocked: impl Fn(&State) -> bool,
    link: Option<Link>,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (filled, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let reading = state.clone();
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let slow = matches!(reading.borrow().mode, Mode::Slow(_));
            let count = from.read(&mut buffer[..if slow { SLOW_BYTES } else { CHUNK_BYTES }]).await?;
            let sent = filled.send((Instant::now(), buffer[..count].to_vec())).await;
            if count == 0 || sent.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        let mut state = state;
        while let Some((arrived, chunk)) = waiting.recv().await {
            let mode = state.borrow().mode;
            if let Mode::Delay(delay) = mode {
                sleep_until(arrived + delay).await;
            }
            // An error means that the proxy was dropped; `serve` ends the connection.
            let _ = state.wait_for(|now| !blocked(now)).await;
            if chunk.is_empty() {
                // The end of the stream waits its turn like any byte.
                return to.shutdown().await;
            }
            let piece = if matches!(mode, Mode::Slow(_)) { SLOW_BYTES } else { CHUNK_BYTES };
            for piece in chunk.chunks(piece) {
                let mode = state.borrow().mode;
                if let (Mode::Slow(rate), Some(link)) = (mode, &link) {
                    sleep_until(turn(link, piece.len(), rate)).await;
                }
                to.write_all(piece).await?;
            }
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}

/// When so many bytes more have passed a slow link.
fn turn(link: &Link, bytes: usize, rate: u32) -> Instant {
    let mut free = link.lock().unwrap_or_else(PoisonError::into_inner);
    let from = free.map_or_else(Instant::now, |free| free.max(Instant::now()));
    *free.insert(from + Duration::from_secs_f64(bytes as f64 / f64::from(rate)))
}

#[cfg(test)]
mod tests;
