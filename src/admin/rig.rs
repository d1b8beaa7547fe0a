//! Asks the pages over a real connection.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Admin, Api};
use crate::{
    admin, config,
    logging::{self, Filter},
    supervisor::{Inbox, News, Order, Statuses, desk},
};

/// One route, `orders`.
pub const TABLE: &str = "
clusters:
  main: { type: kafka, servers: \"127.0.0.1:1\" }
routes:
  orders:
    from: { cluster: main, topic: orders }
    to: { cluster: main, topic: copied }
    dead_letter: { cluster: main, topic: dead }
";

/// The admin server on a port of its own.
pub struct Server {
    pub address: String,
    pub api: Arc<Api>,
    /// Orders that nobody carries out.
    inbox: Option<Inbox>,
    pub news: watch::Sender<News>,
    pub statuses: watch::Sender<Statuses>,
    pub stop: watch::Sender<bool>,
}

/// Status, head and body.
pub type Answer = (u16, String, String);

/// With this table.
pub async fn serve(table: &str) -> Server {
    let checked = config::check(Path::new("table.yaml"), table, &|_| None);
    assert!(checked.mistakes.is_empty(), "{:?}", checked.mistakes);
    let table = checked.table.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let (news, heard) = watch::channel(News::default());
    let (desk, inbox) = desk(heard);
    let api = Arc::new(Api::new(watch::channel(Arc::new(table)).1, stopping.clone(), desk));
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let (statuses, hops) = watch::channel(Statuses::from([]));
    let filter = Arc::new(Filter::new(logging::DEFAULT, |_| Ok(())));
    let (attempts, requests) = (Arc::default(), Arc::default());
    let admin = Admin { statuses: hops, metrics, listen, api: api.clone(), filter, attempts, requests };
    tokio::spawn(admin::serve(listener, admin, stopping));
    Server { address: listen.to_string(), api, inbox: Some(inbox), news, statuses, stop }
}

impl Server {
    /// Carries orders out from now on.
    pub fn supervise(&mut self, mut obey: impl FnMut(Order) + Send + 'static) {
        let mut inbox = self.inbox.take().unwrap();
        tokio::spawn(async move {
            while let Some(order) = inbox.orders.recv().await {
                obey(order);
            }
        });
    }

    /// `head`: further lines.
    pub async fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let (host, length) = (&self.address, body.len());
        let request =
            format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n{head}\r\n{body}");
        // A server that has seen enough may close before all is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    /// Asks in vain; gives the detail.
    pub async fn problem(&self, status: u16, method: &str, path: &str, head: &str, body: &str) -> String {
        let answer = self.ask(method, path, head, body).await;
        assert_eq!(answer.0, status, "{method} {path}: {answer:?}");
        assert!(answer.1.contains("content-type: application/problem+json"), "{answer:?}");
        let problem: Value = serde_json::from_str(&answer.2).unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["type"] == "about:blank", "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    }
}
