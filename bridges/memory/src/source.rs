use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use rand::Rng;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use trestle_core::{
    BoxFuture, Cause, Defect, Done, Event, Fault, Message, PartitionId, Position, Restart, Source, SourceControl,
    SourceSpec, Start, Tracker,
};

use crate::{
    Settings,
    cluster::{Shared, State},
    group::{Group, News},
};

/// A member of a group. Dropping it without `close` is a crash.
pub(crate) struct MemorySource {
    reader: Arc<Reader>,
    /// Revokes that were told and are not done yet.
    revokes: Vec<Revoke>,
}

struct Revoke {
    partitions: Vec<u32>,
    done: oneshot::Receiver<()>,
}

pub(crate) struct MemoryControl(Arc<Reader>);

/// What a source and its control share. Its lock is taken before the cluster's.
struct Reader {
    cluster: Arc<Shared>,
    spec: SourceSpec,
    inner: Mutex<Inner>,
}

struct Inner {
    member: u64,
    parts: BTreeMap<u32, Part>,
    closed: bool,
    commit_at: Instant,
    /// Nothing is read before.
    mended_at: Instant,
}

struct Part {
    tracker: Arc<Tracker>,
    /// The offset read next; `None` while it stands still.
    next: Option<u64>,
    /// Where it was started.
    started_at: u64,
    credit: u64,
    read_at: Instant,
}

enum Step {
    Event(Event),
    Fault(Fault),
    Again,
    Closed,
    /// Nothing to do until then, or until something changes.
    Wait(Instant),
}

impl MemorySource {
    pub fn join(cluster: Arc<Shared>, mut spec: SourceSpec) -> Self {
        // Never zero: paused time could not pass.
        spec.commit_interval = spec.commit_interval.max(Duration::from_millis(1));
        let member = cluster.change(|state| join(state, &spec));
        let (commit_at, mended_at) = (Instant::now() + spec.commit_interval, Instant::now());
        let inner = Mutex::new(Inner { member, parts: BTreeMap::new(), closed: false, commit_at, mended_at });
        MemorySource { reader: Arc::new(Reader { cluster, spec, inner }), revokes: Vec::new() }
    }

    /// Everything that can be done without waiting; nothing is awaited between taking and handing out, so that `next`
    /// may be cancelled anywhere.
    fn step(&mut self) -> Step {
        let reader = self.reader.clone();
        let mut inner = reader.lock();
        let mut state = reader.cluster.lock();
        if inner.closed {
            return Step::Closed;
        }
        let news = reader.poll_group(&mut state, inner.member);
        if let Some(news) = news {
            return match self.hear(&mut inner, &mut state, news) {
                Some(event) => Step::Event(event),
                None => Step::Again,
            };
        }
        inner.commit_on_time(&reader.spec, &mut state);
        inner.restart();
        inner.read(&reader.spec, &mut state)
    }

    fn hear(&mut self, inner: &mut Inner, state: &mut State, news: News) -> Option<Event> {
        match news {
            News::Expelled => {
                let all = inner.parts.keys().copied().collect();
                inner.member = join(state, &self.reader.spec);
                self.lose(inner, all)
            }
            News::Lost(partitions) => self.lose(inner, partitions),
            News::Revoke(partitions) => {
                partitions.iter().filter_map(|p| inner.parts.get(p)).for_each(|part| part.tracker.end(false));
                let (done, receiver) = Done::new();
                let ids = partitions.iter().map(|p| PartitionId(*p)).collect();
                self.revokes.push(Revoke { partitions, done: receiver });
                Some(Event::Revoked { partitions: ids, lost: false, done })
            }
            News::Assigned(partitions) => {
                Some(Event::Assigned(partitions.into_iter().map(|p| inner.assign(p, &self.reader.cluster)).collect()))
            }
        }
    }

