//! What the promises are tested on: one hop between two topics of a memory cluster.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, sleep, timeout},
};
use trestle_core::{
    Connector, Lane, LaneKey, Message, PartitionId, Position, ReadFrom, ReaderSpec, Sink, SinkSpec, SourceSpec, Start,
};
use trestle_dlq::DeadLetters;
use trestle_memory::Cluster;

use crate::{
    pipeline::{Budget, Edits, Ended, Hop, HopFailed, HopSpec, MaxAhead, Placement, Sabotage, Status, unread},
    policy::{
        dead_letter_limit::{DeadLetterLimit, NackWindow},
        gate::GatePolicy,
        order::{Order, SetAside},
        rate::{Limiter, Rate},
        retry::Retry,
    },
};

pub const IN: &str = "in";
pub const OUT: &str = "out";
pub const DEAD: &str = "dead";
pub const GROUP: &str = "bridge";
/// When messages are written, in milliseconds since 1970-01-01T00:00Z.
const NOW: i64 = 1_700_000_000_000;
pub const HUNG_AFTER: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);

pub struct Rig {
    pub cluster: Cluster,
    pub budget: Arc<Budget>,
    pub edits: Edits,
    partitions: u32,
    placement: Placement,
    fenced: bool,
    commit_interval: Duration,
    produced: u64,
    rates: Vec<Arc<Limiter>>,
    gate: GatePolicy,
    set_aside: SetAside,
    max_ahead: MaxAhead,
    pub nack_window: Arc<NackWindow>,
}

pub struct Bridge {
    task: JoinHandle<Result<Ended, HopFailed>>,
    stop: watch::Sender<bool>,
    pub status: Arc<Status>,
}

/// Both topics have this many partitions, and placement is `Same`.
pub fn rig(partitions: u32) -> Rig {
    let cluster = Cluster::new(7);
    for (topic, partitions) in [(IN, partitions), (OUT, partitions), (DEAD, 1)] {
        cluster.create(topic, partitions);
    }
    let (budget, commit_interval) = (Budget::new(16 << 20, 1 << 20), Duration::from_millis(200));
    Rig {
        cluster,
        budget,
        edits: Edits::default(),
        partitions,
        placement: Placement::Same,
        fenced: false,
        commit_interval,
        produced: 0,
        rates: Vec::new(),
        gate: GatePolicy::default(),
        set_aside: SetAside::default(),
        max_ahead: MaxAhead::default(),
        nack_window: NackWindow::new(None),
    }
}

impl Rig {
    pub fn fenced(self) -> Self {
        Rig { fenced: true, ..self }
    }

    /// Into so many partitions by the key.
    pub fn by_key(self, outputs: u32) -> Self {
        self.cluster.create(OUT, outputs);
        Rig { placement: Placement::Key, ..self }
    }

    pub fn placement(&mut self, placement: Placement) {
        self.placement = placement;
    }

    /// So many bytes for all that is in flight.
    pub fn memory(self, pool: usize) -> Self {
        Rig { budget: Budget::new(pool, pool / 16), ..self }
    }

    pub fn commits_every(self, commit_interval: Duration) -> Self {
        Rig { commit_interval, ..self }
    }

    pub fn rate(self, messages: Option<u32>, bytes: Option<u64>) -> Self {
        Rig { rates: Limiter::new(Rate { messages, bytes }).into_iter().collect(), ..self }
    }

    pub fn gate(self, gate: GatePolicy) -> Self {
        Rig { gate, ..self }
    }

    pub fn order(self, order: Order) -> Self {
        Rig { set_aside: SetAside { order, ..self.set_aside }, ..self }
    }

    /// So many messages may wait apart in a lane, and a partition reads so many ahead.
    pub fn set_aside(self, most: usize, max_ahead: usize) -> Self {
        let max_ahead = MaxAhead { messages: max_ahead, ..self.max_ahead };
        Rig { set_aside: SetAside { most, ..self.set_aside }, max_ahead, ..self }
    }

    pub fn dead_letter_limit(self, most: u32, within: Duration) -> Self {
        Rig { nack_window: NackWindow::new(Some(DeadLetterLimit { most, within })), ..self }
    }

