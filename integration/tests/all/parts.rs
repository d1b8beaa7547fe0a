//! What the tests of the three connectors have in common: specs, messages, units.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use tokio::time::sleep;
use trestle_core::{
    Fault, FaultKind, Guarantee, Lane, LaneKey, Message, Outcome, PartitionId, Position, Sent, Sink, SinkSpec, Slice,
    SourceSpec, Start, Tracker,
};

/// Longer than anything takes that goes well, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
pub const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// Credit that is never used up.
pub const PLENTY: u64 = 1 << 40;

/// A name that no other test and no other run uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn source_spec(topic: &str, group: &str) -> SourceSpec {
    SourceSpec {
        topic: topic.to_owned(),
        group: group.to_owned(),
        start: Start::Earliest,
        route: "route".into(),
        buffer_bytes: 1 << 20,
        largest_message: 5 << 20,
        commit_interval: Duration::from_millis(200),
        options: BTreeMap::new(),
    }
}

pub fn sink_spec(topic: &str) -> SinkSpec {
    SinkSpec {
        topic: topic.to_owned(),
        route: "route".into(),
        hop: "deliver",
        fenced: false,
        split_large: false,
        send_timeout: SEND_TIMEOUT,
        guarantee: Guarantee::Replicated,
        options: BTreeMap::new(),
    }
}

/// With a value and nothing else.
pub fn message(value: impl Into<Bytes>) -> Message {
    Message { value: Some(value.into()), ..Message::at(Position::Offset(0)) }
}

/// A unit as a lane gets it.
pub fn unit(mut messages: Vec<Message>) -> Vec<Slice> {
    for (at, message) in messages.iter_mut().enumerate() {
        message.position = Position::Offset(at as u64);
    }
    let tracker = Tracker::new(PartitionId(0), || {});
    tracker.admit(messages).map(|batch| Slice::whole(Arc::new(batch))).into_iter().collect()
}

/// A lane that no source partition has for itself.
pub async fn lane(sink: &Arc<dyn Sink>, partition: u32) -> Result<Box<dyn Lane>> {
    Ok(sink.lane(LaneKey { target: PartitionId(partition), source: None }).await?)
}

/// Sends, and has it stored: a broker on a busy machine that asks to wait has stored nothing of what it asks that for.
pub async fn store(lane: &mut dyn Lane, mut messages: Vec<Message>) -> Result<()> {
    let begin = Instant::now();
    loop {
        let sent = lane.send(unit(messages.clone())).await;
        let mut left = messages.into_iter();
        let mut again = Vec::new();
        for (count, outcome) in &sent.runs {
            let run = left.by_ref().take(*count);
            match outcome {
                Outcome::Stored => run.for_each(drop),
                Outcome::Refused(Fault { kind: FaultKind::Throttled(_), .. }) => again.extend(run),
                _ => bail!("{sent:?}"),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        ensure!(begin.elapsed() < SOON, "{sent:?}");
        messages = again;
        sleep(Duration::from_millis(200)).await;
    }
}

pub fn all_stored(sent: &Sent) -> bool {
    sent.runs.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stored))
}

/// Outcomes by name, run-length.
pub fn runs(sent: &Sent) -> Vec<(usize, &'static str)> {
    let name = |outcome: &Outcome| match outcome {
        Outcome::Stored => "stored",
        Outcome::NotSent => "not sent",
        Outcome::Refused(_) => "refused",
        Outcome::Unknown(_) => "unknown",
    };
    sent.runs.iter().map(|(messages, outcome)| (*messages, name(outcome))).collect()
}