    /// Partitions whose revoke was told already are not told of again.
    fn lose(&mut self, inner: &mut Inner, partitions: Vec<u32>) -> Option<Event> {
        let mut untold = Vec::new();
        for partition in partitions {
            let Some(part) = inner.parts.remove(&partition) else { continue };
            part.tracker.end(true);
            let told = self.revokes.iter_mut().any(|r| {
                let before = r.partitions.len();
                r.partitions.retain(|p| *p != partition);
                r.partitions.len() < before
            });
            if !told {
                untold.push(PartitionId(partition));
            }
        }
        let (done, _) = Done::new();
        (!untold.is_empty()).then_some(Event::Revoked { partitions: untold, lost: true, done })
    }

    /// Resolves when a revoke was done.
    async fn revoke_done(&mut self) {
        let at = std::future::poll_fn(|cx| {
            let ready = |r: &mut Revoke| std::pin::Pin::new(&mut r.done).poll(cx).is_ready();
            self.revokes.iter_mut().position(ready).map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        // No await between learning of it and doing it.
        let revoke = self.revokes.swap_remove(at);
        self.reader.release(&revoke.partitions);
    }
}

fn join(state: &mut State, spec: &SourceSpec) -> u64 {
    let member = state.new_id();
    state.with_group(&spec.topic, &spec.group, |g, partitions, settings| g.join(member, partitions, settings));
    member
}

impl Source for MemorySource {
    fn next(&mut self) -> BoxFuture<'_, Result<Event, Fault>> {
        Box::pin(async move {
            let cluster = self.reader.cluster.clone();
            loop {
                let mut changed = pin!(cluster.changed.notified());
                changed.as_mut().enable();
                let until = match self.step() {
                    Step::Event(event) => return Ok(event),
                    Step::Fault(fault) => return Err(fault),
                    Step::Again => continue,
                    Step::Closed => return std::future::pending().await,
                    Step::Wait(until) => until,
                };
                tokio::select! {
                    biased;
                    () = self.revoke_done() => {}
                    () = changed => {}
                    () = sleep_until(until) => {}
                }
            }
        })
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        let inner = self.reader.lock();
        if !inner.closed {
            self.reader.in_group(|group, _, _| group.crashed(inner.member));
        }
    }
}

impl Reader {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_group<T>(&self, f: impl FnOnce(&mut Group, u32, &Settings) -> T) -> T {
        self.cluster.change(|state| state.with_group(&self.spec.topic, &self.spec.group, f))
    }

    fn poll_group(&self, state: &mut State, member: u64) -> Option<News> {
        let poll = |g: &mut Group, n, settings: &Settings| {
            let before = g.rebalances;
            (g.poll(member, n, settings), g.rebalances != before)
        };
        let (news, rebalanced) = state.with_group(&self.spec.topic, &self.spec.group, poll);
        if rebalanced {
            self.cluster.changed.notify_waiters();
        }
        news
    }

    fn release(&self, partitions: &[u32]) {
        let mut inner = self.lock();
        self.cluster.change(|state| {
            // What cannot be committed now is read again by the next owner.
            let _ = inner.commit(&self.spec, state, partitions);
            partitions.iter().for_each(|p| _ = inner.parts.remove(p));
            let member = inner.member;
            state.with_group(&self.spec.topic, &self.spec.group, |g, n, settings| {
                g.release(member, partitions, n, settings);
            });
        });
    }
}

impl Inner {
    fn assign(&mut self, partition: u32, cluster: &Arc<Shared>) -> Arc<Tracker> {
        let woken = Arc::downgrade(cluster);
        let wake = move || woken.upgrade().iter().for_each(|cluster| cluster.changed.notify_waiters());
        let tracker = Tracker::new(PartitionId(partition), wake);
        let part = Part { tracker: tracker.clone(), next: None, started_at: 0, credit: 0, read_at: Instant::now() };
        self.parts.insert(partition, part);
        tracker
    }

    fn commit_on_time(&mut self, spec: &SourceSpec, state: &mut State) {
        let now = Instant::now();
        if now >= self.commit_at {
            self.commit_at = now + spec.commit_interval;
            let all: Vec<u32> = self.parts.keys().copied().collect();
            // Tried again after the next interval.
            let _ = self.commit(spec, state, &all);
        }
    }

