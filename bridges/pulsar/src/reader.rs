//! Reads a topic without a subscription that stays: each partition has a non-durable one, which the broker forgets with its
//! consumer.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pulsar::message::proto::{
    CommandGetLastMessageId, CommandSubscribe, MessageIdData, base_command::Type, command_subscribe::SubType,
};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use trestle_core::{
    Cause, Excerpt, Fault, Message, PartitionId, Position, Progress, ReadFrom, Reader, ReaderSpec, TaskReader,
};

use crate::{
    batch::{self, EntryId},
    chunks::{Chunks, Taken},
    classify,
    cluster::Cluster,
    connection::{Connection, ConsumerEvent, RequestError, command},
    pool::Use,
    schema::{self, Known},
    source::{
        flow::{Flow, permits},
        options::{RECEIVER_QUEUE_MOST, illegal},
        unique_name,
    },
    topic::Topic,
};

const WAITING: usize = 2;
/// Room for all that permits allow, and for what is said beside it: reading the connection never waits for a partition.
const EVENTS: usize = RECEIVER_QUEUE_MOST as usize + 24;
/// However many partitions share the buffer, each may ask for this much at a time.
const LEAST_CREDIT: u64 = 64 << 10;
const RETRY: Duration = Duration::from_secs(1);
/// What brokers take for the beginning of a topic, and say for the last message of an empty one: -1.
const NOWHERE: u64 = u64::MAX;

pub(crate) async fn open(cluster: Arc<Cluster>, spec: ReaderSpec) -> Result<Box<dyn Reader>, Fault> {
    let topic = Topic::of(&spec.topic)?;
    let keep_schemas = schema::option(spec.options.get(schema::OPTION), "keep").map_err(illegal)?;
    let partitions = cluster.partitions_of(&topic).await?;
    let count = partitions.max(1);
    let (progress, heard) = mpsc::channel(WAITING);
    let name = unique_name("trestle-reader");
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let mut reading = Reading {
            cluster: cluster.clone(),
            topic: topic.partition(index, partitions > 0),
            name: name.clone(),
            partition: PartitionId(index),
            from: spec.from,
            credit: (spec.buffer_bytes as u64 / u64::from(count)).max(LEAST_CREDIT),
            largest_message: spec.largest_message,
            schemas: Known::new(keep_schemas),
            end: spec.follow.then_some(End::Never),
            resume: None,
            last: None,
            told: false,
            progress: progress.clone(),
        };
        // The end of all partitions is found before anything is read.
        let consumer = reading.subscribe().await?;
        tasks.spawn(reading.run(consumer));
    }
    Ok(Box::new(TaskReader::new(heard, count as usize, tasks)))
}

struct Reading {
    cluster: Arc<Cluster>,
    /// The full name, of one partition.
    topic: String,
    name: String,
    partition: PartitionId,
    from: ReadFrom,
    /// Bytes to ask for at a time.
    credit: u64,
    largest_message: usize,
    schemas: Known,
    /// Known once it was asked for.
    end: Option<End>,
    /// The last entry behind which nothing is open: a new consumer begins behind it.
    resume: Option<EntryId>,
    /// The last message that was handed out.
    last: Option<Position>,
    /// The fault that lasts was told.
    told: bool,
    progress: mpsc::Sender<Progress>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Reached,
    At(EntryId),
    Never,
}

struct Consumer {
    connection: Connection,
    events: mpsc::Receiver<ConsumerEvent>,
    id: u64,
}

impl Reading {
    async fn run(mut self, first: Consumer) {
        let mut consumer = Some(first);
        while self.end != Some(End::Reached) {
            let read = match consumer.take() {
                Some(consumer) => self.read(consumer).await,
                None => match self.subscribe().await {
                    Ok(found) => {
                        consumer = Some(found);
                        continue;
                    }
                    Err(fault) => Err(fault),
                },
            };
            if let Err(fault) = read {
                if !std::mem::replace(&mut self.told, true) {
                    self.say(Progress::Disturbed(fault)).await;
                }
                sleep(RETRY).await;
            }
        }
        self.say(Progress::Ended).await;
    }

    /// Whoever reads ends this task when nobody hears it.
    async fn say(&self, progress: Progress) {
        let _ = self.progress.send(progress).await;
    }

    fn fault(&self, error: &RequestError) -> Fault {
        classify::fault(format!("reading {} on cluster {}", self.topic, self.cluster.name), error)
    }

