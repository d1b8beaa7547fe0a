use anyhow::{Context, Result, anyhow};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use testcontainers::{ImageExt, core::IntoContainerPort};

use super::{Container, Settings, container::image};
use crate::{TcpProxy, free_port};

/// One KRaft node that takes messages of 8 MiB and makes unknown topics with four partitions.
pub struct Kafka {
    /// For `bootstrap.servers`.
    pub servers: String,
    pub broker: Container,
    /// Between the clients and the broker, when asked for by [`Settings::proxied`].
    pub proxy: Option<TcpProxy>,
}

impl Kafka {
    pub async fn start() -> Result<Kafka> {
        Kafka::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Result<Kafka> {
        let proxied = settings.proxied;
        let (broker, (port, published)) = Container::start_new("kafka", move || {
            let settings = settings.clone();
            async move {
                // The broker advertises the number it listens on inside. With a proxy that number is the proxy's outside, and
                // the broker's own is published under another one.
                let port = free_port();
                let published = if settings.proxied { free_port() } else { port };
                let mut request = image("kafka")
                    .with_mapped_port(published, port.tcp())
                    .with_env_var("PORT", port.to_string())
                    .with_env_var("NAME", "127.0.0.1");
                for (key, value) in settings.all_env() {
                    request = request.with_env_var(key, value);
                }
                for port in settings.ports {
                    request = request.with_mapped_port(port, port.tcp());
                }
                Ok((request, (port, published)))
            }
        })
        .await?;
        let proxy = if proxied { Some(TcpProxy::start(port, published).await?) } else { None };
        Ok(Kafka { servers: format!("127.0.0.1:{port}"), broker, proxy })
    }

    pub async fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        create_kafka_topic(&self.servers, topic, partitions, &[]).await
    }

    /// Grows a topic to `partitions` in all.
    pub async fn add_partitions(&self, topic: &str, partitions: usize) -> Result<()> {
        let grown = NewPartitions::new(topic, partitions);
        let results = self.admin()?.create_partitions([&grown], &AdminOptions::new()).await?;
        first(results).with_context(|| format!("adding partitions to the Kafka topic {topic}"))
    }

    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let results = self.admin()?.delete_topics(&[topic], &AdminOptions::new()).await?;
        first(results).with_context(|| format!("deleting the Kafka topic {topic}"))
    }

    /// A user of the listener that [`Settings::scram`] adds; or another password for one. Takes some seconds.
    pub async fn set_user(&self, name: &str, password: &str) -> Result<()> {
        const COMMAND: [&str; 6] = [
            "java",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            "/opt/kafka/lib/*",
            "kafka.admin.ConfigCommand",
        ];
        let secret = format!("SCRAM-SHA-256=[password={password}]");
        let change = ["--bootstrap-server", &self.servers, "--alter", "--entity-type", "users", "--entity-name", name];
        self.broker.exec(&[&COMMAND[..], &change, &["--add-config", &secret]].concat()).await.map(drop)
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        admin(&self.servers)
    }
}

fn admin(servers: &str) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", servers).create()?)
}

/// Makes a topic with these settings of its own.
pub async fn create_kafka_topic(servers: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let new = config.iter().fold(new, |new, (name, value)| new.set(name, value));
    let results = admin(servers)?.create_topics([&new], &AdminOptions::new()).await?;
    first(results).with_context(|| format!("creating the Kafka topic {topic}"))
}

/// Deletes what a partition holds below `offset`, as its retention would.
pub async fn delete_kafka_records(servers: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    admin(servers)?.delete_records(&before, &AdminOptions::new()).await?;
    Ok(())
}

fn first(results: Vec<rdkafka::admin::TopicResult>) -> Result<()> {
    match results.into_iter().next().context("no answer")? {
        Ok(_) => Ok(()),
        Err((_, code)) => Err(anyhow!("{code}")),
    }
}
