//! Writes a topic through the proxy: one partition, one message at a time.

use std::sync::Arc;

use tokio::sync::Mutex;
use trestle_core::{
    BoxFuture, Fault, Guarantee, Lane, LaneKey, Limits, Outcome, PartitionId, Sent, Sink, SinkSpec, Slice, Why,
};

use super::{
    classify,
    link::{Link, Target},
    message::{Outgoing, outgoing},
};
use crate::{
    sink_options::SinkOptions,
    stamp::{DEFAULT_LEVELS, Stamps},
};

/// Messages go one by one, so that large units would gain nothing.
const UNIT_MESSAGES: usize = 64;
const UNIT_BYTES: usize = 1 << 20;

struct ProxySink {
    topic: Arc<Topic>,
}

struct Topic {
    target: Target,
    stamps: Stamps,
    guarantee: Guarantee,
}

/// The target's limit is the route's `send_timeout`.
pub async fn open(target: Target, spec: SinkSpec) -> Result<Arc<dyn Sink>, Fault> {
    let wrong = |problem: String| Fault::unavailable(Why::Down, format!("{target}: options: {problem}"));
    let options = SinkOptions::read(&spec.options).map_err(|all| {
        let all: Vec<String> = all.into_iter().map(|wrong| wrong.problem).collect();
        wrong(all.join("; "))
    })?;
    if options.deliver_at.is_some() || options.delay_level.is_some() {
        // The client knows whole seconds, and no levels.
        return Err(wrong("deliverAt and delayLevel are not offered through a gRPC proxy".into()));
    }
    Link::open(target.clone()).await?.close().await;
    let stamps = Stamps { options, route: spec.route, levels: DEFAULT_LEVELS };
    Ok(Arc::new(ProxySink { topic: Arc::new(Topic { target, stamps, guarantee: spec.guarantee }) }))
}

impl Sink for ProxySink {
    fn limits(&self) -> Limits {
        Limits { unit_messages: UNIT_MESSAGES, unit_bytes: UNIT_BYTES }
    }

    fn partitions(&self) -> u32 {
        1
    }

    fn place(&self, _key: &[u8]) -> PartitionId {
        PartitionId(0)
    }

    /// The proxy answers a new client, and knows the topic.
    fn probe(&self, _partition: PartitionId) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move { Link::open(self.topic.target.clone()).await.map(drop) })
    }

    fn lane(&self, key: LaneKey) -> BoxFuture<'_, Result<Box<dyn Lane>, Fault>> {
        let lane = match key.target {
            PartitionId(0) => {
                Ok(Box::new(ProxyLane { topic: self.topic.clone(), link: Arc::default() }) as Box<dyn Lane>)
            }
            other => Err(Fault::down(format!("{}: no partition {other}", self.topic.target))),
        };
        Box::pin(std::future::ready(lane))
    }
}

struct ProxyLane {
    topic: Arc<Topic>,
    /// None before the first send, and after a failure.
    link: Arc<Mutex<Option<Link>>>,
}

impl Lane for ProxyLane {
    fn window(&self) -> usize {
        1
    }

    fn send(&mut self, unit: Vec<Slice>) -> BoxFuture<'static, Sent> {
        let (topic, link) = (self.topic.clone(), self.link.clone());
        Box::pin(async move { topic.send(&mut *link.lock().await, unit).await })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some(link) = self.link.lock().await.take() {
                link.close().await;
            }
        })
    }
}

impl Topic {
    async fn send(&self, slot: &mut Option<Link>, unit: Vec<Slice>) -> Sent {
        let messages = unit.iter().map(Slice::len).sum();
        let (mut left, refused) = self.translate(&unit);
        let mut stored = 0;
        // More than once only where a broker stored a message less safely, and that is good enough.
        while !left.is_empty() {
            // Out of its slot while it sends: dropped with this future, it takes its copies with it.
            let link = match slot.take() {
                Some(link) => link,
                None => match Link::open(self.target.clone()).await {
                    Ok(link) => link,
                    Err(fault) => return failed(stored, Outcome::Refused(fault), messages),
                },
            };
            let behind = if self.guarantee == Guarantee::Accepted { left.clone() } else { Vec::new() };
            let sends = link.send(left).await;
            stored += sends.stored;
            left = match &sends.failure {
                None => {
                    *slot = Some(link);
                    Vec::new()
                }
                Some(failure) => match classify::sent(failure, self.guarantee, &self.target.to_string()) {
                    Some(outcome) => return failed(stored, outcome, messages),
                    None => {
                        stored += 1;
                        behind.into_iter().skip(sends.stored + 1).collect()
                    }
                },
            };
        }
        match refused {
            None => Sent::stored(messages),
            Some(mut fault) => {
                fault.detail = format!("{}: {}", self.target, fault.detail);
                Sent::refused_at(stored, fault, messages)
            }
        }
    }

    /// Up to the first message that no proxy would take, and the fault of that one.
    fn translate(&self, unit: &[Slice]) -> (Vec<Outgoing>, Option<Fault>) {
        let mut all = Vec::new();
        for slice in unit {
            for message in slice.iter() {
                match outgoing(message, slice.batch().partition, &self.stamps) {
                    Ok(message) => all.push(message),
                    Err(fault) => return (all, Some(fault)),
                }
            }
        }
        (all, None)
    }
}

fn failed(stored: usize, outcome: Outcome, messages: usize) -> Sent {
    let mut sent = Sent::default();
    sent.push(stored, Outcome::Stored);
    sent.push(1, outcome);
    sent.push(messages.saturating_sub(stored + 1), Outcome::NotSent);
    sent
}
