//! Our membership in the group: heartbeats, who reads which queue, and the handover of a queue.
//!
//! RocketMQ has no coordinator: every member asks a broker who the members are and works out its share for itself, as the
//! Java clients do, so that mixed groups agree. Nobody says when another has let go, so a queue's lock is taken before it is
//! read. A lock outlives its owner by up to a minute, so it is only waited for, not insisted on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use trestle_core::{Done, Event, Fault, PartitionId, Start, Tracker};

use super::{
    allocate::{allocate, owner},
    group::{Group, needs_a_person},
    reader::read,
    reading::{Events, Reading},
};
use crate::{queues::Queues, route::Queue};

/// Locks end after 60 s; renewed well before.
const LOCK_RENEWAL: Duration = Duration::from_secs(20);
/// For so long a queue's lock is waited for while its owner is a member; it needs its time to finish what it has sent.
const PATIENCE: Duration = Duration::from_secs(15);
/// And when its owner has left the group without giving it back: perhaps its connection was only interrupted.
const PATIENCE_WITH_THE_GONE: Duration = Duration::from_secs(2);
/// While something is in the way (a lock, a broker), the next look is after this time.
const HURRY: Duration = Duration::from_millis(500);
/// When nobody has confirmed our membership for so long, others may have our queues: what we hold is abandoned.
const SESSION: Duration = Duration::from_secs(60);
/// Beyond the interval of rounds: a membership that was confirmed no longer ago is trusted. Shorter than what others wait for
/// our locks, so that nobody commits what another reads by now.
const TRUST: Duration = Duration::from_secs(4);
/// How long the pipeline may take to finish what it has sent of a queue that is taken away.
const REVOKE_LIMIT: Duration = Duration::from_secs(8);
/// A lasting fault is told again after this time.
const REMIND: Duration = Duration::from_secs(10);

/// What the source, its control and its membership share.
pub struct Shared {
    pub group: Arc<Group>,
    held: Mutex<BTreeMap<Queue, Held>>,
    queues: Mutex<Queues>,
    /// When the members' list last had us in it, and our share was worked out.
    confirmed: Mutex<Instant>,
    pub heartbeat_interval: Duration,
    pub rebalance_interval: Duration,
}

struct Held {
    reading: Arc<Reading>,
    task: JoinHandle<()>,
    locked: bool,
    /// Being handed over.
    leaving: bool,
}

impl Shared {
    pub fn new(group: Arc<Group>, queues: Queues, heartbeat_interval: Duration, rebalance_interval: Duration) -> Self {
        Shared {
            group,
            held: Mutex::default(),
            queues: Mutex::new(queues),
            confirmed: Mutex::new(Instant::now()),
            heartbeat_interval,
            rebalance_interval,
        }
    }

    pub fn reading(&self, partition: PartitionId) -> Option<Arc<Reading>> {
        self.held().values().find(|held| held.reading.tracker.partition() == partition).map(|held| held.reading.clone())
    }

    pub fn readings(&self) -> Vec<Arc<Reading>> {
        self.held().values().map(|held| held.reading.clone()).collect()
    }

    /// Commits what is settled of these. Nothing while our membership is in doubt: another may be further on.
    pub async fn commit(&self, readings: Vec<Arc<Reading>>) -> Result<(), Fault> {
        let readings: Vec<_> = readings.into_iter().filter(|reading| reading.due().is_some()).collect();
        if readings.is_empty() {
            return Ok(());
        }
        if self.in_doubt() {
            return Err(Fault::down(format!(
                "{}: our membership is in doubt, so nothing is committed",
                self.group.about()
            )));
        }
        let commits = readings.iter().map(|reading| reading.commit(&self.group));
        join_all(commits).await.into_iter().collect()
    }

