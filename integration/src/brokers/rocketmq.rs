use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use testcontainers::{ImageExt, core::IntoContainerPort};

use super::{
    Container, Settings,
    container::image,
    remoting::{self, Connection, call},
};
use crate::{Native, TcpProxy, docker::network, free_port, wait::until};

/// A broker registers every 30 s.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(90);
// RequestCode.java
const QUERY_CONSUMER_OFFSET: u32 = 14;
const UPDATE_AND_CREATE_TOPIC: u32 = 17;
const UPDATE_BROKER_CONFIG: u32 = 25;
const GET_MAX_OFFSET: u32 = 30;
const GET_BROKER_CLUSTER_INFO: u32 = 106;
const UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: u32 = 200;
const DELETE_TOPIC_IN_BROKER: u32 = 215;

/// Name servers and one broker, with the gRPC proxy in the broker's process. Topics are never made automatically.
///
/// A restarted name server knows no routes until the broker registers again: up to 30 s.
pub struct RocketMq {
    /// `HOST:PORT[;HOST:PORT]`
    pub namesrv: String,
    /// `HOST:PORT` of the gRPC proxy; not behind the TCP proxy.
    pub grpc: String,
    pub name_servers: Vec<Container>,
    pub broker: Container,
    /// Between the remoting clients and the broker, when asked for by [`Settings::proxied`].
    pub proxy: Option<TcpProxy>,
    /// What the broker advertises to remoting clients.
    address: String,
}

impl RocketMq {
    pub async fn start() -> Result<RocketMq> {
        RocketMq::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Result<RocketMq> {
        let (mut name_servers, mut outside, mut inside) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..settings.name_servers.unwrap_or(1) {
            let (container, port) = name_server().await?;
            name_servers.push(container);
            outside.push(format!("127.0.0.1:{port}"));
            inside.push(format!("{}:9876", host_name(port)));
        }
        let (broker, ports) = broker(settings.clone(), inside.join(";")).await?;
        // The health check is content with one name server that knows the broker; a test may kill just that one.
        for namesrv in &outside {
            let known = || async {
                let body = call(namesrv, GET_BROKER_CLUSTER_INFO, json!({}), &[]).await?;
                Ok(String::from_utf8_lossy(&body).contains(&format!(":{}\"", ports.advertised)).then_some(()))
            };
            until("every name server knows the broker", REGISTRATION_LIMIT, known).await?;
        }
        let proxy =
            if settings.proxied { Some(TcpProxy::start(ports.advertised, ports.published).await?) } else { None };
        Ok(RocketMq {
            namesrv: outside.join(";"),
            grpc: format!("127.0.0.1:{}", ports.grpc),
            name_servers,
            broker,
            proxy,
            address: format!("127.0.0.1:{}", ports.advertised),
        })
    }

    /// Creates a topic for normal messages with `queues` to read and to write, or changes it.
    pub async fn create_topic(&self, topic: &str, queues: u32) -> Result<()> {
        self.create_topic_of(topic, queues, "NORMAL").await
    }

    /// For one type of messages: `NORMAL`, `FIFO`, ... Only the gRPC proxy holds writers to it.
    pub async fn create_topic_of(&self, topic: &str, queues: u32, messages: &str) -> Result<()> {
        let fields = json!({
            "topic": topic, "defaultTopic": "TBW102", "readQueueNums": queues.to_string(), "writeQueueNums": queues.to_string(),
            "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false", "attributes": format!("+message.type={messages}"),
        });
        call(&self.address, UPDATE_AND_CREATE_TOPIC, fields, &[]).await.map(drop)
    }

    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        call(&self.address, DELETE_TOPIC_IN_BROKER, json!({ "topic": topic }), &[]).await.map(drop)
    }

    /// Changes the running broker's configuration by one line of broker.conf.
    pub async fn reconfigure(&self, line: &str) -> Result<()> {
        call(&self.address, UPDATE_BROKER_CONFIG, json!({}), line.as_bytes()).await.map(drop)
    }

