mod container;
mod kafka;
mod pulsar;
pub(crate) mod remoting;
mod rocketmq;
mod settings;

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::sync::OnceCell;
use tracing_subscriber::filter::LevelFilter;

pub use container::Container;
pub use kafka::{Kafka, create_kafka_topic, delete_kafka_records};
pub use pulsar::Pulsar;
pub use rocketmq::RocketMq;
pub use settings::Settings;

use crate::docker::on_runtime;

/// One broker of each kind.
pub struct Brokers {
    pub kafka: Kafka,
    pub pulsar: Pulsar,
    pub rocketmq: RocketMq,
    /// How long it took until all three were healthy.
    pub started_in: Duration,
}

impl Brokers {
    /// The set that all tests of this process share. For tests that use brokers and never break, stop or pause them; give
    /// topics and groups names of the test's own. Started by the first test that asks, removed when the process ends.
    pub async fn shared() -> Result<&'static Brokers> {
        // The failure is kept as well: else each test would wait for it again.
        static SHARED: OnceCell<Result<Brokers, String>> = OnceCell::const_new();
        // What a connector warns of says why a test failed.
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(LevelFilter::WARN).try_init();
        let start = || async { on_runtime(Brokers::start()).await.map_err(|error| format!("{error:#}")) };
        SHARED.get_or_init(start).await.as_ref().map_err(|error| anyhow!("the shared brokers did not start: {error}"))
    }

    /// A set of the test's own, all three started side by side; removed when dropped.
    pub async fn start() -> Result<Brokers> {
        let begin = Instant::now();
        let (kafka, pulsar, rocketmq) = tokio::try_join!(Kafka::start(), Pulsar::start(), RocketMq::start())?;
        Ok(Brokers { kafka, pulsar, rocketmq, started_in: begin.elapsed() })
    }
}
