//! One random run: a route of one hop or two over a memory cluster, and what goes wrong around it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::time::{Duration, Instant, sleep, timeout};
use trestle_core::{Cause, Defect, Limits, Message, Position};
use trestle_memory::Cluster;

use super::{
    bridge::Bridge,
    counts::Counts,
    oracle::{self, Cut, Facts, Verdict},
};
use crate::{
    pipeline::{Budget, Placement, Sabotage},
    policy::{
        order::Order,
        rate::{Limiter, Rate},
    },
};

pub(super) const IN: &str = "in";
const VIA: &str = "via";
const OUT: &str = "out";
pub(super) const DEAD: &str = "dead";

pub(super) const RETRIES: u32 = 2;
/// Bytes of the largest message that is not a defect.
pub(super) const LARGEST: usize = 4096;
/// From the last fault to the last message; retries back off to 2 s and a session takes 10 s to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// One hop of the route.
#[derive(Clone)]
pub(super) struct Leg {
    pub hop: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub group: &'static str,
    pub inputs: u32,
    pub outputs: u32,
    pub placement: Placement,
    pub fenced: bool,
    pub rates: Vec<Arc<Limiter>>,
    pub order: Order,
    pub set_aside: usize,
}

pub(super) struct World {
    pub cluster: Cluster,
    pub rng: SmallRng,
    pub legs: Vec<Leg>,
    budget: Arc<Budget>,
    sabotage: Sabotage,
    pub bridges: Vec<Bridge>,
    most_bridges: usize,
    pub sequence: u64,
    /// Bytes that values are padded with at most.
    padding: usize,
    /// One message in so many is a defect; 0 is none.
    defects: u32,
    pub poisoned: BTreeSet<u64>,
    defective: BTreeMap<u64, Cause>,
    pub cuts: Vec<Cut>,
}

pub(super) async fn run(seed: u64, sabotage: Sabotage, counts: &Counts) -> Vec<Verdict> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let quiet = rng.random_ratio(1, 10);
    let cluster = Cluster::new(seed);
    let legs = legs(&mut rng);
    configure(&cluster, &mut rng);
    for leg in &legs {
        cluster.create(leg.from, leg.inputs);
        cluster.create(leg.to, leg.outputs);
    }
    cluster.create(DEAD, 1);
    let pool = rng.random_range(3 * LARGEST..64 * LARGEST);
    let budget = Budget::new(pool, LARGEST);
    let mut world = World {
        cluster: cluster.clone(),
        legs,
        budget: budget.clone(),
        sabotage,
        bridges: Vec::new(),
        most_bridges: 0,
        sequence: 0,
        padding: if rng.random_ratio(1, 4) { LARGEST - 300 } else { 0 },
        defects: if rng.random_ratio(1, 4) { 50 } else { 0 },
        poisoned: BTreeSet::new(),
        defective: BTreeMap::new(),
        cuts: Vec::new(),
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
    // One batch a source: the most that a partition may borrow, and the message that crosses the line.
    let batch = pool / 8 + LARGEST;
    for leg in &mut world.legs {
        // A target that lacked partitions was grown.
        leg.outputs = leg.outputs.max(leg.inputs);
    }
    let facts = Facts {
        bound: pool + batch * world.most_bridges * world.legs.len(),
        legs: world.legs,
        poisoned: world.poisoned,
        defective: world.defective,
        cuts: world.cuts,
        quiet,
        peak: peak.load(Ordering::Relaxed),
    };
    let mut verdicts = oracle::judge(&cluster, &facts, counts);
    if let Err(what) = alive {
        verdicts.push(Verdict::Liveness(what));
    }
    verdicts
}

fn legs(rng: &mut SmallRng) -> Vec<Leg> {
    let inputs = if rng.random_ratio(1, 10) { 16 } else { rng.random_range(1..=4) };
    let outputs = rng.random_range(1..=4);
    let placement = if rng.random() { Placement::Key } else { Placement::Same };
    let may_fence = placement == Placement::Same && outputs >= inputs;
    let fenced = may_fence && rng.random();
    // Slow enough that lanes wait for their turns, and fast enough that all is there in time.
    let rate = |rng: &mut SmallRng| {
        let messages = rng.random_ratio(1, 2).then(|| rng.random_range(100..2_000));
        let bytes = rng.random_ratio(1, 2).then(|| rng.random_range(50_000..500_000));
        Limiter::new(Rate { messages, bytes })
    };
    let rates: Vec<_> =
        if rng.random_ratio(1, 4) { [rate(rng), rate(rng)].into_iter().flatten().collect() } else { Vec::new() };
    let group = "deliver";
    let order = *[Order::Partition, Order::Key, Order::None].choose(rng).unwrap_or(&Order::Partition);
    let set_aside = if rng.random() { 1_000 } else { rng.random_range(1..=3) };
    let deliver =
        Leg { hop: "deliver", from: IN, to: OUT, group, inputs, outputs, placement, fenced, rates, order, set_aside };
    if rng.random_ratio(3, 4) {
        return vec![deliver];
    }
    let fenced = rng.random();
    let placement = Placement::Same;
    let stage = Leg { hop: "stage", to: VIA, group: "stage", outputs: inputs, placement, fenced, ..deliver.clone() };
    vec![stage, Leg { from: VIA, placement: Placement::Key, fenced: false, ..deliver }]
}

