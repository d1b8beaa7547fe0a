//! One random run: a hop between two topics of a memory cluster, and what goes wrong around it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, Instant, sleep, timeout},
};
use trestle_core::{Connector, Fault, Limits, Message, Position, SinkSpec, SourceSpec, Start, Why};
use trestle_dlq::DeadLetters;
use trestle_memory::{Cluster, FaultSpec, Freeze, Poison};

use super::oracle::{self, Facts, Verdict};
use crate::{
    pipeline::{Budget, Ended, Hop, HopSpec, MaxAhead, Placement, Sabotage, Status},
    policy::retry::Retry,
};

pub(super) const IN: &str = "in";
pub(super) const OUT: &str = "out";
pub(super) const DEAD: &str = "dead";
pub(super) const GROUP: &str = "bridge";

pub(super) const RETRIES: u32 = 2;
const SEND_TIMEOUT: Duration = Duration::from_millis(500);
/// From the last fault to the last message; retries back off to 2 s and a session takes 10 s to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// One running bridge; several share the group.
struct Bridge {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

struct World {
    cluster: Cluster,
    rng: SmallRng,
    placement: Placement,
    fenced: bool,
    budget: Arc<Budget>,
    sabotage: Sabotage,
    bridges: Vec<Bridge>,
    most_bridges: usize,
    inputs: u32,
    outputs: u32,
    sequence: u64,
    poisoned: BTreeSet<Bytes>,
}

pub(super) async fn run(seed: u64, sabotage: Sabotage) -> Vec<Verdict> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let quiet = rng.random_ratio(1, 10);
    let cluster = Cluster::new(seed);
    let (inputs, outputs) = (rng.random_range(1..=4), rng.random_range(1..=4));
    let placement = if rng.random() { Placement::Key } else { Placement::Same };
    let fenced = placement == Placement::Same && outputs >= inputs && rng.random();
    let largest = 4096;
    let pool = rng.random_range(3 * largest..64 * largest);
    cluster.configure(|s| {
        s.window = rng.random_range(1..=8);
        s.limits = Limits { unit_messages: rng.random_range(1..=50), unit_bytes: rng.random_range(500..=20_000) };
        s.latency = Duration::ZERO..=Duration::from_millis(rng.random_range(0..=50));
        s.fetch = 1..=rng.random_range(1..=60);
        s.fetch_delay = Duration::ZERO..=Duration::from_millis(rng.random_range(0..=20));
    });
    cluster.create(IN, inputs);
    cluster.create(OUT, outputs);
    cluster.create(DEAD, 1);
    let budget = Budget::new(pool, largest);
    let mut world = World {
        cluster: cluster.clone(),
        placement,
        fenced,
        budget: budget.clone(),
        sabotage,
        bridges: Vec::new(),
        most_bridges: 0,
        inputs,
        outputs,
        sequence: 0,
        poisoned: BTreeSet::new(),
        rng,
    };
    let peak = Arc::new(AtomicUsize::new(0));
    let watching = tokio::spawn(watch_peak(budget, peak.clone()));
    world.start();
    for _ in 0..world.rng.random_range(3..=15) {
        world.produce();
        if !quiet {
            world.disturb().await;
        }
        sleep(Duration::from_millis(world.rng.random_range(0..=1500))).await;
    }
    let alive = world.settle_down().await;
    watching.abort();
    let batch = world.largest_batch();
    let facts = Facts {
        inputs,
        outputs: outputs.max(inputs),
        poisoned: world.poisoned.clone(),
        quiet,
        peak: peak.load(Ordering::Relaxed),
        bound: pool + batch * world.most_bridges,
    };
    let mut verdicts = oracle::judge(&cluster, &facts);
    if let Err(what) = alive {
        verdicts.push(Verdict::Liveness(what));
    }
    verdicts
}