    fn commit(&mut self, spec: &SourceSpec, state: &mut State, partitions: &[u32]) -> Result<(), Fault> {
        let mut result = Ok(());
        for partition in partitions {
            let Some(part) = self.parts.get(partition) else { continue };
            let Some(point) = part.tracker.commit_point() else { continue };
            let next = offset(point) + 1;
            match state.with_group(&spec.topic, &spec.group, |g, _, _| g.commit(self.member, *partition, next)) {
                Ok(()) => part.tracker.committed(point),
                Err(fault) => result = Err(fault),
            }
        }
        result
    }

    fn start(&mut self, spec: &SourceSpec, state: &mut State, partition: u32, from: Option<Position>) {
        let Some(part) = self.parts.get_mut(&partition) else { return };
        let log = &state.partition(&spec.topic, partition).log;
        let (begin, end) = (log.start(), log.end());
        let dated = if let Start::Time(time) = spec.start { log.dated(time) } else { begin };
        let member = self.member;
        let first = state.with_group(&spec.topic, &spec.group, |group, _, _| {
            match (from.map(offset), group.committed.get(&partition), &spec.start) {
                (Some(from), _, _) => from,
                (None, Some(committed), _) => *committed,
                (None, None, Start::Earliest) => begin,
                (None, None, Start::Time(_)) => dated,
                (None, None, Start::Offsets(offsets)) => offsets.get(&PartitionId(partition)).copied().unwrap_or(begin),
                (None, None, Start::Latest) => {
                    // Committed, so that a group that settles nothing does not begin later the next time. A commit that
                    // fails here belongs to a member that is expelled, which will hear of it.
                    let _ = group.commit(member, partition, end);
                    end
                }
            }
        });
        if from.is_some() {
            part.tracker.skip_to(Position::Offset(first));
        }
        part.next = Some(first);
        part.started_at = first;
        part.credit = 0;
    }

    /// Goes back where an epoch is over.
    fn restart(&mut self) {
        for part in self.parts.values_mut().filter(|p| p.next.is_some()) {
            let Some(restart) = part.tracker.restart() else { continue };
            let to = match restart {
                Restart::At(position) => offset(position),
                Restart::After(position) => offset(position) + 1,
                Restart::AtStart => part.started_at,
            };
            part.next = Some(to.max(part.started_at));
        }
    }

    fn read(&mut self, spec: &SourceSpec, state: &mut State) -> Step {
        let now = Instant::now();
        let deadline = state.with_group(&spec.topic, &spec.group, |g, _, settings| g.deadline(settings));
        let wake = deadline.map_or(self.commit_at, |deadline| deadline.min(self.commit_at));
        if state.topics.get(&spec.topic).is_some_and(|topic| self.member < topic.hung_before) {
            return Step::Wait(wake);
        }
        if now < self.mended_at {
            return Step::Wait(wake.min(self.mended_at));
        }
        if let Some(fault) = self.disturbed(spec, state) {
            return Step::Fault(fault);
        }
        let flowing =
            self.parts.iter().filter_map(|(p, part)| Some((*p, part.next.filter(|_| part.credit > 0)?, part)));
        let mut ready = Vec::new();
        let mut delayed: Option<Instant> = None;
        for (partition, next, part) in flowing.filter(|(_, _, part)| !part.tracker.ended()) {
            let log = &state.partition(&spec.topic, partition).log;
            if next < log.start() || !log.read(next).is_empty() {
                if part.read_at <= now {
                    ready.push(partition);
                } else {
                    delayed = Some(delayed.map_or(part.read_at, |d| d.min(part.read_at)));
                }
            }
        }
        if ready.is_empty() {
            return Step::Wait(delayed.map_or(wake, |d| d.min(wake)));
        }
        let partition = ready[state.rng.random_range(0..ready.len())];
        self.fetch(spec, state, partition)
    }

