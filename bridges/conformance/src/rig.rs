//! What the promises share: writers, members that are always polled, and messages that say which they are.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use trestle_core::{
    Batch, Connector, Done, Ensure, Event, Fault, FaultKind, Guarantee, Lane, LaneKey, Message, Outcome, PartitionId,
    Position, Sent, Sink, SinkSpec, Slice, Source, SourceControl, SourceSpec, Start, Tracker,
};

use crate::{Features, Subject};

pub const PLENTY: u64 = 64 << 20;
/// Between two tries of what a busy cluster did not take.
pub const BUSY: Duration = Duration::from_millis(100);
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(200);

/// One test's topic on the subject, and a group of its own.
pub struct Rig<'a> {
    subject: &'a dyn Subject,
    pub connector: Arc<dyn Connector>,
    pub features: Features,
    pub topic: String,
    pub group: String,
}

impl<'a> Rig<'a> {
    /// A fresh topic with this many partitions.
    pub async fn new(subject: &'a dyn Subject, partitions: u32) -> Self {
        let rig = Rig::without_topic(subject);
        let ensure = Ensure { partitions, durable: None };
        let made = rig.patient("ensure", || rig.connector.ensure(&rig.topic, ensure.clone())).await;
        assert_eq!(made.partitions, partitions, "ensure makes the partitions asked for");
        rig.subject.prepare_group(&rig.topic, &rig.group).await;
        rig
    }

    /// Names that nobody used before.
    pub fn without_topic(subject: &'a dyn Subject) -> Self {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("conformance-{since:x}-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let (connector, features) = (subject.connector(), subject.features());
        Rig { subject, connector, features, topic: subject.topic(&name), group: format!("group-{name}") }
    }

    /// Calls until it succeeds or patience is over: a topic just made may not be known everywhere yet.
    pub async fn patient<T, F>(&self, what: &str, mut call: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let deadline = Instant::now() + self.features.patience;
        loop {
            match tokio::time::timeout_at(deadline, call()).await {
                Ok(Ok(done)) => return done,
                Ok(Err(fault)) if Instant::now() >= deadline => panic!("{what}: {fault}"),
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(_) => panic!("{what}: no answer in {:?}", self.features.patience),
            }
        }
    }

    pub async fn in_time<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        match tokio::time::timeout(self.features.patience, future).await {
            Ok(done) => done,
            Err(_) => panic!("{what}: not in {:?}", self.features.patience),
        }
    }

    pub async fn sink(&self, fenced: bool) -> Arc<dyn Sink> {
        let spec = SinkSpec {
            topic: self.topic.clone(),
            route: "conformance".into(),
            hop: "stage",
            fenced,
            split_large: false,
            send_timeout: Duration::from_secs(30).min(self.features.patience / 2),
            guarantee: Guarantee::Replicated,
            options: self.subject.sink_options(),
        };
        self.patient("sink", || self.connector.sink(spec.clone())).await
    }

    pub async fn lane(&self, sink: &Arc<dyn Sink>, partition: u32, fenced: bool) -> Box<dyn Lane> {
        let target = PartitionId(partition);
        let key = LaneKey { target, source: fenced.then_some(target) };
        self.patient("lane", || sink.lane(key)).await
    }

    pub async fn writer(&self, partition: u32) -> Writer<'_> {
        let sink = self.sink(false).await;
        let lane = self.lane(&sink, partition, false).await;
        Writer { rig: self, sink, lane }
    }

    /// Writes the numbered messages into a partition.
    pub async fn write(&self, partition: u32, numbers: std::ops::Range<u64>) {
        let mut writer = self.writer(partition).await;
        writer.write(numbers.map(numbered).collect()).await;
        writer.lane.close().await;
    }

    pub fn source_spec(&self, start: Start) -> SourceSpec {
        SourceSpec {
            topic: self.topic.clone(),
            group: self.group.clone(),
            start,
            route: "conformance".into(),
            buffer_bytes: 8 << 20,
            largest_message: 8 << 20,
            commit_interval: COMMIT_INTERVAL,
            options: self.subject.source_options(),
        }
    }

    pub async fn source(&self, start: Start) -> (Box<dyn Source>, Arc<dyn SourceControl>) {
        self.patient("source", || self.connector.source(self.source_spec(start.clone()))).await
    }

    /// A member that starts what it is assigned, with plenty of credit.
    pub async fn member(&self) -> Member {
        self.member_from(Start::Earliest, Some(PLENTY)).await
    }

    /// A member that starts what it is assigned with this credit; `None`: starts nothing.
    pub async fn member_from(&self, start: Start, credit: Option<u64>) -> Member {
        let (mut source, control) = self.source(start).await;
        let (sender, events) = mpsc::channel(1024);
        let poll = async move {
            loop {
                let event = source.next().await;
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        };
        Member {
            control,
            events,
            task: tokio::spawn(poll),
            credit,
            trackers: BTreeMap::new(),
            batches: VecDeque::new(),
            revoked: Vec::new(),
            hold_revokes: false,
            features: self.features.clone(),
        }
    }
}

