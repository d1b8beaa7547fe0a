//! Connections of the admin server: how many, and for how long. A slow client gives its place back, and health has places of
//! its own.

use axum::{Extension, Router, extract::ConnectInfo};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Duration, sleep},
};

use crate::config::AdminLimits;

/// Connections beyond `admin.limits.connections`. They are told health alone, and for [`SPARE_LIFE`].
pub const SPARE: usize = 16;
const SPARE_LIFE: Duration = Duration::from_secs(3);
/// Bytes of a request's head.
const MOST_HEAD: usize = 64 << 10;
/// After the system could not accept a connection, as for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What is being answered when the server stops has this long.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A request on a connection for which there is no place, but for health.
#[derive(Clone, Copy)]
pub struct Crowded;

/// Serves until `stop` turns true. `limits` are asked for each connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: impl Fn() -> AdminLimits,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            // A sender that is gone says the same.
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (limits, taken) = (limits(), connections.len());
        if taken >= limits.connections + SPARE {
            continue;
        }
        let crowded = taken >= limits.connections;
        let router = router.clone().layer(Extension(ConnectInfo(peer)));
        let router = if crowded { router.layer(Extension(Crowded)) } else { router };
        connections.spawn(answer(stream, router, limits, crowded, stopping.clone()));
    }
    let rest = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, rest).await;
}

/// Answers on one connection. It is told to end after the time for one request, and ended after another one, so that a
/// client which reads slowly does not keep it either.
async fn answer(
    stream: TcpStream,
    router: Router,
    limits: AdminLimits,
    crowded: bool,
    mut stop: watch::Receiver<bool>,
) {
    let (head, life) = if crowded { (SPARE_LIFE, SPARE_LIFE) } else { (limits.head_timeout, limits.request_timeout) };
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MOST_HEAD);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        // What a client does wrong is its own affair.
        _ = &mut connection => return,
        () = sleep(life) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    if crowded && !*stop.borrow() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(life, connection).await;
}