fn configure(cluster: &Cluster, rng: &mut SmallRng) {
    cluster.configure(|s| {
        s.window = rng.random_range(1..=8);
        s.limits = Limits { unit_messages: rng.random_range(1..=50), unit_bytes: rng.random_range(500..=20_000) };
        s.latency = Duration::ZERO..=Duration::from_millis(rng.random_range(0..=50));
        s.fetch = 1..=if rng.random_ratio(1, 8) { 1 } else { rng.random_range(1..=60) };
        s.fetch_delay = Duration::ZERO..=Duration::from_millis(rng.random_range(0..=20));
    });
}

async fn watch_peak(budget: Arc<Budget>, peak: Arc<AtomicUsize>) {
    loop {
        peak.fetch_max(budget.used(), Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
    }
}

impl World {
    pub(super) fn start(&mut self) {
        self.bridges.push(Bridge::start(&self.cluster, &self.legs, self.budget.clone(), self.sabotage));
        self.most_bridges = self.most_bridges.max(self.bridges.len());
    }

    fn produce(&mut self) {
        let inputs = self.legs[0].inputs;
        for _ in 0..self.rng.random_range(0..=80) {
            self.sequence += 1;
            let key = self.rng.random_range(0..12u32);
            let keyed = self.rng.random_ratio(9, 10);
            let partition = if keyed { key % inputs } else { self.rng.random_range(0..inputs) };
            if self.rng.random_ratio(1, 40) {
                self.cluster.hole(IN, partition, self.rng.random_range(1..5));
            }
            let message = Message {
                key: keyed.then(|| format!("key-{key}").into()),
                value: Some(self.value()),
                headers: Default::default(),
                time: None,
                position: Position::Offset(0),
                defect: self.defect(),
            };
            self.cluster.produce(IN, partition, message);
        }
    }

    /// Its number first.
    fn value(&mut self) -> Bytes {
        let padding = if self.padding > 0 { self.rng.random_range(0..self.padding) } else { 0 };
        format!("{}{}", self.sequence, ".".repeat(padding)).into()
    }

    fn defect(&mut self) -> Option<Box<Defect>> {
        if self.defects == 0 || !self.rng.random_ratio(1, self.defects) {
            return None;
        }
        let cause = if self.rng.random() { Cause::Untranslatable } else { Cause::TooLarge };
        self.defective.insert(self.sequence, cause);
        Some(Box::new(Defect { cause, detail: "not readable".into() }))
    }

    /// Everything heals, and one bridge at least is there to finish. Says what did not.
    async fn settle_down(&mut self) -> Result<(), String> {
        tracing::debug!("everything heals");
        self.cluster.heal();
        if self.bridges.is_empty() {
            self.start();
        }
        let healed = Instant::now();
        let (cluster, legs) = (self.cluster.clone(), self.legs.clone());
        let behind = || {
            let partitions = legs.iter().flat_map(|leg| (0..leg.inputs).map(move |p| (leg, p)));
            let position = |(leg, p): (&Leg, u32)| {
                let end = cluster.stored(leg.from, p).last().map_or(0, |s| s.offset + 1);
                (leg.from, p, cluster.committed(leg.from, leg.group, p).unwrap_or(0), end)
            };
            partitions.map(position).filter(|(_, _, committed, end)| committed < end).collect::<Vec<_>>()
        };
        let finished = async {
            while !behind().is_empty() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(PATIENCE, finished).await.is_err() {
            return Err(format!("not finished {:?} after the last fault: {:?}", healed.elapsed(), behind()));
        }
        for bridge in self.bridges.drain(..) {
            if !bridge.drain(PATIENCE).await {
                return Err("a drain did not end".into());
            }
        }
        // What the bridge held is given back to the last byte.
        match self.budget.used() {
            0 => Ok(()),
            used => Err(format!("{used} bytes are still charged after the drain")),
        }
    }
}
