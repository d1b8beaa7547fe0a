use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use trestle_core::{Event, Fault, FaultKind, Lag, PartitionId, Position, Scope, SourceSpec, Why};

use super::{
    Context, Shared,
    commits::Commits,
    inbox::{CommitRequest, Requests},
    lookup::{self, Answer, Found, Question},
    outbox::Outbox,
    partition::{Partition, State, offset},
    rebalance::Revoke,
};
use crate::{
    classify, native,
    native::{PartitionQueue, Queue},
    options::{ASSIGNMENT, Assignment, assignment},
};

/// The longest wait for an event: what nobody announces is seen after this time.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// While a revoke is not answered.
const REVOKE_WAIT: Duration = Duration::from_millis(5);
const DOWN: FaultKind = FaultKind::Unavailable(Why::Down);
/// How often the topic's identity is looked at, how long the answer may take, and when a look that was not answered at all is
/// given up.
const TOPIC_CHECK: Duration = Duration::from_secs(5);
const TOPIC_ANSWER: Duration = Duration::from_secs(3);
const TOPIC_CHECK_LIMIT: Duration = Duration::from_secs(20);
/// After an answer that could not be had.
const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(super) enum Ended {
    Closed,
    Fatal(Fault),
}

/// The one who owns the consumer. Never waits but in a poll.
pub(super) struct Reader {
    pub(super) doing: String,
    pub(super) spec: SourceSpec,
    pub(super) shared: Arc<Shared>,
    /// Before the consumer: a queue must not outlive its client.
    pub(super) queue: Queue,
    /// Of each partition; likewise.
    pub(super) queues: BTreeMap<i32, PartitionQueue>,
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) outbox: Outbox,
    pub(super) partitions: BTreeMap<i32, Partition>,
    /// Partitions for which something changed.
    pub(super) touched: BTreeSet<i32>,
    pub(super) assignment: Assignment,
    pub(super) revoke: Option<Revoke>,
    pub(super) commits: Commits,
    /// Something was handed out and is not known to be committed.
    pub(super) busy: bool,
    /// Reading is disturbed, and `next` has said so.
    pub(super) trouble: Option<FaultKind>,
    pub(super) questions: BTreeMap<i32, Question>,
    asking: bool,
    pub(super) topic: CString,
    /// Which topic of that name is read, once it is known.
    pub(super) topic_id: Option<(i64, i64)>,
    pub(super) check_topic_at: Instant,
    /// The last look at the topic had no answer, and no broker has been heard of since.
    topic_unanswered: bool,
    ask_at: Instant,
    /// Partitions that librdkafka gave up without a reason that could be found: read again at this time.
    again: Vec<(Instant, i32)>,
    lag_at: Instant,
}

impl Reader {
    pub(super) fn new(
        config: &ClientConfig,
        spec: &SourceSpec,
        doing: &str,
        shared: Arc<Shared>,
        outbox: Outbox,
    ) -> Result<Reader, Fault> {
        let failed = |error: KafkaError| classify::client_fault(&error, Scope::Cluster, doing);
        let consumer: BaseConsumer<Context> = config.create_with_context(Context).map_err(failed)?;
        consumer.subscribe(&[&spec.topic]).map_err(failed)?;
        let topic = CString::new(spec.topic.as_str()).map_err(|error| Fault::down(format!("{doing}: {error}")))?;
        let queue = || Queue::of_consumer(consumer.client()).ok_or_else(|| Fault::down("the consumer has no queue"));
        let own = queue()?;
        shared.inbox.attach(Some(queue()?));
        let now = Instant::now();
        let assignment = config.get(ASSIGNMENT).and_then(assignment).unwrap_or(Assignment::Cooperative);
        Ok(Reader {
            assignment,
            doing: doing.to_owned(),
            spec: spec.clone(),
            shared,
            queue: own,
            queues: BTreeMap::new(),
            consumer: Arc::new(consumer),
            outbox,
            partitions: BTreeMap::new(),
            touched: BTreeSet::new(),
            revoke: None,
            commits: Commits::new(spec.commit_interval),
            busy: false,
            trouble: None,
            questions: BTreeMap::new(),
            asking: false,
            topic,
            topic_id: None,
            check_topic_at: now,
            topic_unanswered: false,
            ask_at: now,
            again: Vec::new(),
            lag_at: now,
        })
    }

