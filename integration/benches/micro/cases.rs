#![allow(clippy::unwrap_used, reason = "a case that cannot go on should say so at once")]

//! The work on messages between two clients, piece by piece. Each case does it for so many messages of the same kind.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;
use trestle::{
    pipeline::{Budget, Edits, Hop, HopSpec, MaxAhead, Placement, Status, unread},
    policy::{dead_letter_limit::NackWindow, gate::GatePolicy, order::SetAside, retry::Retry},
};
use trestle_core::{Connector, Message, Position, ReadFrom, ReaderSpec, Sink, SinkSpec, SourceSpec, Start};
use trestle_dlq::DeadLetters;
use trestle_memory::Cluster;

pub type Case = (&'static str, fn(usize));

pub const CASES: &[Case] = &[
    ("messages themselves", |messages| drop(all(messages))),
    ("pulsar entries written", |messages| drop(trestle_pulsar::micro::write(&all(messages)))),
    ("pulsar entries written and read", |messages| {
        let entries = trestle_pulsar::micro::write(&all(messages));
        assert_eq!(trestle_pulsar::micro::read(entries), messages);
    }),
    ("rocketmq batches written", |messages| drop(trestle_rocketmq::micro::write(&all(messages)))),
    ("rocketmq properties written and read", |messages| {
        assert_eq!(trestle_rocketmq::micro::read(&all(messages)), messages);
    }),
    ("pipeline from memory to memory", pipeline),
];

/// A kilobyte with a key, a time and two headers.
fn all(messages: usize) -> Vec<Message> {
    let value = Bytes::from(vec![b'v'; 1024]);
    let message = |number: usize| {
        let mut message = Message {
            key: Some(format!("key-{}", number % 100).into()),
            value: Some(value.clone()),
            time: Some(1_700_000_000_000 + number as i64),
            ..Message::at(Position::Offset(number as u64))
        };
        message.headers.push("trace", Some(Bytes::from_static(b"7f3a")));
        message.headers.push("content-type", Some(Bytes::from_static(b"application/json")));
        message
    };
    (0..messages).map(message).collect()
}

/// One hop, from the first message to the last commit.
fn pipeline(messages: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = Cluster::new(7);
        for topic in ["in", "out", "dead"] {
            cluster.create(topic, 1);
        }
        for message in all(messages) {
            cluster.produce("in", 0, message);
        }
        let hop = hop(&cluster).await;
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(async move { hop.run(stopped).await });
        while cluster.committed("in", "bridge", 0).unwrap_or(0) < messages as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.send_replace(true);
        running.await.unwrap().unwrap();
    });
}

async fn hop(cluster: &Cluster) -> Hop {
    let source = SourceSpec {
        topic: "in".into(),
        group: "bridge".into(),
        start: Start::Earliest,
        route: "route".into(),
        buffer_bytes: 1 << 20,
        largest_message: 1 << 20,
        commit_interval: Duration::from_millis(10),
        options: Default::default(),
    };
    let reader = ReaderSpec {
        topic: "in".into(),
        from: ReadFrom::Earliest,
        follow: false,
        buffer_bytes: 1 << 20,
        largest_message: 1 << 20,
        options: Default::default(),
    };
    let spec = HopSpec {
        route: "route".into(),
        hop: "deliver",
        origin: "memory",
        target: "memory",
        source_name: "memory/in".into(),
        edits: Edits::default(),
        placement: Placement::Key,
        fenced: false,
        retry: Retry::default(),
        gate: GatePolicy::default(),
        set_aside: SetAside::default(),
        rates: Vec::new(),
        nack_window: NackWindow::new(None),
        revoke_timeout: Duration::from_secs(5),
        grace: watch::channel(Duration::from_secs(30)).1,
        max_ahead: MaxAhead::default(),
        go_on_after_gap: false,
        hung_after: Duration::from_secs(60),
        unread: unread(Arc::new(cluster.clone()), reader),
    };
    let source = cluster.source(source).await.unwrap();
    let dead_letters = Arc::new(DeadLetters::new(sink(cluster, "dead").await));
    let status = Arc::new(Status::new("route", "deliver"));
    Hop::new(spec, source, sink(cluster, "out").await, dead_letters, Budget::new(16 << 20, 1 << 20), status)
}

async fn sink(cluster: &Cluster, topic: &str) -> Arc<dyn Sink> {
    let spec = SinkSpec {
        topic: topic.into(),
        route: "route".into(),
        hop: "deliver",
        fenced: false,
        split_large: false,
        send_timeout: Duration::from_secs(3),
        guarantee: Default::default(),
        options: Default::default(),
    };
    cluster.sink(spec).await.unwrap()
}
