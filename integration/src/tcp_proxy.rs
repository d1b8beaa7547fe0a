use std::{io, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
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
}

/// A direction holds at most this much while it delays: `CHUNKS` of up to `CHUNK_BYTES`.
const CHUNKS: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;

impl TcpProxy {
    /// Listens on the local `port` and connects to the local port `upstream`.
    pub async fn start(port: u16, upstream: u16) -> Result<TcpProxy> {
        let (state, watched) = watch::channel(State { mode: Mode::Pass, resets: 0 });
        on_runtime(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .await
                .with_context(|| format!("the proxy's port {port}"))?;
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
}

async fn accept(listener: TcpListener, upstream: u16, mut state: watch::Receiver<State>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                detach(serve(client, upstream, state.clone()));
            }
            // The proxy was dropped.
            gone = state.changed() => if gone.is_err() { return },
        }
    }
}

async fn serve(mut client: TcpStream, upstream: u16, mut state: watch::Receiver<State>) {
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
        let blocked_requests = |mode| mode == Mode::Stall;
        let blocked_answers = |mode| matches!(mode, Mode::Stall | Mode::StallAnswers);
        let requests = pump(client_read, broker_write, state.clone(), blocked_requests);
        let answers = pump(broker_read, client_write, state.clone(), blocked_answers);
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

/// One direction. Read and write go on side by side, so that a delay costs latency and not rate.
async fn pump<R, W>(
    mut from: R,
    mut to: W,
    state: watch::Receiver<State>,
    blocked: impl Fn(Mode) -> bool,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (filled, mut waiting) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut buffer).await?;
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
            let _ = state.wait_for(|now| !blocked(now.mode)).await;
            if chunk.is_empty() {
                // The end of the stream waits its turn like any byte.
                return to.shutdown().await;
            }
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}

#[cfg(test)]
mod tests;
