//! Clients that take their time, and those that take everyone's, over real connections.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, Instant, timeout},
};

use super::{
    rig::{Server, TABLE, serve},
    server::SPARE,
};

const PATIENCE: Duration = Duration::from_secs(30);
const STATUS: &str = "/api/v1/status";

async fn limited(limits: &str) -> Server {
    serve(&format!("{TABLE}\nadmin: {{ limits: {{ {limits} }} }}\n")).await
}

async fn connected(server: &Server) -> TcpStream {
    TcpStream::connect(&server.address).await.unwrap()
}

/// What comes until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it was never closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Until the API answers again.
async fn let_in(server: &Server) {
    let asking = async {
        while server.ask("GET", STATUS, "", "").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it was never let in again");
}

/// Sends a character now and then, until the server closes the connection; says how long that took.
async fn dribble(mut stream: TcpStream, text: &str) -> (Duration, String) {
    let begin = Instant::now();
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let sending = async {
        for character in text.bytes().cycle() {
            if write.write_all(&[character]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await;
    };
    let closed = async {
        let _ = read.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = sending => {}
        closed = timeout(PATIENCE, closed) => closed.expect("it was never closed"),
    }
    (begin.elapsed(), String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_client_that_sends_byte_by_byte_is_not_waited_for() {
    let server = limited("head_timeout: 500ms, request_timeout: 60s").await;
    let (took, _) = dribble(connected(&server).await, "GET /api/v1/status HTTP/1.1\r\nX: ").await;
    assert!(took < PATIENCE / 3, "{took:?}");
    let mut silent = connected(&server).await;
    rest(&mut silent).await;
    let mut stream = connected(&server).await;
    let head =
        "POST /api/v1/plan HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (took, answer) = dribble(stream, "{").await;
    assert!(took < PATIENCE / 3 && answer.starts_with("HTTP/1.1 408 ") && answer.contains("head_timeout"), "{answer}");
}

#[tokio::test]
async fn a_connection_is_closed_whatever_its_client_does() {
    let server = limited("request_timeout: 1s").await;
    let mut stream = connected(&server).await;
    let begin = Instant::now();
    let mut buffer = [0; 4096];
    let asking = async {
        // Answered each time, and never at rest.
        while stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n").await.is_ok() {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(PATIENCE, asking).await.expect("it was never closed");
    assert!(begin.elapsed() >= Duration::from_millis(900), "a client has its time: {:?}", begin.elapsed());
}

#[tokio::test]
async fn when_all_places_are_taken_health_is_told_all_the_same() {
    let server = limited("connections: 2").await;
    // Each is known to have its place once it was answered.
    let mut taken = Vec::new();
    for _ in 0..2 {
        let mut stream = connected(&server).await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        taken.push(stream);
    }
    let said = server.problem(503, "GET", STATUS, "", "").await;
    assert!(said.contains("2 connections are open") && said.contains("admin.limits.connections"), "{said}");
    for health in ["/livez", "/readyz"] {
        assert_eq!(server.ask("GET", health, "", "").await.0, 200, "{health}");
    }
    // Nobody keeps the places for health either.
    let mut spare = Vec::new();
    for _ in 0..SPARE {
        spare.push(connected(&server).await);
    }
    for stream in &mut spare {
        rest(stream).await;
    }
    assert_eq!(server.ask("GET", "/livez", "", "").await.0, 200);
    drop(taken);
    let_in(&server).await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_wait_and_health_goes_on() {
    let server = limited("requests: 3").await;
    let mut refused = 0;
    let begin = Instant::now();
    for _ in 0..10 {
        refused += u32::from(server.ask("GET", STATUS, "", "").await.0 == 429);
        assert_eq!(server.ask("GET", "/livez", "", "").await.0, 200);
    }
    let windows = begin.elapsed().as_secs() as u32 + 2;
    assert!(refused >= 10_u32.saturating_sub(3 * windows).max(1), "{refused} in {windows} windows");
    let_in(&server).await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = limited("body: 1KiB").await;
    let head = "Content-Type: application/json\r\n";
    let said = server.problem(413, "PUT", "/api/v1/log-level", head, &" ".repeat(2_000)).await;
    assert!(said.contains("1024 bytes") && said.contains("admin.limits.body"), "{said}");
}