    pub(super) fn run(&mut self) -> Ended {
        loop {
            let requests = self.shared.inbox.take();
            if requests.close || self.outbox.abandoned() {
                self.close(requests);
                return Ended::Closed;
            }
            let now = Instant::now();
            self.apply(requests, now);
            self.advance_revoke(now);
            self.ask(now);
            self.commit_if_due(now);
            self.outbox.flush();
            self.serve();
            self.measure_lag(now);
            self.check_topic(now);
            if let Err(fault) = self.gather(self.wait(now)) {
                return Ended::Fatal(fault);
            }
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        let mut wait = LONGEST_WAIT;
        if self.revoke.is_some() {
            wait = wait.min(REVOKE_WAIT);
        }
        if (self.busy || self.commits.anybody_waits()) && !self.commits.under_way() {
            wait = wait.min(self.commits.due_in(now));
        }
        // At least a millisecond: zero would not wait at all.
        wait.max(Duration::from_millis(1))
    }

    fn apply(&mut self, requests: Requests, now: Instant) {
        for (id, from) in requests.starts {
            self.start(number(id), from);
        }
        for (id, credit) in requests.credits {
            if let Some(partition) = self.partitions.get_mut(&number(id)) {
                partition.credit = credit;
                self.touched.insert(number(id));
            }
        }
        self.touched.extend(requests.restarts.into_iter().map(number));
        for found in requests.found {
            self.learn(found, now);
        }
        if requests.room {
            self.touched.extend(self.partitions.keys());
        }
        self.commit_requests(requests.commits, now);
    }

    pub(super) fn commit_requests(&mut self, requests: Vec<CommitRequest>, now: Instant) {
        for request in requests {
            let left = request.partitions.into_iter().map(number);
            let left = left.filter_map(|id| Some((id, self.partitions.get(&id)?.tracker.commit_point()?)));
            self.commits.wait_for(left.collect(), request.answer, now);
        }
    }

    fn start(&mut self, id: i32, from: Option<Position>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if partition.tracker.ended() {
            return;
        }
        partition.credit = 0;
        match from {
            Some(position) => {
                if partition.handed_out {
                    partition.tracker.skip_to(position);
                }
                partition.begin_at(offset(position));
                self.touched.insert(id);
            }
            None if partition.fresh => {
                partition.begin_at(Offset::Beginning);
                self.touched.insert(id);
            }
            None => {
                partition.state = State::Beginning;
                self.questions.insert(id, Question::Begin);
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        let due: Vec<i32> = self.again.extract_if(.., |(at, _)| *at <= now).map(|(_, id)| id).collect();
        for id in due {
            if let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.state == State::Measuring) {
                partition.state = State::Reading;
                self.touched.insert(id);
            }
        }
        if self.asking || now < self.ask_at {
            return;
        }
        let Some(question) = self.questions.values().next().copied() else { return };
        let partitions: Vec<i32> =
            self.questions.iter().filter(|(_, asked)| **asked == question).map(|(id, _)| *id).collect();
        self.questions.retain(|_, asked| *asked != question);
        let (consumer, inbox) = (&self.consumer, &self.shared.inbox);
        match lookup::ask(consumer, inbox, &self.spec.topic, &self.spec.start, question, partitions.clone()) {
            Ok(()) => self.asking = true,
            Err(error) => {
                tracing::warn!(%error, "no thread for a question to the broker");
                self.questions.extend(partitions.into_iter().map(|id| (id, question)));
                self.ask_at = now + ASK_AGAIN;
            }
        }
    }

    fn learn(&mut self, found: Found, now: Instant) {
        self.asking = false;
        let answers = match found.answer {
            Ok(_) if found.question == Question::Reach => {
                (self.topic_unanswered, self.check_topic_at) = (false, now);
                return self.ask_topic(now);
            }
            Err(_) if found.question == Question::Reach => return self.check_topic_at = now + TOPIC_CHECK,
            Ok(answers) => answers,
            // It is asked again while nothing comes.
            Err(_) if found.question == Question::Held => return,
            Err(error) => {
                self.ask_at = now + ASK_AGAIN;
                self.questions.extend(found.partitions.into_iter().map(|id| (id, found.question)));
                let fault = classify::client_fault(&error, Scope::Cluster, &self.doing);
                return self.disturbed(fault);
            }
        };
        for id in found.partitions {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            match (partition.state, answers.get(&id)) {
                (State::Beginning, Some(Answer::Committed(offset))) => partition.begin_at(Offset::Offset(*offset)),
                (State::Beginning, Some(Answer::Earliest)) => partition.begin_at(Offset::Beginning),
                (State::Measuring, Some(Answer::Bounds(low, high))) => self.measured(id, *low, *high, now),
                // The end for those who read what is committed only.
                (State::Reading, Some(Answer::Bounds(_, stable))) if found.question == Question::Held => {
                    self.learn_held(id, *stable);
                }
                _ => continue,
            }
            self.touched.insert(id);
        }
    }

    /// The broker refused to read on and has `low` to `high`: says what is missing.
    fn measured(&mut self, id: i32, low: i64, high: i64, now: Instant) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        match partition.next {
            // The log is shorter than what was read of it: it is another log, and nothing of the old one may be compared
            // with it.
            Offset::Offset(wanted) if wanted > high && partition.handed_out => {
                tracing::warn!(partition = id, wanted, high, "{}: the offsets went back, a new log", self.doing);
                self.assign_anew(id);
            }
            Offset::Offset(wanted) if wanted < low || wanted > high => {
                partition.state = State::Standing;
                let at = |offset: i64| Position::Offset(offset.unsigned_abs());
                self.outbox.push(Ok(Event::Gap { partition: name(id), from: at(wanted), to: at(low) }));
            }
            _ => self.again.push((now + ASK_AGAIN, id)),
        }
    }

    /// An error event of the client.
    pub(super) fn failed(&mut self, event: &native::Event) -> Result<(), Fault> {
        let code = event.error().unwrap_or(Code::Unknown);
        if code == Code::AutoOffsetReset {
            if let Some(id) = event.place().map(|place| place.partition) {
                self.refused_to_read(id);
            }
            return Ok(());
        }
        let fault = classify::fault(code, Scope::Cluster, &self.doing, &event.text());
        if event.is_fatal() || code == Code::Fatal {
            return Err(fault);
        }
        self.disturbed(fault);
        Ok(())
    }

    fn refused_to_read(&mut self, id: i32) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        // Whatever the state, librdkafka reads this partition no longer until it is assigned again.
        partition.stopped = true;
        partition.paused = true;
        if partition.state == State::Reading {
            partition.state = State::Measuring;
            self.questions.insert(id, Question::Bounds);
        }
    }

