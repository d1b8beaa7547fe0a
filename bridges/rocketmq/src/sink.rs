//! Writes a topic: one unit in flight a queue, several queues side by side.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use trestle_core::{
    BoxFuture, Fault, FaultKind, Guarantee, Lane, LaneKey, Limits, Outcome, PartitionId, Sent, Sink, SinkSpec, Slice,
    Why,
};

use crate::{
    classify,
    client::{BrokerRuntime, Client, Routes},
    queues::Queues,
    remoting::{Abandoned, Answer, Request, codes::request},
    route::Queue,
    sink_options::SinkOptions,
    stamp::{DEFAULT_LEVELS, Stamps},
    unit::{self, Sizes},
};

/// How often the topic is looked at for new queues, unless a probe looks first.
const GROWTH_INTERVAL: Duration = Duration::from_secs(10);
const UNIT_MESSAGES: usize = 500;
const UNIT_BYTES: usize = 1 << 20;
/// RocketMQ wants one; nothing hangs on it for messages without transactions.
const PRODUCER_GROUP: &str = "trestle";

pub struct RocketMqSink {
    topic: Arc<Topic>,
    growth: tokio::task::JoinHandle<()>,
}

struct Topic {
    client: Client,
    name: String,
    routes: Routes,
    queues: RwLock<Queues>,
    sizes: Sizes,
    stamps: Stamps,
    guarantee: Guarantee,
    send_timeout: Duration,
}

pub async fn open(client: Client, spec: SinkSpec) -> Result<Arc<dyn Sink>, Fault> {
    let options = SinkOptions::read(&spec.options).map_err(|wrong| {
        let wrong: Vec<String> = wrong.into_iter().map(|wrong| wrong.problem).collect();
        Fault::unavailable(Why::Down, format!("{}: options: {}", client.at(&spec.topic), wrong.join("; ")))
    })?;
    let route = client.route(&spec.topic).await?;
    let mut queues = Queues::default();
    queues.grow(route.writable());
    if queues.len() == 0 {
        return Err(Fault::down(format!("{}: no queue that can be written", client.at(&spec.topic))));
    }
    let (mut max_message_size, mut levels, mut cluster) = (None, None, "");
    for (broker, address) in route.masters() {
        if let Some(config) = client.broker_config(address).await {
            max_message_size = lower(max_message_size, config.number("maxMessageSize"));
            let broker_levels = config.text("messageDelayLevel").map(|levels| levels.split_whitespace().count() as i64);
            levels = lower(levels, broker_levels);
            if options.deliver_at.is_some() && config.text("timerWheelEnable") == Some("false") {
                let problem = "deliverAt needs its timer, which is off (timerWheelEnable)";
                let about = client.at(&spec.topic);
                return Err(Fault::unavailable(Why::Down, format!("{about}: broker {broker}: {problem}")));
            }
        }
        cluster = route.cluster_of(broker).filter(|name| name.len() > cluster.len()).unwrap_or(cluster);
    }
    let topic = Arc::new(Topic {
        sizes: Sizes::new(max_message_size, cluster),
        stamps: Stamps { options, route: spec.route, levels: levels.unwrap_or(DEFAULT_LEVELS) },
        routes: Routes::new(&spec.topic, route.clone()),
        queues: RwLock::new(queues),
        guarantee: spec.guarantee,
        send_timeout: spec.send_timeout,
        name: spec.topic,
        client,
    });
    let growth = tokio::spawn(watch(topic.clone()));
    Ok(Arc::new(RocketMqSink { topic, growth }))
}

/// The lower of those that are known.
fn lower<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Sink for RocketMqSink {
    fn limits(&self) -> Limits {
        Limits { unit_messages: UNIT_MESSAGES, unit_bytes: UNIT_BYTES }
    }

    fn partitions(&self) -> u32 {
        self.topic.queues().len()
    }

    fn place(&self, key: &[u8]) -> PartitionId {
        self.topic.queues().place(key)
    }

    fn probe(&self, partition: PartitionId) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let queue = self.topic.queue(partition)?;
            let limit = self.topic.send_timeout;
            match tokio::time::timeout(limit, self.topic.probe(&queue)).await {
                Ok(result) => result,
                Err(_) => {
                    Err(Fault::timeout(format!("{}: no answer to a probe in {limit:?}", self.topic.about(&queue))))
                }
            }
        })
    }

    fn lane(&self, key: LaneKey) -> BoxFuture<'_, Result<Box<dyn Lane>, Fault>> {
        Box::pin(async move {
            let queue = self.topic.queue(key.target)?;
            Ok(Box::new(RocketMqLane { topic: self.topic.clone(), queue }) as Box<dyn Lane>)
        })
    }
}

impl Drop for RocketMqSink {
    fn drop(&mut self) {
        self.growth.abort();
    }
}

struct RocketMqLane {
    topic: Arc<Topic>,
    queue: Queue,
}

impl Lane for RocketMqLane {
    /// A queue keeps the order of arrival, and only one unit in flight is sure to arrive before the next.
    fn window(&self) -> usize {
        1
    }

