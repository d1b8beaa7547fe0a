//! The brokers are what the other tests take them for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use tokio::time::timeout;
use trestle_integration::{Brokers, Kafka, Mode, Pulsar, RocketMq, Settings};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn kafka_keeps_a_message_of_eight_mebibytes() -> Result<()> {
    let kafka = &Brokers::shared().await?.kafka;
    kafka.create_topic("eight-mebibytes", 2).await?;
    let value = vec![5; 8 << 20];
    produce(kafka, "eight-mebibytes", &value).await?;
    ensure!(read_first(kafka, "eight-mebibytes").await? == value);
    Ok(())
}

#[tokio::test]
async fn pulsar_has_the_partitions_it_was_asked_for() -> Result<()> {
    let pulsar = &Brokers::shared().await?.pulsar;
    pulsar.create_topic("public/default/partitioned", 3).await?;
    let metadata = pulsar.rest("GET", "persistent/public/default/partitioned/partitions", "").await?;
    ensure!(metadata.contains("\"partitions\":3"), "{metadata}");
    Ok(())
}

#[tokio::test]
async fn rocketmq_has_the_queues_it_was_asked_for_and_its_name_server_knows_the_broker() -> Result<()> {
    let rocketmq = &Brokers::shared().await?.rocketmq;
    rocketmq.create_topic("eight-queues", 8).await?;
    rocketmq.create_group("a-group").await?;
    let cluster = rocketmq.cluster_info().await?;
    ensure!(cluster.contains("broker-a"), "{cluster}");
    const GET_TOPIC_CONFIG: u32 = 351;
    let config = rocketmq.request(GET_TOPIC_CONFIG, serde_json::json!({"topic": "eight-queues"}), &[]).await?;
    let config: serde_json::Value = serde_json::from_slice(&config)?;
    ensure!(config["topicConfig"]["writeQueueNums"] == 8 || config["writeQueueNums"] == 8, "{config}");
    Ok(())
}

#[tokio::test]
async fn kafka_keeps_address_and_data_over_a_kill_and_over_a_stop() -> Result<()> {
    let kafka = Kafka::start().await?;
    produce(&kafka, "survivor", b"still here").await?;
    kafka.broker.kill().await?;
    kafka.broker.start().await?;
    kafka.broker.stop().await?;
    kafka.broker.start().await?;
    ensure!(read_first(&kafka, "survivor").await? == b"still here");
    Ok(())
}

#[tokio::test]
async fn a_broker_that_cannot_start_says_why() -> Result<()> {
    let error =
        Kafka::start_with(Settings::default().conf("log.segment.bytes=no-number")).await.err().context("it started")?;
    ensure!(format!("{error:#}").contains("log.segment.bytes"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn a_proxy_before_kafka_cuts_its_clients_off_and_lets_them_back() -> Result<()> {
    let kafka = Kafka::start_with(Settings::default().proxied()).await?;
    let proxy = kafka.proxy.as_ref().context("no proxy")?;
    produce(&kafka, "through-the-proxy", b"first").await?;
    for mode in [Mode::Cut, Mode::Stall] {
        proxy.set(mode);
        ensure!(produce(&kafka, "through-the-proxy", b"lost").await.is_err(), "{mode:?} lets a client through");
        proxy.set(Mode::Pass);
        produce(&kafka, "through-the-proxy", b"again").await?;
    }
    Ok(())
}

#[tokio::test]
async fn pulsar_serves_again_after_a_pause_and_after_a_kill() -> Result<()> {
    let pulsar = Pulsar::start_with(Settings::default().conf("allowAutoTopicCreation=false")).await?;
    pulsar.create_topic("public/default/kept", 2).await?;
    pulsar.broker.pause().await?;
    ensure!(
        timeout(Duration::from_secs(1), pulsar.rest("GET", "clusters", "")).await.is_err(),
        "a paused broker answers"
    );
    pulsar.broker.unpause().await?;
    pulsar.broker.healthy().await?;
    pulsar.broker.kill().await?;
    pulsar.broker.start().await?;
    let topics = pulsar.rest("GET", "persistent/public/default/partitioned", "").await?;
    ensure!(topics.contains("persistent://public/default/kept"), "{topics}");
    Ok(())
}

#[tokio::test]
async fn rocketmq_is_known_to_its_second_name_server_while_the_first_is_dead() -> Result<()> {
    let mut rocketmq = RocketMq::start_with(Settings::default().name_servers(2)).await?;
    rocketmq.name_servers[0].kill().await?;
    rocketmq.broker.kill().await?;
    rocketmq.broker.start().await?;
    rocketmq.namesrv = rocketmq.namesrv.split(';').nth(1).context("one name server")?.to_owned();
    let cluster = rocketmq.cluster_info().await?;
    ensure!(cluster.contains("broker-a"), "{cluster}");
    Ok(())
}

async fn produce(kafka: &Kafka, topic: &str, value: &[u8]) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.servers)
        .set("message.max.bytes", "8454144")
        .set("message.timeout.ms", "10000")
        .create()?;
    producer
        .send(FutureRecord::<(), _>::to(topic).partition(0).payload(value), SOON)
        .await
        .map_err(|(error, _)| error)?;
    Ok(())
}

async fn read_first(kafka: &Kafka, topic: &str) -> Result<Vec<u8>> {
    let consumer: StreamConsumer =
        ClientConfig::new().set("bootstrap.servers", &kafka.servers).set("group.id", topic).create()?;
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&start)?;
    let message = timeout(SOON, consumer.recv()).await.context("nothing arrived")??;
    Ok(message.payload().context("no payload")?.to_vec())
}