    pub(super) fn disturbed(&mut self, fault: Fault) {
        // That nothing is reachable follows on everything else, in several wordings, and says nothing new.
        let old = self.trouble.as_ref().is_some_and(|known| *known == fault.kind || fault.kind == DOWN);
        if !old {
            self.trouble = Some(fault.kind.clone());
            self.outbox.push(Err(fault));
        }
    }

    pub(super) fn fine(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("{}: works again", self.doing);
        }
    }

    /// Not asked unless a broker answers something simpler, where there is reason to doubt that: while a question like this one
    /// waits for a broker that is down, librdkafka (2.12.1, `rd_kafka_broker_get_async`) connects again with each attempt
    /// that fails, some ten thousand times a second, whatever its back-off is.
    fn check_topic(&mut self, now: Instant) {
        if now < self.check_topic_at {
            return;
        }
        if self.trouble.is_none() && !self.topic_unanswered {
            return self.ask_topic(now);
        }
        self.check_topic_at = now + TOPIC_CHECK;
        if !self.asking {
            let (consumer, inbox) = (&self.consumer, &self.shared.inbox);
            let asked = lookup::ask(consumer, inbox, &self.spec.topic, &self.spec.start, Question::Reach, Vec::new());
            self.asking = asked.is_ok();
        }
    }

    fn ask_topic(&mut self, now: Instant) {
        self.check_topic_at = now + TOPIC_CHECK_LIMIT;
        self.queue.ask_topic(self.consumer.client(), &self.topic, TOPIC_ANSWER);
    }

    /// A topic that was deleted and made again under its name is another log, also where it has grown past the place of
    /// reading already; librdkafka would read on there.
    pub(super) fn topic_is(&mut self, id: Option<(i64, i64)>) {
        self.check_topic_at = Instant::now() + TOPIC_CHECK;
        self.topic_unanswered = id.is_none();
        let Some(id) = id else { return };
        if self.topic_id.replace(id).is_none_or(|known| known == id) {
            return;
        }
        tracing::warn!("{}: the topic was made anew and is read from its beginning", self.doing);
        let ours: Vec<i32> =
            self.partitions.iter().filter(|(_, partition)| !partition.tracker.ended()).map(|(id, _)| *id).collect();
        ours.into_iter().for_each(|id| self.assign_anew(id));
    }

    fn measure_lag(&mut self, now: Instant) {
        if now < self.lag_at {
            return;
        }
        self.lag_at = now + LONGEST_WAIT;
        self.look_for_held(now);
        let lag = self.partitions.iter().filter_map(|(id, partition)| {
            let end = native::known_end(self.consumer.client(), &self.topic, *id)?;
            let at = match partition.tracker.commit_point() {
                Some(position) => super::partition::after(position),
                None => partition.committed,
            };
            let Offset::Offset(at) = at else { return None };
            Some(Lag { partition: name(*id), behind: u64::try_from(end - at).unwrap_or(0), unit: "messages" })
        });
        let lag = lag.collect();
        *self.shared.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }
}

pub(super) fn number(id: PartitionId) -> i32 {
    i32::try_from(id.0).unwrap_or(i32::MAX)
}

pub(super) fn name(id: i32) -> PartitionId {
    PartitionId(id.unsigned_abs())
}
