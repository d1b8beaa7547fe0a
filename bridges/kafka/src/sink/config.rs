use std::time::Duration;

use rdkafka::ClientConfig;
use trestle_core::{Fault, FaultKind, Guarantee, Limits, OptionsOf, Scope, SinkSpec, Why};

use crate::{options, settings::Settings};

/// Behind a request in flight librdkafka polls busily, so a partition has one unit of this size in flight.
const UNIT_MESSAGES: usize = 500;
const UNIT_BYTES: usize = 600_000;
/// Bytes of a batch beyond its messages as the pipeline counts them, which is generously.
const BATCH_SLACK: usize = 1024;
/// librdkafka's own highest limits: what is too large is the broker's to say, and memory is the pipeline's to bound.
const MESSAGE_MAX: &str = "1000000000";
const QUEUED_MESSAGES: &str = "10000000";
const QUEUED_KBYTES: &str = "2147483647";
/// librdkafka's default.
const BATCH_BYTES: usize = 1_000_000;
/// The topic's limit is unknown: Kafka's default.
const TOPIC_MAX: usize = 1_048_588;

pub(super) fn limits(max_message: Option<usize>) -> Limits {
    let room = max_message.unwrap_or(TOPIC_MAX).saturating_sub(BATCH_SLACK);
    Limits { unit_messages: UNIT_MESSAGES, unit_bytes: UNIT_BYTES.min(room).max(1) }
}

pub(super) fn producer(
    settings: &Settings,
    spec: &SinkSpec,
    max_message: Option<usize>,
) -> Result<ClientConfig, Fault> {
    options::refused(OptionsOf::Sink, &spec.options).map_err(|wrong| {
        let detail = format!("the options of the topic {}: {wrong}", spec.topic);
        Fault::new(FaultKind::Unavailable(Why::Down), Scope::Cluster, detail)
    })?;
    let timeout = spec.send_timeout.max(Duration::from_millis(100)).as_millis().to_string();
    let batch = max_message.unwrap_or(TOPIC_MAX).clamp(1, BATCH_BYTES).to_string();
    let mut config = settings.base(&spec.options);
    if config.get("linger.ms").is_none() && config.get("queue.buffering.max.ms").is_none() {
        config.set("linger.ms", "0.5");
    }
    config
        .set("message.timeout.ms", &timeout)
        .set("request.timeout.ms", &timeout)
        .set("message.max.bytes", MESSAGE_MAX)
        .set("queue.buffering.max.messages", QUEUED_MESSAGES)
        .set("queue.buffering.max.kbytes", QUEUED_KBYTES)
        .set("batch.size", batch);
    match spec.guarantee {
        Guarantee::Replicated => config.set("acks", "all").set("enable.idempotence", "true"),
        // Order without idempotence: one request at a time.
        Guarantee::Accepted => config.set("acks", "1").set("max.in.flight.requests.per.connection", "1"),
    };
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_guarantee_makes_a_config_that_the_client_takes() {
        let settings = Settings { servers: "127.0.0.1:9092".into(), options: BTreeMap::new() };
        for guarantee in [Guarantee::Replicated, Guarantee::Accepted] {
            let spec = SinkSpec {
                topic: "t".into(),
                route: "r".into(),
                hop: "deliver",
                fenced: false,
                split_large: false,
                send_timeout: Duration::from_secs(3),
                guarantee,
                options: BTreeMap::new(),
            };
            let config = producer(&settings, &spec, Some(100_000)).unwrap();
            config.create::<rdkafka::producer::BaseProducer>().unwrap();
        }
    }

    #[test]
    fn a_unit_fits_into_a_batch_that_the_topic_takes() {
        assert_eq!(limits(None).unit_bytes, UNIT_BYTES);
        assert!(limits(Some(100_000)).unit_bytes < 100_000);
        assert_eq!(limits(Some(10)).unit_bytes, 1);
    }
}
