//! Topics of the three protocols on the shared brokers: made, written and read by the connectors themselves.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use trestle_core::{Connector, Durable, Ensure, LaneKey, Message, Outcome, PartitionId, ReadFrom, ReaderSpec, Sink};
use trestle_integration::{Brokers, create_kafka_topic, until};

use super::nasty::header_bytes;
use crate::parts;

const SOON: Duration = parts::SOON;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Kafka,
    Pulsar,
    RocketMq,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Kafka, Protocol::Pulsar, Protocol::RocketMq];

    /// Of the cluster in the route table.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Kafka => "kafka",
            Protocol::Pulsar => "pulsar",
            Protocol::RocketMq => "rocketmq",
        }
    }

    pub fn topic(self, name: &str) -> Topic {
        let full = match self {
            Protocol::Pulsar => format!("persistent://public/pairs/{name}"),
            Protocol::Kafka | Protocol::RocketMq => name.to_owned(),
        };
        Topic { protocol: self, name: full, any_time: false }
    }

    /// Whether a message can be stored at all, and not only said. `latest`: of the time that it may have, in milliseconds.
    fn takes(self, message: &Message, latest: i64) -> bool {
        let (value, headers) = (message.value.as_ref().map_or(0, |value| value.len()), header_bytes(&message.headers));
        match self {
            Protocol::Kafka => message.time.is_none_or(|time| time <= latest),
            Protocol::Pulsar => value < 5 << 20,
            // 32,767 B of properties, of which Base64 takes a third.
            Protocol::RocketMq => value <= 4 << 20 && headers < 24 << 10,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub protocol: Protocol,
    pub name: String,
    /// A Kafka topic that takes messages from the future.
    pub any_time: bool,
}

impl Topic {
    pub fn of_any_time(self) -> Topic {
        Topic { any_time: true, ..self }
    }

    /// As the route table names it.
    pub fn entry(&self) -> String {
        format!("cluster: {}, topic: \"{}\"", self.protocol.name(), self.name)
    }

    pub fn takes(&self, message: &Message) -> bool {
        const HOUR: i64 = 3_600_000;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let latest = if self.any_time { i64::MAX } else { now.as_millis() as i64 + HOUR };
        self.protocol.takes(message, latest)
    }
}

pub struct Site {
    pub brokers: &'static Brokers,
    connectors: HashMap<&'static str, Arc<dyn Connector>>,
}

impl Site {
    pub async fn shared() -> Result<Site> {
        let brokers = Brokers::shared().await?;
        let kafka = trestle_kafka::Settings { servers: brokers.kafka.servers.clone(), options: BTreeMap::new() };
        let pulsar = serde_json::from_value(json!({ "url": brokers.pulsar.url, "admin": brokers.pulsar.admin }))?;
        let rocketmq = serde_json::from_value(json!({ "namesrv": brokers.rocketmq.namesrv }))?;
        let connectors = HashMap::from([
            ("kafka", trestle_kafka::connector("pairs", kafka).map_err(anyhow::Error::msg)?),
            ("pulsar", trestle_pulsar::connector("pairs", pulsar).map_err(anyhow::Error::msg)?),
            ("rocketmq", trestle_rocketmq::connector("pairs", rocketmq).map_err(anyhow::Error::msg)?),
        ]);
        Ok(Site { brokers, connectors })
    }

    /// The clusters of a route table.
    pub fn clusters(&self) -> String {
        let Brokers { kafka, pulsar, rocketmq, .. } = self.brokers;
        format!(
            "clusters:
  kafka: {{ type: kafka, servers: \"{}\" }}
  pulsar: {{ type: pulsar, url: \"{}\", admin: \"{}\" }}
  rocketmq: {{ type: rocketmq, namesrv: \"{}\" }}
",
            kafka.servers, pulsar.url, pulsar.admin, rocketmq.namesrv
        )
    }

    fn connector(&self, protocol: Protocol) -> &Arc<dyn Connector> {
        &self.connectors[protocol.name()]
    }

    /// Makes the topic; on Pulsar with a subscription, so that it keeps what it gets.
    pub async fn make(&self, topic: &Topic, partitions: u32) -> Result<()> {
        if topic.protocol == Protocol::Kafka {
            let latest = i64::MAX.to_string();
            let any_time = [("message.timestamp.after.max.ms", latest.as_str())];
            let config = if topic.any_time { &any_time[..] } else { &[] };
            return create_kafka_topic(&self.brokers.kafka.servers, &topic.name, partitions as i32, config).await;
        }
        let durable = Durable { subscription: "pairs".into() };
        let durable = (topic.protocol == Protocol::Pulsar).then_some(durable);
        self.connector(topic.protocol).ensure(&topic.name, Ensure { partitions, durable }).await?;
        Ok(())
    }

    /// A topic that was just made may not be known everywhere yet.
    pub async fn sink(&self, topic: &Topic) -> Result<Arc<dyn Sink>> {
        until(&format!("{topic:?} can be written"), SOON, || async {
            Ok(Some(self.connector(topic.protocol).sink(parts::sink_spec(&topic.name)).await?))
        })
        .await
    }

    /// Writes messages into one partition, in order and each once.
    pub async fn write(&self, topic: &Topic, partition: u32, messages: &[Message]) -> Result<()> {
        let sink = self.sink(topic).await?;
        let limits = sink.limits();
        let mut lane = sink.lane(LaneKey { target: PartitionId(partition), source: None }).await?;
        let mut left = messages;
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = left.iter().take(limits.unit_messages).take_while(|message| {
                bytes += message.size();
                bytes <= limits.unit_bytes
            });
            let (unit, rest) = left.split_at(fits.count().max(1));
            let sent = lane.send(parts::unit(unit.to_vec())).await;
            let bad = sent.runs.iter().find(|(_, outcome)| !matches!(outcome, Outcome::Stored));
            ensure!(bad.is_none(), "{topic:?} did not take a message: {bad:?}");
            left = rest;
        }
        lane.close().await;
        Ok(())
    }

    /// Everything in the topic, by partition.
    pub async fn read(&self, topic: &Topic) -> Result<BTreeMap<u32, Vec<Message>>> {
        let spec = ReaderSpec {
            topic: topic.name.clone(),
            from: ReadFrom::Earliest,
            follow: false,
            buffer_bytes: 8 << 20,
            largest_message: 8 << 20,
            options: BTreeMap::new(),
        };
        let mut reader = self.connector(topic.protocol).reader(spec).await?;
        let mut read: BTreeMap<u32, Vec<Message>> = BTreeMap::new();
        let reading = async {
            while let Some(excerpt) = reader.next().await? {
                read.entry(excerpt.partition.0).or_default().extend(excerpt.messages);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(SOON, reading).await.with_context(|| format!("{topic:?} was not read to its end"))??;
        Ok(read)
    }
}
