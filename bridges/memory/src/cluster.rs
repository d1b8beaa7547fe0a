use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{SeedableRng, rngs::SmallRng};
use tokio::sync::Notify;
use trestle_core::{
    BoxFuture, Connector, Ensure, Fault, Message, Reader, ReaderSpec, Sink, SinkSpec, Source, SourceControl,
    SourcePair, SourceSpec, TopicInfo, Why,
};

use crate::{
    Commit, FaultSpec, Freeze, Poison, Sending, Settings, Stored, Writer,
    faults::{PartitionFaults, Predicate},
    group::Group,
    log::Log,
    reader::MemoryReader,
    sink::MemorySink,
    source::{MemoryControl, MemorySource},
};

/// Topics, groups and faults; a cheap handle. Methods that name a topic create it, and the partition, where it is missing.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Notified whenever anything changed that somebody might wait for.
    pub changed: Notify,
}

pub(crate) struct State {
    pub settings: Settings,
    pub rng: SmallRng,
    pub topics: BTreeMap<String, Topic>,
    /// By topic and group.
    pub groups: BTreeMap<(String, String), Group>,
    last_id: u64,
}

#[derive(Default)]
pub(crate) struct Topic {
    pub partitions: Vec<Partition>,
    pub poison: Vec<(Predicate, Poison)>,
    /// What `Source::next` answers, one a call.
    pub disturbances: VecDeque<Fault>,
    /// What `Source::next` answers until told otherwise.
    pub unreadable: Option<Fault>,
    /// Members that joined before this one hand out nothing.
    pub hung_before: u64,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub log: Log,
    pub faults: PartitionFaults,
    /// Lanes with a lower number are fenced.
    pub fence: u64,
    /// Every send asked for, in order.
    pub sendings: Vec<Sending>,
}

/// The test's side: topics and messages.
impl Cluster {
    /// All chance of this cluster comes from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State {
            settings: Settings::default(),
            rng: SmallRng::seed_from_u64(seed),
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            last_id: 0,
        };
        Cluster { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    pub fn connector(&self) -> Arc<dyn Connector> {
        Arc::new(self.clone())
    }

    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        self.shared.change(|state| change(&mut state.settings));
    }

    /// The topic has at least this many partitions afterwards; groups that read it get the new ones.
    pub fn create(&self, topic: &str, partitions: u32) {
        self.shared.change(|state| state.create(topic, partitions));
    }

    /// Stores a message as some client would, past all faults, and returns its offset.
    pub fn produce(&self, topic: &str, partition: u32, message: Message) -> u64 {
        self.partition(topic, partition, |p| p.log.append(message, Writer::Test))
    }

    /// Leaves out this many offsets.
    pub fn hole(&self, topic: &str, partition: u32, offsets: u64) {
        self.partition(topic, partition, |p| p.log.hole(offsets));
    }

    /// Retention: messages below `offset` can no longer be read, and who still wants them gets a `Gap`.
    pub fn cut(&self, topic: &str, partition: u32, offset: u64) {
        self.partition(topic, partition, |p| p.log.cut(offset));
    }

    /// Everything ever stored in a partition, in order.
    pub fn stored(&self, topic: &str, partition: u32) -> Vec<Stored> {
        self.look(topic, partition, |p| p.log.stored().to_vec()).unwrap_or_default()
    }

    /// Every send into a partition that a lane was ever asked for, in order.
    pub fn sendings(&self, topic: &str, partition: u32) -> Vec<Sending> {
        self.look(topic, partition, |p| p.sendings.clone()).unwrap_or_default()
    }

    /// The offset of the next message stored.
    pub fn end(&self, topic: &str, partition: u32) -> u64 {
        self.look(topic, partition, |p| p.log.end()).unwrap_or_default()
    }

    /// Resolves when `condition` holds; asked again after every change of this cluster.
    pub async fn until(&self, mut condition: impl FnMut(&Cluster) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }
}

/// The test's side: groups.
impl Cluster {
    /// The first offset that the group has not read, as committed.
    pub fn committed(&self, topic: &str, group: &str, partition: u32) -> Option<u64> {
        self.group(topic, group, |g| g.committed.get(&partition).copied())
    }

    /// Every commit that was accepted.
    pub fn commits(&self, topic: &str, group: &str) -> Vec<Commit> {
        self.group(topic, group, |g| g.commits.clone())
    }