pub struct Writer<'a> {
    pub rig: &'a Rig<'a>,
    pub sink: Arc<dyn Sink>,
    pub lane: Box<dyn Lane>,
}

impl Writer<'_> {
    /// Stores the messages in order, each once: what is not sent for an outage is sent again.
    pub async fn write(&mut self, messages: Vec<Message>) {
        let limits = self.sink.limits();
        let deadline = Instant::now() + self.rig.features.patience;
        let mut messages = &messages[..];
        while !messages.is_empty() {
            let mut bytes = 0;
            let fits = messages.iter().take(limits.unit_messages.max(1)).take_while(|m| {
                bytes += m.size();
                bytes <= limits.unit_bytes
            });
            let (now, _) = messages.split_at(fits.count().max(1));
            let sent = self.rig.in_time("send", self.lane.send(unit(now.to_vec()))).await;
            assert_eq!(sent.len(), now.len(), "outcomes speak of exactly the messages sent");
            let stored = stored_front(&sent);
            messages = &messages[stored..];
            if stored < now.len() {
                assert_busy(&sent);
                assert!(Instant::now() < deadline, "a healthy cluster stores: {sent:?}");
                tokio::time::sleep(BUSY).await;
            }
        }
    }
}

/// A source that is always polled, from a task of its own.
pub struct Member {
    pub control: Arc<dyn SourceControl>,
    events: mpsc::Receiver<Result<Event, Fault>>,
    task: JoinHandle<()>,
    credit: Option<u64>,
    /// Of the partitions assigned now.
    pub trackers: BTreeMap<u32, Arc<Tracker>>,
    batches: VecDeque<Batch>,
    /// Partition, whether it was lost, and its handshake when `hold_revokes`.
    pub revoked: Vec<(Vec<u32>, bool, Option<Done>)>,
    pub hold_revokes: bool,
    features: Features,
}

impl Member {
    /// Waits until this many partitions are assigned. Batches that come on the way are kept.
    pub async fn owns(&mut self, partitions: usize) {
        let deadline = self.deadline();
        while self.trackers.len() != partitions {
            assert!(self.step(deadline).await, "{partitions} partitions are assigned, not {}", self.trackers.len());
        }
    }

    /// Waits until a revoke was heard of.
    pub async fn hears_of_a_revoke(&mut self) {
        let deadline = self.deadline();
        while self.revoked.is_empty() {
            assert!(self.step(deadline).await, "a revoke is heard of");
        }
    }

    pub async fn batch(&mut self) -> Batch {
        let deadline = self.deadline();
        loop {
            if let Some(batch) = self.batches.pop_front() {
                return batch;
            }
            assert!(self.step(deadline).await, "a batch comes");
        }
    }

    /// Batches with this many messages together, or more.
    pub async fn batches(&mut self, messages: usize) -> Vec<Batch> {
        let mut batches = Vec::new();
        while count(&batches) < messages {
            batches.push(self.batch().await);
        }
        batches
    }