    fn disturbed(&mut self, spec: &SourceSpec, state: &mut State) -> Option<Fault> {
        let topic = state.topics.get_mut(&spec.topic)?;
        let fault = topic.disturbances.pop_front().or_else(|| topic.unreadable.clone())?;
        self.mended_at = Instant::now() + state.settings.source_backoff;
        for (partition, part) in &mut self.parts {
            // As after a reconnect: read again from the group's position; the tracker leaves out what this epoch handed out.
            let Some(next) = part.next else { continue };
            let begin = state.partition(&spec.topic, *partition).log.start();
            let committed = state.with_group(&spec.topic, &spec.group, |g, _, _| g.committed.get(partition).copied());
            part.next = Some(committed.unwrap_or(0).max(part.started_at).max(begin).min(next));
        }
        Some(fault)
    }

    fn fetch(&mut self, spec: &SourceSpec, state: &mut State, partition: u32) -> Step {
        let Some(part) = self.parts.get_mut(&partition) else { return Step::Again };
        let Some(next) = part.next else { return Step::Again };
        let most = state.rng.random_range(state.settings.fetch.clone()).max(1);
        part.read_at = Instant::now() + state.rng.random_range(state.settings.fetch_delay.clone());
        let log = &state.partition(&spec.topic, partition).log;
        if next < log.start() {
            part.next = None;
            let (from, to) = (Position::Offset(next), Position::Offset(log.start()));
            return Step::Event(Event::Gap { partition: PartitionId(partition), from, to });
        }
        let mut bytes = 0;
        let mut messages = Vec::new();
        for stored in log.read(next).iter().take(most) {
            if bytes >= part.credit {
                break;
            }
            bytes += stored.message.size() as u64;
            messages.push(with_defect(&stored.message, spec.largest_message));
            part.next = Some(stored.offset + 1);
        }
        let Some(batch) = part.tracker.admit(messages) else { return Step::Again };
        part.credit = part.credit.saturating_sub(batch.bytes as u64);
        Step::Event(Event::Batch(batch))
    }
}

/// The position of a foreign kind cannot come from here; it stands for the beginning.
fn offset(position: Position) -> u64 {
    match position {
        Position::Offset(offset) => offset,
        Position::Entry { .. } => 0,
    }
}

fn with_defect(message: &Message, largest: usize) -> Message {
    let mut message = message.clone();
    if message.size() > largest {
        let detail = format!("memory: {} bytes, over the largest message of {largest}", message.size());
        message.defect = Some(Box::new(Defect { cause: Cause::TooLarge, detail }));
    }
    message
}

impl MemoryControl {
    pub fn of(source: &MemorySource) -> Self {
        MemoryControl(source.reader.clone())
    }
}

impl SourceControl for MemoryControl {
    fn start(&self, partition: PartitionId, from: Option<Position>) {
        let mut inner = self.0.lock();
        self.0.cluster.change(|state| inner.start(&self.0.spec, state, partition.0, from));
    }

    fn credit(&self, partition: PartitionId, bytes: u64) {
        if let Some(part) = self.0.lock().parts.get_mut(&partition.0) {
            part.credit = bytes;
        }
        self.0.cluster.changed.notify_waiters();
    }

    fn commit(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Result<(), Fault>> {
        let reader = self.0.clone();
        Box::pin(async move {
            let partitions: Vec<u32> = partitions.iter().map(|p| p.0).collect();
            let mut inner = reader.lock();
            reader.cluster.change(|state| inner.commit(&reader.spec, state, &partitions))
        })
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let reader = self.0.clone();
        Box::pin(async move {
            let mut inner = reader.lock();
            if std::mem::replace(&mut inner.closed, true) {
                return;
            }
            reader.cluster.change(|state| {
                let all: Vec<u32> = inner.parts.keys().copied().collect();
                // What cannot be committed now is read again by the next owner.
                let _ = inner.commit(&reader.spec, state, &all);
                inner.parts.values().for_each(|part| part.tracker.end(false));
                inner.parts.clear();
                let member = inner.member;
                let (topic, group) = (&reader.spec.topic, &reader.spec.group);
                state.with_group(topic, group, |g, n, settings| g.remove(member, n, settings));
            });
        })
    }
}

#[cfg(test)]
mod tests;
