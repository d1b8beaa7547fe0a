//! What the tests of the connector have in common.

use std::{
    collections::BTreeMap,
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use tokio::time::{sleep, timeout};
use trestle_core::{
    Connector, Ensure, Event, Fault, Headers, Lane, Message, PartitionId, Sink, Source, SourceControl, SourceSpec,
};
use trestle_integration::{Brokers, RocketMq, until};

pub use crate::parts::*;

/// The shared broker's name server, or one started by hand and named by `$ROCKETMQ_NAMESRV`.
pub async fn namesrv() -> Result<String> {
    match env::var("ROCKETMQ_NAMESRV") {
        Ok(namesrv) => Ok(namesrv),
        Err(_) => Ok(Brokers::shared().await?.rocketmq.namesrv.clone()),
    }
}

pub fn connector(namesrv: &str) -> Result<Arc<dyn Connector>> {
    let settings = serde_json::from_value(serde_json::json!({"namesrv": namesrv}))?;
    trestle_rocketmq::connector("billing", settings).map_err(|wrong| anyhow!(wrong))
}

/// A topic of the test's own, with `queues` queues.
pub async fn topic(connector: &Arc<dyn Connector>, what: &str, queues: u32) -> Result<String> {
    let topic = &unique(what);
    // Right after a start name server and broker may leave a request unanswered; a route asks again, too.
    until("the topic is made", SOON, || async {
        connector.ensure(topic, Ensure { partitions: queues, durable: None }).await?;
        Ok(Some(topic.clone()))
    })
    .await
}

/// A source that looks for other members more often than it would by itself.
pub fn quick_spec(topic: &str, group: &str) -> SourceSpec {
    SourceSpec { options: BTreeMap::from([("rebalanceInterval".into(), "2000".into())]), ..source_spec(topic, group) }
}

pub fn numbered(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(|number| message(number.to_string())).collect()
}

pub fn number(message: &Message) -> Result<u64> {
    Ok(std::str::from_utf8(message.value.as_deref().context("no value")?)?.parse()?)
}

/// Sends until it is stored, as a pipeline does: after a failure only once a probe says that it may work.
pub async fn send_until_stored(
    sink: &Arc<dyn Sink>,
    lane: &mut Box<dyn Lane>,
    partition: u32,
    messages: Vec<Message>,
) -> Result<()> {
    let begin = Instant::now();
    loop {
        let sent = lane.send(unit(messages.clone())).await;
        if all_stored(&sent) {
            return Ok(());
        }
        while sink.probe(PartitionId(partition)).await.is_err() {
            anyhow::ensure!(begin.elapsed() < SOON * 2, "never stored: {sent:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Numbered messages in each of the topic's queues, `count` in all.
pub async fn fill(connector: &Arc<dyn Connector>, topic: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    let sink = connector.sink(sink_spec(topic)).await?;
    let queues = u64::from(sink.partitions());
    for queue in 0..queues {
        let mut lane = lane(&sink, queue as u32).await?;
        let mine: Vec<u64> = numbers.clone().filter(|number| number % queues == queue).collect();
        for numbers in mine.chunks(500) {
            store(&mut *lane, numbers.iter().map(|n| message(n.to_string())).collect()).await?;
        }
    }
    Ok(())
}

/// A source with its control.
pub struct Member {
    pub source: Box<dyn Source>,
    pub control: Arc<dyn SourceControl>,
    pub held: Vec<PartitionId>,
    /// Faults that `next` answered, in passing.
    pub faults: Vec<Fault>,
}

impl Member {
    pub async fn join(connector: &Arc<dyn Connector>, spec: SourceSpec) -> Result<Member> {
        // A name server on a busy machine may not answer at once; whoever runs a source tries again.
        let joins = || async { Ok(Some(connector.source(spec.clone()).await?)) };
        let (source, control) = until("a member joins", Duration::from_secs(30), joins).await?;
        Ok(Member { source, control, held: Vec::new(), faults: Vec::new() })
    }

    /// The next event, if one comes in time. Starts what is assigned; faults are kept and passed over.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Event>> {
        let deadline = Instant::now() + wait;
        loop {
            match timeout(deadline.saturating_duration_since(Instant::now()), self.source.next()).await {
                Err(_) => return Ok(None),
                Ok(Err(fault)) => self.faults.push(fault),
                Ok(Ok(event)) => {
                    match &event {
                        Event::Assigned(trackers) => {
                            for tracker in trackers {
                                self.control.start(tracker.partition(), None);
                                self.control.credit(tracker.partition(), PLENTY);
                                self.held.push(tracker.partition());
                            }
                        }
                        Event::Revoked { partitions, .. } => self.held.retain(|p| !partitions.contains(p)),
                        _ => {}
                    }
                    return Ok(Some(event));
                }
            }
        }
    }

    /// Reads and settles until `count` messages came.
    pub async fn read(&mut self, count: usize) -> Result<Vec<(PartitionId, Message)>> {
        let mut read = Vec::new();
        while read.len() < count {
            let next = self.next(SOON).await?;
            match next.with_context(|| format!("{} of {count} came; faults: {:?}", read.len(), self.faults))? {
                Event::Batch(batch) => {
                    read.extend(batch.messages.iter().map(|m| (batch.partition, m.clone())));
                    batch.ack.settle(0..batch.messages.len() as u32);
                }
                Event::Held { .. } => bail!("RocketMQ holds nothing back"),
                Event::Gap { partition, from, to } => bail!("a gap in {partition} from {from} to {to}"),
                Event::Assigned(_) | Event::Revoked { .. } => {}
            }
        }
        Ok(read)
    }

    /// Reads and settles until nothing comes for `quiet`.
    pub async fn drain(&mut self, quiet: Duration, numbers: &mut Vec<u64>) -> Result<()> {
        while let Some(event) = self.next(quiet).await? {
            if let Event::Batch(batch) = event {
                for message in &batch.messages {
                    numbers.push(number(message)?);
                }
                batch.ack.settle(0..batch.messages.len() as u32);
            }
        }
        Ok(())
    }
}

/// The shared broker itself, for what its own client or its administrator does.
pub async fn broker() -> Result<&'static RocketMq> {
    Ok(&Brokers::shared().await?.rocketmq)
}

pub fn options<const N: usize>(options: [(&str, &str); N]) -> BTreeMap<String, String> {
    options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub fn headers(list: &[(&[u8], Option<&[u8]>)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in list {
        headers.push(Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice));
    }
    headers
}

/// As text, for messages that have nothing else.
pub fn values(read: &[(PartitionId, Message)]) -> Vec<String> {
    read.iter().map(|(_, m)| String::from_utf8_lossy(m.value.as_deref().unwrap_or_default()).into_owned()).collect()
}

/// A message as RocketMQ's own client shows it; see `RocketMqClient.java`.
#[derive(Debug)]
pub struct Native {
    pub body: String,
    pub keys: String,
    pub tag: String,
    pub group: String,
    pub level: String,
    pub deliver_at: i64,
    pub stored_at: i64,
}

/// Reads `count` messages with RocketMQ's own client.
pub async fn native(topic: &str, count: usize, tags: &str) -> Result<Vec<Native>> {
    let lines = broker().await?.native(&["read", topic, &unique("native"), &count.to_string(), tags]).await?;
    let fields = lines.iter().map(|line| line.split('\t').collect::<Vec<_>>());
    fields
        .filter_map(|fields| match fields[..] {
            [body, keys, tag, group, level, deliver_at, stored_at] => {
                let [body, keys, tag, group, level] = [body, keys, tag, group, level].map(str::to_owned);
                let times = deliver_at.parse().and_then(|at| Ok((at, stored_at.parse()?)));
                Some(times.map_err(Into::into).map(|(deliver_at, stored_at)| Native {
                    body,
                    keys,
                    tag,
                    group,
                    level,
                    deliver_at,
                    stored_at,
                }))
            }
            // What the client logs.
            _ => None,
        })
        .collect()
}