    async fn subscribe(&mut self) -> Result<Consumer, Fault> {
        let connection = self.cluster.connect(&self.topic, Use::Consume(0)).await?;
        let id = connection.next_id();
        let events = connection.consumer(id, EVENTS).map_err(|error| self.fault(&error))?;
        let (start_message_id, rollback) = self.start();
        let subscribe = |request_id| {
            let mut subscribe = command(Type::Subscribe);
            subscribe.subscribe = Some(CommandSubscribe {
                topic: self.topic.clone(),
                subscription: self.name.clone(),
                sub_type: SubType::Exclusive as i32,
                consumer_id: id,
                request_id,
                consumer_name: Some(self.name.clone()),
                durable: Some(false),
                start_message_id,
                start_message_rollback_duration_sec: rollback,
                // A name that is not there is a mistake, and not a topic to create.
                force_topic_creation: Some(false),
                ..Default::default()
            });
            subscribe
        };
        connection.request(subscribe).await.map_err(|error| self.fault(&error))?;
        if self.end.is_none() {
            self.end = Some(self.find_end(&connection, id).await.map_err(|error| self.fault(&error))?);
        }
        Ok(Consumer { connection, events, id })
    }

    /// The message behind which to begin, or how many seconds ago; neither is the end of the topic.
    fn start(&self) -> (Option<MessageIdData>, Option<u64>) {
        if let Some(resume) = self.resume {
            return (Some(resume.message_id()), None);
        }
        match self.from {
            ReadFrom::Earliest => (Some(EntryId { ledger: NOWHERE, entry: NOWHERE }.message_id()), None),
            ReadFrom::Time(time) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
                let seconds = u64::try_from(now.saturating_sub(time)).ok().map(|ms| ms.div_ceil(1000).max(1));
                (None, seconds)
            }
        }
    }

    async fn find_end(&self, connection: &Connection, consumer_id: u64) -> Result<End, RequestError> {
        let ask = |request_id| {
            let mut ask = command(Type::GetLastMessageId);
            ask.get_last_message_id = Some(CommandGetLastMessageId { consumer_id, request_id });
            ask
        };
        let answer = connection.request(ask).await?.get_last_message_id_response;
        let Some(answer) = answer else { return Ok(End::Reached) };
        let last = EntryId::named(&answer.last_message_id);
        // Everything up to here is behind the place where reading begins.
        let behind = answer.consumer_mark_delete_position.map(|id| EntryId::named(&id));
        let before = behind.filter(|behind| behind.entry != NOWHERE).is_some_and(|behind| behind >= last);
        Ok(if last.entry == NOWHERE || before { End::Reached } else { End::At(last) })
    }

    /// Reads until the end, or until the consumer is lost.
    async fn read(&mut self, mut consumer: Consumer) -> Result<(), Fault> {
        let (mut flow, mut chunks) = (Flow::new(None), Chunks::default());
        let floor = self.last;
        while self.end != Some(End::Reached) {
            flow.grant(self.credit);
            if let Some(permits) = flow.due() {
                consumer.connection.flow(consumer.id, permits).await.map_err(|error| self.fault(&error))?;
            }
            let event = consumer.events.recv().await;
            let Some(ConsumerEvent::Message(message, payload)) = event else {
                match event {
                    Some(ConsumerEvent::Closed) => return Ok(()),
                    Some(_) => continue,
                    None => return Err(self.fault(&consumer.connection.lost())),
                }
            };
            flow.arrived(permits(&message, &payload));
            let (connection, topic) = (&consumer.connection, &self.topic);
            if let Err(error) = self.schemas.learn(connection, topic, &payload).await {
                return Err(self.fault(&error));
            }
            let id = EntryId::named(&message.message_id);
            let (given_up, taken) = chunks.take(id, payload, self.largest_message);
            let mut messages: Vec<Message> = given_up.into_iter().map(|gone| gone.message).collect();
            messages.extend(match taken {
                Taken::Entry { payload, .. } => {
                    let schema = self.schemas.header(&payload);
                    batch::unpack(id, payload, &message.ack_set, schema, self.largest_message).messages
                }
                Taken::Broken { detail, raw, .. } => batch::defect(id, Cause::Untranslatable, detail, raw, 1).messages,
                Taken::Open { .. } | Taken::Repeated => Vec::new(),
            });
            flow.measure(messages.iter().map(Message::size).sum());
            messages.retain(|message| floor.is_none_or(|floor| message.position > floor));
            if chunks.is_whole() {
                self.resume = Some(id);
            }
            self.told = false;
            if let Some(last) = messages.last() {
                self.last = Some(last.position);
                self.say(Progress::Read(Excerpt { partition: self.partition, messages })).await;
            }
            if matches!(self.end, Some(End::At(end)) if id >= end) {
                self.end = Some(End::Reached);
            }
        }
        // Left alone, the broker closes it with the connection.
        let _ = consumer.connection.close_consumer(consumer.id).await;
        Ok(())
    }
}