    /// Only gRPC clients need it: the proxy refuses a group that nobody created.
    pub async fn create_group(&self, group: &str) -> Result<()> {
        let config = json!({
            "groupName": group, "consumeEnable": true, "consumeFromMinEnable": true, "consumeBroadcastEnable": true,
            "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
        });
        call(&self.address, UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, json!({}), config.to_string().as_bytes())
            .await
            .map(drop)
    }

    /// The cluster as the first name server knows it: text in RocketMQ's own JSON, whose keys can be bare numbers.
    pub async fn cluster_info(&self) -> Result<String> {
        let first = self.namesrv.split(';').next().unwrap_or_default();
        let body = call(first, GET_BROKER_CLUSTER_INFO, json!({}), &[]).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// `HOST:PORT` of the broker, as remoting clients are told.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Messages that the broker at `address` has ever stored in a topic.
    pub async fn stored(address: &str, topic: &str, queues: u32) -> Result<u64> {
        let (mut connection, mut stored) = (Connection::open(address).await?, 0);
        for queue in 0..queues {
            let fields = json!({ "topic": topic, "queueId": queue.to_string() });
            let answer = connection.request(GET_MAX_OFFSET, &fields, &[]).await?;
            let offset = answer.header["extFields"]["offset"].as_str().context("no offset")?;
            stored += offset.parse::<u64>()?;
        }
        Ok(stored)
    }

    /// The group's position in a queue: the offset of the next message, if it has one.
    pub async fn committed(&self, group: &str, topic: &str, queue: u32) -> Result<Option<u64>> {
        let fields = json!({
            "consumerGroup": group, "topic": topic, "queueId": queue.to_string(), "setZeroIfNotFound": "false",
        });
        let answer = Connection::open(&self.address).await?.request(QUERY_CONSUMER_OFFSET, &fields, &[]).await?;
        answer.header["extFields"]["offset"].as_str().map(|offset| Ok(offset.parse()?)).transpose()
    }

    /// What RocketMQ's own client printed: see `RocketMqClient.java`, which says the arguments. Takes some seconds.
    pub async fn native(&self, arguments: &[&str]) -> Result<Vec<String>> {
        const QUIET: &str = "-Drmq.logback.configurationFile=/opt/rocketmq/conf/logback.xml";
        let program = Native::compile(&self.broker, "RocketMqClient", "/opt/rocketmq/lib").await?;
        Ok(program.printed(&[QUIET], arguments).await?.lines().map(str::to_owned).collect())
    }

    /// Any other remoting request to the broker; gives the answer's body.
    pub async fn request(&self, code: u32, fields: serde_json::Value, body: &[u8]) -> Result<Vec<u8>> {
        remoting::call(&self.address, code, fields, body).await
    }
}

struct Ports {
    advertised: u16,
    published: u16,
    grpc: u16,
}

fn host_name(port: u16) -> String {
    format!("trestle-ns-{}-{port}", std::process::id())
}

async fn name_server() -> Result<(Container, u16)> {
    Container::start_new("rocketmq", || async {
        let port = free_port();
        let request = image("rocketmq")
            .with_cmd(["namesrv"])
            .with_container_name(host_name(port))
            .with_network(network().await?)
            .with_mapped_port(port, 9876.tcp());
        Ok((request, port))
    })
    .await
}

async fn broker(settings: Settings, namesrv: String) -> Result<(Container, Ports)> {
    Container::start_new("rocketmq", move || {
        let (settings, namesrv) = (settings.clone(), namesrv.clone());
        async move {
            // As with Kafka: the number inside is the one that is advertised, the proxy's when there is one.
            let (advertised, grpc) = (free_port(), free_port());
            let published = if settings.proxied { free_port() } else { advertised };
            let mut request = image("rocketmq")
                .with_network(network().await?)
                .with_mapped_port(published, advertised.tcp())
                .with_mapped_port(grpc, grpc.tcp())
                .with_env_var("NAMESRV", namesrv)
                .with_env_var("PORT", advertised.to_string())
                .with_env_var("GRPC", grpc.to_string())
                .with_env_var("HOST", "127.0.0.1");
            for (key, value) in settings.all_env() {
                request = request.with_env_var(key, value);
            }
            Ok((request, Ports { advertised, published, grpc }))
        }
    })
    .await
}