    pub async fn start(&self) -> Bridge {
        let source = SourceSpec {
            topic: IN.into(),
            group: GROUP.into(),
            start: Start::Earliest,
            route: "route".into(),
            buffer_bytes: 1 << 20,
            largest_message: 1 << 20,
            commit_interval: self.commit_interval,
            options: Default::default(),
        };
        let reader = ReaderSpec {
            topic: IN.into(),
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
            source_name: format!("memory/{IN}"),
            edits: self.edits.clone(),
            placement: self.placement,
            fenced: self.fenced,
            retry: Retry::default(),
            gate: self.gate.clone(),
            set_aside: self.set_aside,
            rates: self.rates.clone(),
            nack_window: self.nack_window.clone(),
            revoke_timeout: Duration::from_secs(5),
            grace: watch::channel(Duration::from_secs(30)).1,
            max_ahead: self.max_ahead,
            go_on_after_gap: false,
            hung_after: HUNG_AFTER,
            unread: unread(Arc::new(self.cluster.clone()), reader),
        };
        let source = self.cluster.source(source).await.unwrap();
        let (out, dead) = (self.sink(OUT).await, self.sink(DEAD).await);
        let (dead_letters, status) = (Arc::new(DeadLetters::new(dead)), Arc::new(Status::new("route", "deliver")));
        let hop = Hop::new(spec, source, out, dead_letters, self.budget.clone(), status.clone(), Sabotage::None);
        let (stop, stopped) = watch::channel(false);
        Bridge { task: tokio::spawn(async move { hop.run(stopped).await }), stop, status }
    }

    async fn sink(&self, topic: &str) -> Arc<dyn Sink> {
        let spec = SinkSpec {
            topic: topic.into(),
            route: "route".into(),
            hop: "deliver",
            fenced: self.fenced && topic == OUT,
            split_large: false,
            send_timeout: Duration::from_secs(3),
            guarantee: Default::default(),
            options: Default::default(),
        };
        self.cluster.sink(spec).await.unwrap()
    }

    /// A lane as another instance would open it, taking it over where lanes are fenced.
    pub async fn lane_of_another(&self, partition: u32) -> Box<dyn Lane> {
        let partition = PartitionId(partition);
        self.sink(OUT).await.lane(LaneKey { target: partition, source: Some(partition) }).await.unwrap()
    }

    /// Writes the next so many numbers to a partition.
    pub fn produce(&mut self, partition: u32, messages: u64) {
        for _ in 0..messages {
            let message = Message {
                value: Some(self.produced.to_string().into()),
                time: Some(NOW),
                ..Message::at(Position::Offset(0))
            };
            self.cluster.produce(IN, partition, message);
            self.produced += 1;
        }
    }

    /// Writes the next number to partition 0, under a key.
    pub fn produce_keyed(&mut self, key: &str) {
        let value = Some(self.produced.to_string().into());
        let message =
            Message { key: Some(key.to_owned().into()), value, time: Some(NOW), ..Message::at(Position::Offset(0)) };
        self.cluster.produce(IN, 0, message);
        self.produced += 1;
    }

    /// What a target partition holds, in order.
    pub fn delivered(&self, partition: u32) -> Vec<u64> {
        self.cluster.stored(OUT, partition).iter().map(|s| number(&s.message)).collect()
    }

    /// Number and cause of each dead letter.
    pub fn dead(&self) -> Vec<(u64, String)> {
        let cause = |m: &Message| String::from_utf8_lossy(m.headers.get("trestle-dlq-cause").unwrap()).into_owned();
        self.cluster.stored(DEAD, 0).iter().map(|s| (number(&s.message), cause(&s.message))).collect()
    }

    pub fn committed(&self, partition: u32) -> u64 {
        self.cluster.committed(IN, GROUP, partition).unwrap_or(0)
    }

    /// Waits until everything written to a partition is acknowledged.
    pub async fn finish(&self, partition: u32) {
        self.until("everything is acknowledged", || self.committed(partition) == self.cluster.end(IN, partition)).await;
    }

    pub async fn finish_all(&self) {
        for partition in 0..self.partitions {
            self.finish(partition).await;
        }
    }

    /// Waits until a condition holds, for a minute at most.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(timeout(Duration::from_secs(60), wait).await.is_ok(), "not within a minute: {what}");
    }

    /// Checks a condition for as long as time passes.
    pub async fn during(&self, time: Duration, what: &str, holds: impl Fn() -> bool) {
        let steps = 1000;
        for _ in 0..steps {
            sleep(time / steps).await;
            assert!(holds(), "not all the time: {what}");
        }
    }
}

impl Bridge {
    /// What made it end by itself: the part, and why.
    pub async fn failed(self) -> (&'static str, &'static str) {
        let failed = timeout(HOUR, self.task).await.expect("it ends within an hour").unwrap().unwrap_err();
        (failed.part, failed.cause)
    }

    pub async fn drain(self) {
        self.stop.send_replace(true);
        assert_eq!(self.task.await.unwrap().unwrap(), Ended::Drained);
    }
}

pub fn number(message: &Message) -> u64 {
    std::str::from_utf8(message.value.as_ref().unwrap()).unwrap().parse().unwrap()
}