    /// Every commit that was refused because the partition was another's by then.
    pub fn zombie_commits(&self, topic: &str, group: &str) -> Vec<Commit> {
        self.group(topic, group, |g| g.zombie_commits.clone())
    }

    /// The running sessions, oldest first.
    pub fn members(&self, topic: &str, group: &str) -> Vec<u64> {
        self.group(topic, group, |g| g.members())
    }

    pub fn owner(&self, topic: &str, group: &str, partition: u32) -> Option<u64> {
        self.group(topic, group, |g| g.owner(partition))
    }

    /// Ends a session at once: its partitions go to others, it hears that they are lost, and joins again.
    pub fn lose_session(&self, topic: &str, group: &str, member: u64) {
        self.shared.change(|state| state.with_group(topic, group, |g, n, settings| g.remove(member, n, settings)));
    }

    /// The group's next commit fails.
    pub fn fail_commit(&self, topic: &str, group: &str, fault: Fault) {
        self.group(topic, group, |g| g.commit_faults.push_back(fault));
    }
}

/// The test's side: faults.
impl Cluster {
    /// Happens to the next send into this partition that has no earlier one before it.
    pub fn inject(&self, topic: &str, partition: u32, fault: FaultSpec) {
        self.partition(topic, partition, |p| p.faults.queue.push_back(fault));
    }

    /// Asked what happens to each send for which nothing was injected. It must not call this cluster.
    pub fn plan(
        &self,
        topic: &str,
        partition: u32,
        plan: impl FnMut(&[Message]) -> Option<FaultSpec> + Send + 'static,
    ) {
        self.partition(topic, partition, |p| p.faults.plan = Some(Box::new(plan)));
    }

    /// Sends into this partition hang until [`Cluster::thaw`].
    pub fn freeze(&self, topic: &str, partition: u32, what: Freeze) {
        self.partition(topic, partition, |p| p.faults.frozen = Some(what));
    }

    pub fn thaw(&self, topic: &str, partition: u32) {
        self.partition(topic, partition, |p| p.faults.frozen = None);
    }

    /// Sends, probes and opening a lane are `Unavailable` until [`Cluster::up`].
    pub fn down(&self, topic: &str, partition: u32, why: Why) {
        let fault = Fault::unavailable(why, format!("memory: {topic}/{partition} was taken down"));
        self.partition(topic, partition, |p| p.faults.down = Some(fault));
    }

    pub fn up(&self, topic: &str, partition: u32) {
        self.partition(topic, partition, |p| p.faults.down = None);
    }

    /// Whatever `is_poison` says of a message of this topic, in any partition. It must not call this cluster.
    pub fn poison(&self, topic: &str, poison: Poison, is_poison: impl Fn(&Message) -> bool + Send + 'static) {
        self.topic(topic, |t| t.poison.push((Box::new(is_poison), poison)));
    }

    /// Reading the topic is disturbed once: one `next` fails, and what was read ahead is read again.
    pub fn disturb(&self, topic: &str, fault: Fault) {
        self.topic(topic, |t| t.disturbances.push_back(fault));
    }

    /// Every source that reads the topic now hands out nothing more, without a word. One that is made later does.
    pub fn hang_sources(&self, topic: &str) {
        let next = self.shared.change(|state| state.new_id());
        self.topic(topic, |t| t.hung_before = next);
    }

    /// Reading the topic fails until [`Cluster::readable`].
    pub fn unreadable(&self, topic: &str, fault: Fault) {
        self.topic(topic, |t| t.unreadable = Some(fault));
    }

    pub fn readable(&self, topic: &str) {
        self.topic(topic, |t| t.unreadable = None);
    }

    /// Ends all faults; what they have done (cuts, fences, lost sessions) stays done.
    pub fn heal(&self) {
        self.shared.change(|state| {
            for topic in state.topics.values_mut() {
                topic.poison.clear();
                topic.disturbances.clear();
                topic.unreadable = None;
                topic.partitions.iter_mut().for_each(|p| p.faults = PartitionFaults::default());
            }
            state.groups.values_mut().for_each(|g| g.commit_faults.clear());
        });
    }
}

impl Cluster {
    fn topic<T>(&self, topic: &str, change: impl FnOnce(&mut Topic) -> T) -> T {
        self.shared.change(|state| change(state.topics.entry(topic.to_owned()).or_default()))
    }