    /// Stops reading at once, and gives what was read.
    pub fn stop(&self) -> Vec<Arc<Reading>> {
        let held = std::mem::take(&mut *self.held());
        let stop = |held: Held| {
            held.task.abort();
            held.reading.tracker.end(false);
            held.reading
        };
        held.into_values().map(stop).collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Queue, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirmed_for(&self) -> Duration {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Others may have taken what is ours: we were frozen or cut off.
    pub fn in_doubt(&self) -> bool {
        self.confirmed_for() > self.rebalance_interval + TRUST
    }

    fn confirm(&self) {
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn known_queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the membership until it is aborted.
pub async fn keep(shared: Arc<Shared>, events: Events) {
    let known = shared.known_queues().len();
    let mut member = Member {
        known,
        shared,
        events,
        members: Vec::new(),
        wanted: BTreeMap::new(),
        heartbeat: None,
        renewal: Instant::now(),
        told: None,
    };
    loop {
        let wait = match member.round().await {
            Ok(settled) => {
                if member.told.take().is_some() {
                    tracing::info!(group = member.shared.group.about(), "in the group again");
                }
                if settled { member.shared.rebalance_interval } else { HURRY }
            }
            Err(fault) => {
                if member.told.is_none_or(|told| told.elapsed() > REMIND) {
                    member.told = Some(Instant::now());
                    let _ = member.events.send(Err(fault)).await;
                }
                HURRY * 2
            }
        };
        let group = &member.shared.group;
        tokio::select! {
            () = sleep(wait) => {}
            () = group.client.pool.members_changed.notified() => {}
            () = group.shaken.notified() => member.heartbeat = None,
        }
    }
}

struct Member {
    shared: Arc<Shared>,
    events: Events,
    /// As they were in the last round.
    members: Vec<String>,
    /// Our share that we do not hold yet: since when, and whether its owner before us is still a member.
    wanted: BTreeMap<Queue, (Instant, bool)>,
    /// Queues numbered below this were there when the source was opened.
    known: u32,
    heartbeat: Option<Instant>,
    renewal: Instant,
    told: Option<Instant>,
}

impl Member {
    /// Looks who is there and takes and gives queues accordingly. False when something is still on its way.
    async fn round(&mut self) -> Result<bool, Fault> {
        let group = self.shared.group.clone();
        if self.shared.confirmed_for() > SESSION {
            self.give(&[], true).await;
        }
        let route = group.routes.refresh(&group.client).await?;
        let queues = route.readable();
        self.shared.known_queues().grow(queues.clone());
        let masters: Vec<(String, String)> =
            route.masters().map(|(name, at)| (name.to_owned(), at.to_owned())).collect();
        if self.heartbeat.is_none_or(|last| last.elapsed() >= self.shared.heartbeat_interval) {
            let beats = masters.iter().map(|(_, address)| group.heartbeat(address));
            let beats = join_all(beats).await;
            // Brokers share no list, and any of them may be asked: one that is away is not asked either.
            if beats.iter().all(Result::is_err) || beats.iter().any(|beat| beat.as_ref().is_err_and(needs_a_person)) {
                beats.into_iter().collect::<Result<(), Fault>>()?;
            }
            self.heartbeat = Some(Instant::now());
        }
        let members = self.ask_members(&masters).await?;
        if !members.contains(&group.member) {
            // A broker that was restarted does not know us yet.
            self.heartbeat = None;
            return Ok(false);
        }
        let doubtful = self.shared.in_doubt();
        self.shared.confirm();
        let share = allocate(&queues, &members, &group.member);
        self.give(&share, doubtful).await;
        self.want(&share, &queues, &members);
        self.members = members;
        self.renew().await;
        self.take().await;
        Ok(self.wanted.is_empty())
    }

    async fn ask_members(&self, masters: &[(String, String)]) -> Result<Vec<String>, Fault> {
        let mut last = Err(Fault::down(format!("{}: no broker has a master", self.shared.group.about())));
        for (_, address) in masters {
            last = self.shared.group.members(address).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Lets go of what is not ours any more; without a word to the broker when another may have it already.
    async fn give(&mut self, share: &[Queue], doubtful: bool) {
        let mut going = Vec::new();
        for (queue, held) in self.shared.held().iter_mut() {
            if !share.contains(queue) && !held.leaving {
                held.leaving = true;
                held.task.abort();
                // With the lock nobody else reads it before we are done with it.
                let lost = doubtful || !held.locked;
                held.reading.tracker.end(lost);
                going.push((held.reading.clone(), lost));
            }
        }
        for lost in [true, false] {
            let readings: Vec<_> =
                going.iter().filter(|(_, is_lost)| *is_lost == lost).map(|(r, _)| r.clone()).collect();
            if readings.is_empty() {
                continue;
            }
            let partitions = readings.iter().map(|reading| reading.tracker.partition()).collect();
            let (done, finished) = Done::new();
            if self.events.send(Ok(Event::Revoked { partitions, lost, done })).await.is_err() {
                return;
            }
            let shared = self.shared.clone();
            // Beside the rounds: heartbeats go on while the pipeline finishes.
            tokio::spawn(async move {
                let _ = timeout(REVOKE_LIMIT, finished).await;
                hand_over(&shared, readings, lost).await;
            });
        }
    }

    /// Notes what of our share we do not hold.
    fn want(&mut self, share: &[Queue], queues: &[Queue], members: &[String]) {
        let held = self.shared.held();
        self.wanted.retain(|queue, _| share.contains(queue) && !held.contains_key(queue));
        // Who had it before us: by the last round's members, or by today's without us.
        let before: Vec<String> = match self.members.is_empty() {
            true => members.iter().filter(|m| **m != self.shared.group.member).cloned().collect(),
            false => self.members.clone(),
        };
        for queue in share.iter().filter(|queue| !held.contains_key(queue)) {
            let alive = owner(queue, queues, &before).is_some_and(|owner| members.contains(owner));
            self.wanted.entry(queue.clone()).or_insert((Instant::now(), alive));
        }
    }

    /// Keeps our locks, and tries for those that we read without.
    async fn renew(&mut self) {
        if self.renewal.elapsed() < LOCK_RENEWAL {
            return;
        }
        self.renewal = Instant::now();
        let queues: Vec<Queue> =
            self.shared.held().iter().filter(|(_, h)| !h.leaving).map(|(q, _)| q.clone()).collect();
        let locked = self.lock(queues.clone()).await;
        let mut held = self.shared.held();
        for queue in queues {
            if let Some(held) = held.get_mut(&queue) {
                held.locked = locked.contains(&queue);
            }
        }
    }

    /// Begins with the wanted queues whose lock we get, or whose lock was waited for long enough.
    async fn take(&mut self) {
        if self.wanted.is_empty() {
            return;
        }
        let locked = self.lock(self.wanted.keys().cloned().collect()).await;
        let mut trackers: Vec<Arc<Tracker>> = Vec::new();
        self.wanted.retain(|queue, (since, alive)| {
            let patience = if *alive { PATIENCE } else { PATIENCE_WITH_THE_GONE };
            let ours = locked.contains(queue);
            if !ours && since.elapsed() < patience {
                return true;
            }
            let Some(partition) = self.shared.known_queues().partition(queue) else { return true };
            // A queue that came later is read from its start, or what was written before we saw it would be skipped.
            let otherwise =
                if partition.0 < self.known { self.shared.group.spec.start.clone() } else { Start::Earliest };
            let reading = Reading::new(queue.clone(), partition, otherwise);
            let task = tokio::spawn(read(reading.clone(), self.shared.group.clone(), self.events.clone()));
            trackers.push(reading.tracker.clone());
            self.shared.held().insert(queue.clone(), Held { reading, task, locked: ours, leaving: false });
            false
        });
        if !trackers.is_empty() {
            tracing::info!(group = self.shared.group.about(), queues = trackers.len(), "queues taken");
            // The source is being closed when nobody takes it.
            let _ = self.events.send(Ok(Event::Assigned(trackers))).await;
        }
    }

    /// Those of the queues whose lock is ours now; a broker that does not answer locks none.
    async fn lock(&self, queues: Vec<Queue>) -> Vec<Queue> {
        let mut by_broker: BTreeMap<String, Vec<Queue>> = BTreeMap::new();
        for queue in queues {
            by_broker.entry(queue.broker.clone()).or_default().push(queue);
        }
        let locks = by_broker.iter().map(|(broker, queues)| self.shared.group.lock(broker, queues));
        join_all(locks).await.into_iter().filter_map(Result::ok).flatten().collect()
    }
}

/// The last of a revoked queue: its position, then its lock.
async fn hand_over(shared: &Shared, readings: Vec<Arc<Reading>>, lost: bool) {
    if !lost && let Err(fault) = shared.commit(readings.clone()).await {
        tracing::warn!(%fault, "a queue was handed over without its position: messages may repeat");
    }
    for reading in &readings {
        reading.tracker.end(true);
        if !lost {
            shared.group.unlock(&reading.queue).await;
        }
        shared.held().remove(&reading.queue);
    }
    shared.group.client.pool.members_changed.notify_one();
}
