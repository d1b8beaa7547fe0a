//! Where messages are counted: at the brokers, by their own numbers, so that counting costs next to nothing.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trestle_core::{Connector, Ensure};
use trestle_integration::{RocketMq, http};

const LIMIT: Duration = Duration::from_secs(10);

/// A topic and how its cluster is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Place {
    Kafka { servers: String, topic: String },
    Pulsar { url: String, admin: String, topic: String },
    RocketMq { namesrv: String, broker: String, topic: String },
}

impl Place {
    pub fn protocol(&self) -> &'static str {
        match self {
            Place::Kafka { .. } => "kafka",
            Place::Pulsar { .. } => "pulsar",
            Place::RocketMq { .. } => "rocketmq",
        }
    }

    pub fn topic(&self) -> &str {
        match self {
            Place::Kafka { topic, .. } | Place::Pulsar { topic, .. } | Place::RocketMq { topic, .. } => topic,
        }
    }

    /// Makes it, with so many partitions, where it is missing.
    pub async fn create(&self, partitions: u32) -> Result<()> {
        let ensure = Ensure { partitions, durable: None };
        self.connector()?.ensure(self.topic(), ensure).await.map(drop).map_err(Into::into)
    }

    /// The bridge's own client of this cluster.
    pub fn connector(&self) -> Result<Arc<dyn Connector>> {
        let connector = match self {
            Place::Kafka { servers, .. } => {
                trestle_kafka::connector("kafka", serde_json::from_value(json!({ "servers": servers }))?)
            }
            Place::Pulsar { url, admin, .. } => {
                trestle_pulsar::connector("pulsar", serde_json::from_value(json!({ "url": url, "admin": admin }))?)
            }
            Place::RocketMq { namesrv, .. } => {
                trestle_rocketmq::connector("rocketmq", serde_json::from_value(json!({ "namesrv": namesrv }))?)
            }
        };
        connector.map_err(|wrong| anyhow!(wrong))
    }

    /// Messages that the broker has taken.
    pub async fn count(&self, partitions: u32) -> Result<u64> {
        match self {
            Place::Kafka { servers, topic } => {
                let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create()?;
                let (topic, partitions) = (topic.clone(), partitions as i32);
                let ask =
                    move || (0..partitions).map(|p| Ok(consumer.fetch_watermarks(&topic, p, LIMIT)?.1 as u64)).sum();
                tokio::task::spawn_blocking(ask).await?
            }
            Place::Pulsar { admin, topic, .. } => {
                let path = format!("/admin/v2/{}/partitioned-stats", topic.replacen("://", "/", 1));
                let (status, body) = http::request("GET", admin.trim_start_matches("http://"), &path, "").await?;
                ensure!(status == 200, "{path} answers {status}: {body}");
                let stats: Value = serde_json::from_str(&body)?;
                stats["msgInCounter"].as_u64().context("no msgInCounter")
            }
            Place::RocketMq { broker, topic, .. } => RocketMq::stored(broker, topic, partitions).await,
        }
    }
}