    fn partition<T>(&self, topic: &str, partition: u32, change: impl FnOnce(&mut Partition) -> T) -> T {
        self.shared.change(|state| {
            state.create(topic, partition + 1);
            change(state.partition(topic, partition))
        })
    }

    fn look<T>(&self, topic: &str, partition: u32, look: impl FnOnce(&Partition) -> T) -> Option<T> {
        Some(look(self.shared.lock().topics.get(topic)?.partitions.get(partition as usize)?))
    }

    fn group<T>(&self, topic: &str, group: &str, look: impl FnOnce(&mut Group) -> T) -> T {
        self.shared.lock().with_group(topic, group, |g, _, _| look(g))
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }
}

impl State {
    /// A number that is larger than all given before.
    pub fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Panics for a partition that does not exist: who asks has checked.
    pub fn partition(&mut self, topic: &str, partition: u32) -> &mut Partition {
        let partitions = self.topics.get_mut(topic).map(|t| &mut t.partitions);
        match partitions.and_then(|all| all.get_mut(partition as usize)) {
            Some(partition) => partition,
            None => panic!("memory: {topic}/{partition} does not exist"),
        }
    }

    /// The group, the topic's partitions and the settings.
    pub fn with_group<T>(&mut self, topic: &str, group: &str, f: impl FnOnce(&mut Group, u32, &Settings) -> T) -> T {
        let partitions = self.partitions(topic).unwrap_or(0);
        let group = self.groups.entry((topic.to_owned(), group.to_owned())).or_default();
        f(group, partitions, &self.settings)
    }

    fn partitions(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic).map(|t| t.partitions.len() as u32)
    }

    fn create(&mut self, topic: &str, partitions: u32) {
        let all = &mut self.topics.entry(topic.to_owned()).or_default().partitions;
        if all.len() < partitions as usize {
            all.resize_with(partitions as usize, Partition::default);
            for ((of, _), group) in &mut self.groups {
                if of == topic {
                    group.rebalance(partitions, &self.settings);
                }
            }
        }
    }

    pub fn describe(&self, topic: &str) -> Result<TopicInfo, Fault> {
        let partitions = self.partitions(topic).filter(|n| *n > 0);
        let unknown = || Fault::unavailable(Why::UnknownTopic, format!("memory: there is no topic {topic}"));
        let partitions = partitions.ok_or_else(unknown)?;
        Ok(TopicInfo { partitions, max_message: Some(self.settings.max_message), grows: true, ..TopicInfo::default() })
    }
}

impl Connector for Cluster {
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<SourcePair, Fault>> {
        Box::pin(async move {
            self.shared.lock().describe(&spec.topic)?;
            let source = MemorySource::join(self.shared.clone(), spec);
            let control: Arc<dyn SourceControl> = Arc::new(MemoryControl::of(&source));
            Ok((Box::new(source) as Box<dyn Source>, control))
        })
    }

    fn sink(&self, spec: SinkSpec) -> BoxFuture<'_, Result<Arc<dyn Sink>, Fault>> {
        Box::pin(async move {
            self.shared.lock().describe(&spec.topic)?;
            Ok(Arc::new(MemorySink::new(self.shared.clone(), spec)) as Arc<dyn Sink>)
        })
    }

    fn reader(&self, spec: ReaderSpec) -> BoxFuture<'_, Result<Box<dyn Reader>, Fault>> {
        Box::pin(async move {
            self.shared.lock().describe(&spec.topic)?;
            Ok(Box::new(MemoryReader::new(self.shared.clone(), spec)) as Box<dyn Reader>)
        })
    }

    fn topics<'a>(&'a self, _like: &'a str) -> BoxFuture<'a, Result<Vec<String>, Fault>> {
        Box::pin(async { Ok(self.shared.lock().topics.keys().cloned().collect()) })
    }

    fn describe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(async move { self.shared.lock().describe(topic) })
    }

    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(async move {
            self.create(topic, ensure.partitions.max(1));
            if let Some(durable) = ensure.durable {
                self.shared.change(|state| {
                    state.with_group(topic, &durable.subscription, |g, partitions, _| {
                        (0..partitions).for_each(|p| _ = g.committed.entry(p).or_insert(0));
                    });
                });
            }
            self.shared.lock().describe(topic)
        })
    }
}