    fn send(&mut self, unit: Vec<Slice>) -> BoxFuture<'static, Sent> {
        let (topic, queue) = (self.topic.clone(), self.queue.clone());
        Box::pin(async move { topic.send(&queue, unit).await })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Grows the queue list for as long as the sink lives.
async fn watch(topic: Arc<Topic>) {
    let mut ticks = tokio::time::interval(GROWTH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        // What is wrong shows where messages are sent; here the old list does.
        let _ = topic.refresh().await;
    }
}

impl Topic {
    async fn send(&self, queue: &Queue, unit: Vec<Slice>) -> Sent {
        let messages = unit.iter().map(Slice::len).sum();
        let (requests, refused) = unit::requests(&unit, self.sizes, &self.stamps);
        let mut stored = 0;
        for request in requests {
            let count = request.messages;
            if let Err(outcome) = self.send_request(queue, request).await {
                let mut sent = Sent::default();
                sent.push(stored, Outcome::Stored);
                sent.push(count, outcome);
                sent.push(messages - stored - count, Outcome::NotSent);
                return sent;
            }
            stored += count;
        }
        match refused {
            Some(mut fault) => {
                fault.detail = format!("{}: {}", self.about(queue), fault.detail);
                Sent::refused_at(stored, fault, messages)
            }
            None => Sent::stored(stored),
        }
    }

    async fn send_request(&self, queue: &Queue, unit: unit::Request) -> Result<(), Outcome> {
        let Some(address) = self.routes.master(&queue.broker) else {
            return Err(Outcome::Refused(self.no_master(queue)));
        };
        let request = self.request(queue, unit.body, unit.single);
        // Closing the connection at a timeout discards the copy: it cannot be stored after a later send.
        let result = self.client.pool.call(&address, request, self.send_timeout, Abandoned::Close).await;
        classify::sent(result, unit.messages, self.guarantee, &self.about(queue))
    }

    /// Fields of `SendMessageRequestHeaderV2.java`.
    fn request(&self, queue: &Queue, body: Bytes, single: Option<Bytes>) -> Request {
        let code = if single.is_some() { request::SEND_MESSAGE_V2 } else { request::SEND_BATCH_MESSAGE };
        let properties = single.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        Request::new(code)
            .field("a", PRODUCER_GROUP)
            .field("b", &self.name)
            // The topic after which a missing one would be modelled: none, so that none is created by sending.
            .field("c", "")
            .field("d", 0)
            .field("e", queue.id)
            .field("f", 0)
            .field("g", now_millis())
            .field("h", 0)
            .field("i", properties)
            .field("j", 0)
            .field("k", false)
            .field("m", single.is_none())
            .field("n", &queue.broker)
            .body(body)
    }

    /// The queue's broker answers, and its send threads are not stuck.
    async fn probe(&self, queue: &Queue) -> Result<(), Fault> {
        let known = self.routes.master(&queue.broker);
        let first = match &known {
            Some(address) => self.check(address, queue).await,
            None => Err(self.no_master(queue)),
        };
        let Err(fault) = first else { return Ok(()) };
        // It may have moved, or another broker has become the master.
        self.refresh().await?;
        match self.routes.master(&queue.broker) {
            Some(address) if known.as_ref() != Some(&address) => self.check(&address, queue).await,
            _ => Err(fault),
        }
    }

    async fn check(&self, address: &str, queue: &Queue) -> Result<(), Fault> {
        let (about, limit) = (self.about(queue), self.send_timeout);
        let request = Request::new(request::GET_MAX_OFFSET).field("topic", &self.name).field("queueId", queue.id);
        forbidden(self.client.ask(address, request.field("n", &queue.broker), limit, &about).await)?;
        let info = Request::new(request::GET_BROKER_RUNTIME_INFO);
        let info = forbidden(self.client.ask(address, info, limit, &about).await)?.map(|answer| answer.body);
        let waited = send_queue_wait(&info.unwrap_or_default());
        if waited > limit {
            return Err(Fault::down(format!("{about}: sends wait for {waited:?} at the broker")));
        }
        Ok(())
    }

    async fn refresh(&self) -> Result<(), Fault> {
        let now = self.routes.refresh(&self.client).await?;
        let added = self.queues.write().unwrap_or_else(PoisonError::into_inner).grow(now.writable());
        if added > 0 {
            tracing::info!(cluster = self.client.cluster, topic = self.name, added, "the topic has more queues");
        }
        Ok(())
    }

    fn queues(&self) -> std::sync::RwLockReadGuard<'_, Queues> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self, partition: PartitionId) -> Result<Queue, Fault> {
        let unknown = || Fault::down(format!("{}: no queue {partition}", self.client.at(&self.name)));
        self.queues().get(partition).cloned().ok_or_else(unknown)
    }

    fn no_master(&self, queue: &Queue) -> Fault {
        Fault::down(format!("{}: the broker has no master", self.about(queue)))
    }

    fn about(&self, queue: &Queue) -> String {
        format!("{}, broker {} queue {}", self.client.at(&self.name), queue.broker, queue.id)
    }
}

/// Who may write a topic need not have the right to ask about it: a broker that says so is alive, and the next send shows
/// the rest.
fn forbidden(result: Result<Answer, Fault>) -> Result<Option<Answer>, Fault> {
    match result {
        Err(fault) if fault.kind == FaultKind::Unavailable(Why::Permission) => Ok(None),
        other => other.map(Some),
    }
}

/// How long the oldest send has waited for a thread: `sendThreadPoolQueueHeadWaitTimeMills`, text in a table.
fn send_queue_wait(runtime_info: &[u8]) -> Duration {
    let millis = BrokerRuntime::parse(runtime_info).number("sendThreadPoolQueueHeadWaitTimeMills");
    Duration::from_millis(millis.unwrap_or(0))
}

fn now_millis() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