async fn watch_peak(budget: Arc<Budget>, peak: Arc<AtomicUsize>) {
    loop {
        peak.fetch_max(budget.used(), Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
    }
}

impl World {
    fn produce(&mut self) {
        for _ in 0..self.rng.random_range(0..=80) {
            self.sequence += 1;
            let key = self.rng.random_range(0..12u32);
            let keyed = self.rng.random_ratio(9, 10);
            let partition = if keyed { key % self.inputs } else { self.rng.random_range(0..self.inputs) };
            let message = Message {
                key: keyed.then(|| format!("key-{key}").into()),
                value: Some(format!("{}", self.sequence).into()),
                headers: Default::default(),
                time: None,
                position: Position::Offset(0),
                defect: None,
            };
            if self.rng.random_ratio(1, 40) {
                self.cluster.hole(IN, partition, self.rng.random_range(1..5));
            }
            self.cluster.produce(IN, partition, message);
        }
    }

    /// One thing goes wrong, or right again.
    async fn disturb(&mut self) {
        let out = self.rng.random_range(0..self.outputs);
        let cluster = self.cluster.clone();
        let what = self.rng.random_range(0..20);
        tracing::debug!(what, out, "DISTURB");
        match what {
            0 => cluster.inject(OUT, out, FaultSpec::Delay(Duration::from_millis(self.rng.random_range(1..2000)))),
            1 => cluster.inject(OUT, out, FaultSpec::Refuse(Fault::down("refused"))),
            2 => cluster.inject(
                OUT,
                out,
                FaultSpec::RefuseAt { stored: self.rng.random_range(0..20), fault: Fault::down("refused") },
            ),
            3 => cluster.inject(OUT, out, FaultSpec::timeout()),
            4 => cluster.inject(OUT, out, FaultSpec::lost_response()),
            5 => cluster.inject(OUT, out, FaultSpec::disconnect(self.rng.random_range(0..20))),
            6 => cluster.inject(OUT, out, FaultSpec::throttle(Duration::from_millis(self.rng.random_range(1..3000)))),
            7 => cluster.inject(OUT, out, FaultSpec::Unsure),
            8 => cluster.freeze(OUT, out, *[Freeze::Everything, Freeze::Writes].choose(&mut self.rng).unwrap()),
            9 => cluster.thaw(OUT, out),
            10 => cluster.down(OUT, out, *[Why::Down, Why::Permission].choose(&mut self.rng).unwrap()),
            11 => cluster.up(OUT, out),
            12 => self.poison(),
            13 => cluster.disturb(IN, Fault::down("disturbed")),
            14 => cluster.fail_commit(IN, GROUP, Fault::down("not committed")),
            15 => match cluster.members(IN, GROUP).choose(&mut self.rng) {
                Some(member) => cluster.lose_session(IN, GROUP, *member),
                None => {}
            },
            16 => {
                let what = *[Freeze::Everything, Freeze::Writes].choose(&mut self.rng).unwrap();
                if self.rng.random() { cluster.freeze(DEAD, 0, what) } else { cluster.thaw(DEAD, 0) }
            }
            17 if self.bridges.len() < 3 => self.start(),
            18 => self.crash(),
            19 => self.drain().await,
            _ => {}
        }
    }

    /// Some message of the future fails for good. One that times out is not poisoned for a fenced or unfenced order's
    /// sake: nothing about it differs.
    fn poison(&mut self) {
        let value = Bytes::from((self.sequence + self.rng.random_range(1..60)).to_string());
        let poison = *[Poison::Message, Poison::Batch, Poison::Timeout].choose(&mut self.rng).unwrap();
        self.poisoned.insert(value.clone());
        self.cluster.poison(OUT, poison, move |m| m.value.as_ref() == Some(&value));
    }

    /// The process dies between two instructions.
    fn crash(&mut self) {
        if let Some(at) = (0..self.bridges.len()).collect::<Vec<_>>().choose(&mut self.rng) {
            self.bridges.swap_remove(*at).task.abort();
        }
        if self.bridges.is_empty() {
            self.start();
        }
    }

    async fn drain(&mut self) {
        if self.bridges.len() > 1 {
            let bridge = self.bridges.swap_remove(0);
            bridge.stop.send_replace(true);
            // Whoever comes next must not wait for a drain that a fault holds up.
            let _ = timeout(Duration::from_secs(1), bridge.task).await;
        }
    }

    /// Everything heals, and one bridge at least is there to finish. Says what did not.
    async fn settle_down(&mut self) -> Result<(), String> {
        self.cluster.heal();
        tracing::debug!("HEAL");
        if self.bridges.is_empty() {
            self.start();
        }
        let (cluster, inputs) = (self.cluster.clone(), self.inputs);
        let healed = Instant::now();
        let end = move |c: &Cluster, p| c.stored(IN, p).last().map_or(0, |s| s.offset + 1);
        let finished = async {
            while !(0..inputs).all(|p| cluster.committed(IN, GROUP, p).unwrap_or(0) >= end(&cluster, p)) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(PATIENCE, finished).await.is_err() {
            let lags: Vec<_> = (0..inputs).map(|p| (cluster.committed(IN, GROUP, p), end(&cluster, p))).collect();
            return Err(format!("not finished {:?} after the last fault: {lags:?}", healed.elapsed()));
        }
        let used = Arc::new(AtomicBool::new(false));
        for bridge in self.bridges.drain(..) {
            bridge.stop.send_replace(true);
            if timeout(PATIENCE, bridge.task).await.is_err() {
                used.store(true, Ordering::Relaxed);
            }
        }
        if used.load(Ordering::Relaxed) {
            return Err("a drain did not end".into());
        }
        // What the bridge held is given back to the last byte.
        if self.budget.used() != 0 {
            return Err(format!("{} bytes are still charged after the drain", self.budget.used()));
        }
        Ok(())
    }

    /// Bytes of the largest batch that a source can have handed out.
    fn largest_batch(&self) -> usize {
        60 * 400
    }

    fn start(&mut self) {
        let (stop, stopped) = watch::channel(false);
        let (cluster, budget, sabotage) = (self.cluster.clone(), self.budget.clone(), self.sabotage);
        let (placement, fenced, inputs) = (self.placement, self.fenced, self.inputs);
        let life = self.rng.random_range(0..1000);
        let task = tokio::spawn(async move {
            // A hop that fails is made anew, as the supervisor does.
            while !*stopped.borrow() {
                let hop = hop(&cluster, placement, fenced, life, budget.clone(), sabotage).await;
                match hop.run(stopped.clone()).await {
                    Ok(Ended::Drained) => break,
                    Ok(Ended::MustGrow) => cluster.create(OUT, inputs),
                    Err(_) => {}
                }
            }
        });
        self.bridges.push(Bridge { task, stop });
        self.most_bridges = self.most_bridges.max(self.bridges.len());
    }
}

async fn hop(
    cluster: &Cluster,
    placement: Placement,
    fenced: bool,
    life: u32,
    budget: Arc<Budget>,
    sabotage: Sabotage,
) -> Hop {
    let source = cluster.source(SourceSpec {
        topic: IN.into(),
        group: GROUP.into(),
        start: Start::Earliest,
        route: "route".into(),
        buffer_bytes: 1 << 20,
        largest_message: 4096,
        commit_interval: Duration::from_millis(200),
        options: Default::default(),
    });
    let sink = |topic: &str, fenced| {
        cluster.sink(SinkSpec {
            topic: topic.into(),
            route: format!("route-{life}"),
            hop: "deliver",
            fenced,
            split_large: false,
            send_timeout: SEND_TIMEOUT,
            guarantee: Default::default(),
            options: Default::default(),
        })
    };
    let spec = HopSpec {
        route: "route".into(),
        hop: "deliver",
        origin: "memory",
        target: "memory",
        source_name: format!("memory/{IN}"),
        placement,
        fenced,
        retry: Retry { initial: Duration::from_millis(50), max: Duration::from_secs(2), retries: RETRIES },
        send_timeout: SEND_TIMEOUT,
        revoke_timeout: Duration::from_secs(2),
        grace: Duration::from_secs(5),
        max_ahead: MaxAhead { messages: 200, bytes: 1 << 20 },
        go_on_after_gap: true,
    };
    let source = source.await.unwrap();
    let (out, dead) = (sink(OUT, fenced).await.unwrap(), sink(DEAD, false).await.unwrap());
    let (dead_letters, status) = (Arc::new(DeadLetters::new(dead)), Arc::new(Status::new("route", "deliver")));
    Hop::new(spec, source, out, dead_letters, budget, status, sabotage)
}