    /// The next `count` numbers in the order in which they come, all settled.
    pub async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let batches = self.batches(count).await;
        batches.iter().for_each(settle);
        batches.iter().flat_map(numbers).collect()
    }

    /// The batches that come before it has been quiet for a while.
    pub async fn until_quiet(&mut self) -> Vec<Batch> {
        loop {
            let before = self.batches.len();
            let deadline = Instant::now() + self.features.quiet;
            while self.batches.len() == before && self.step(deadline).await {}
            if self.batches.len() == before {
                return self.batches.drain(..).collect();
            }
        }
    }

    pub async fn is_quiet(&mut self, why: &str) {
        let come = self.until_quiet().await;
        assert!(come.is_empty(), "{why}, but there came {:?}", come.iter().flat_map(numbers).collect::<Vec<_>>());
    }

    pub fn credit(&self, bytes: u64) {
        self.trackers.keys().for_each(|p| self.control.credit(PartitionId(*p), bytes));
    }

    pub async fn close(self) {
        self.in_time("close", self.control.close()).await;
        self.task.abort();
    }

    /// Drops the source as it is.
    pub async fn crash(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    async fn in_time<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        match tokio::time::timeout(self.features.patience, future).await {
            Ok(done) => done,
            Err(_) => panic!("{what}: not in {:?}", self.features.patience),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.features.patience
    }

    /// Takes one event in; false when none came in time.
    async fn step(&mut self, deadline: Instant) -> bool {
        match tokio::time::timeout_at(deadline, self.events.recv()).await {
            Err(_) => return false,
            Ok(None) => panic!("the source's task ended: it panicked"),
            // Reading is disturbed for a moment; the source mends itself.
            Ok(Some(Err(_))) => {}
            Ok(Some(Ok(Event::Assigned(trackers)))) => {
                for tracker in trackers {
                    let partition = tracker.partition();
                    if let Some(credit) = self.credit {
                        self.control.start(partition, None);
                        self.control.credit(partition, credit);
                    }
                    let before = self.trackers.insert(partition.0, tracker);
                    assert!(before.is_none(), "partition {partition} was assigned twice");
                }
            }
            Ok(Some(Ok(Event::Batch(batch)))) => {
                assert!(!batch.messages.is_empty(), "no batch is empty");
                assert!(batch.messages.is_sorted_by(|a, b| a.position < b.position), "positions grow in a batch");
                self.batches.push_back(batch);
            }
            Ok(Some(Ok(Event::Revoked { partitions, lost, done }))) => {
                let partitions: Vec<u32> = partitions.iter().map(|p| p.0).collect();
                for partition in &partitions {
                    let tracker = self.trackers.remove(partition);
                    assert!(tracker.is_some_and(|t| t.ended()), "{partition} was assigned, and its tracker has ended");
                }
                self.revoked.push((partitions, lost, self.hold_revokes.then_some(done)));
            }
            Ok(Some(Ok(Event::Held { .. }))) => {}
            Ok(Some(Ok(Event::Gap { partition, from, to }))) => panic!("a gap in {partition}, from {from} to {to}"),
        }
        true
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn plain() -> Message {
    Message {
        value: Some(Bytes::from_static(b"value")),
        time: Some(1_700_000_000_123),
        ..Message::at(Position::Offset(0))
    }
}

/// A message that says its number, of some hundred bytes.
pub fn numbered(number: u64) -> Message {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    Message { value: Some(Bytes::from(format!("{number} {:0>100}", ""))), time: Some(now), ..plain() }
}

pub fn number(message: &Message) -> u64 {
    assert!(message.defect.is_none(), "{:?}", message.defect);
    let text = std::str::from_utf8(message.value.as_ref().unwrap()).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

pub fn numbers(batch: &Batch) -> Vec<u64> {
    batch.messages.iter().map(number).collect()
}

pub fn all_numbers(batches: &[Batch]) -> Vec<u64> {
    batches.iter().flat_map(numbers).collect()
}

pub fn count(batches: &[Batch]) -> usize {
    batches.iter().map(|b| b.messages.len()).sum()
}

pub fn settle(batch: &Batch) {
    batch.ack.settle(0..batch.messages.len() as u32);
}

pub fn upto(end: u64) -> Vec<u64> {
    (0..end).collect()
}

/// The messages as one slice, read from a partition of the test's own.
pub fn unit(messages: Vec<Message>) -> Vec<Slice> {
    let at = |(n, message)| Message { position: Position::Offset(n as u64), ..message };
    let messages = messages.into_iter().enumerate().map(at).collect();
    let batch = Tracker::new(PartitionId(0), || {}).admit(messages).unwrap();
    vec![Slice::whole(Arc::new(batch))]
}

/// Messages stored in front of the first one that is not.
pub fn stored_front(sent: &Sent) -> usize {
    sent.runs.iter().take_while(|(_, outcome)| matches!(outcome, Outcome::Stored)).map(|(n, _)| n).sum()
}

/// What is not stored is surely not stored, and only because the cluster could not take it then.
pub fn assert_busy(sent: &Sent) {
    let busy = |outcome: &Outcome| match outcome {
        Outcome::Stored | Outcome::NotSent => true,
        Outcome::Refused(fault) => matches!(fault.kind, FaultKind::Unavailable(_) | FaultKind::Throttled(_)),
        Outcome::Unknown(_) => false,
    };
    assert!(sent.runs.iter().all(|(_, outcome)| busy(outcome)), "a healthy cluster stores: {sent:?}");
}

pub fn first_fault(sent: &Sent) -> Option<Fault> {
    sent.runs.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Refused(fault) | Outcome::Unknown(fault) => Some(fault.clone()),
        _ => None,
    })
}
