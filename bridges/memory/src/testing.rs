//! What the tests of this crate share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use trestle_core::{
    Connector, Event, Guarantee, Lane, LaneKey, Message, Outcome, PartitionId, Position, Sent, Sink, SinkSpec, Slice,
    Source, SourceControl, SourceSpec, Start, Tracker,
};

use crate::Cluster;

pub const SEND_TIMEOUT: Duration = Duration::from_secs(3);

pub fn message(value: u64) -> Message {
    let value = Some(Bytes::from(value.to_string()));
    Message { value, ..Message::at(Position::Offset(0)) }
}

pub fn number(message: &Message) -> u64 {
    std::str::from_utf8(message.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

pub fn stored(cluster: &Cluster) -> Vec<u64> {
    cluster.stored("t", 0).iter().map(|s| number(&s.message)).collect()
}

pub fn source_spec(start: Start) -> SourceSpec {
    SourceSpec {
        topic: "t".into(),
        group: "g".into(),
        start,
        route: "r".into(),
        buffer_bytes: 1 << 20,
        largest_message: 1 << 20,
        commit_interval: Duration::from_millis(200),
        options: BTreeMap::new(),
    }
}

pub async fn source(cluster: &Cluster) -> (Box<dyn Source>, Arc<dyn SourceControl>) {
    cluster.source(source_spec(Start::Earliest)).await.unwrap()
}

/// The next event, within a minute.
pub async fn next(source: &mut Box<dyn Source>) -> Event {
    tokio::time::timeout(Duration::from_secs(60), source.next()).await.unwrap().unwrap()
}

pub async fn assigned(source: &mut Box<dyn Source>) -> Vec<u32> {
    match next(source).await {
        Event::Assigned(trackers) => trackers.iter().map(|t| t.partition().0).collect(),
        _ => panic!("not an assignment"),
    }
}

pub async fn batch(source: &mut Box<dyn Source>) -> trestle_core::Batch {
    match next(source).await {
        Event::Batch(batch) => batch,
        _ => panic!("not a batch"),
    }
}

pub async fn sink(cluster: &Cluster, fenced: bool) -> Arc<dyn Sink> {
    let spec = SinkSpec {
        topic: "t".into(),
        route: "r".into(),
        hop: "deliver",
        fenced,
        split_large: false,
        send_timeout: SEND_TIMEOUT,
        guarantee: Guarantee::Replicated,
        options: BTreeMap::new(),
    };
    cluster.sink(spec).await.unwrap()
}

pub async fn lane(cluster: &Cluster) -> Box<dyn Lane> {
    let key = LaneKey { target: PartitionId(0), source: None };
    sink(cluster, false).await.lane(key).await.unwrap()
}

pub fn unit(numbers: std::ops::Range<u64>) -> Vec<Slice> {
    let tracker = Tracker::new(PartitionId(0), || {});
    let messages = numbers.map(|n| Message { position: Position::Offset(n), ..message(n) }).collect();
    vec![Slice::whole(Arc::new(tracker.admit(messages).unwrap()))]
}

/// One letter a message: Stored, Not sent, Refused, Unknown.
pub fn letters(sent: &Sent) -> String {
    let letter = |outcome: &Outcome| match outcome {
        Outcome::Stored => "S",
        Outcome::NotSent => "N",
        Outcome::Refused(_) => "R",
        Outcome::Unknown(_) => "U",
    };
    sent.runs.iter().map(|(n, outcome)| letter(outcome).repeat(*n)).collect()
}
