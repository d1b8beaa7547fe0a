use rdkafka::ClientConfig;
use trestle_core::{Fault, Scope, SourceSpec, Why};

use crate::{options, settings::Settings};

/// Bytes of a record beyond key, value and headers, and of its batch.
const RECORD_SLACK: usize = 64 * 1024;
/// librdkafka's own limits of `fetch.max.bytes` and `queued.max.messages.kbytes`.
const FETCH_MAX: usize = 512 << 20;
const RECEIVE_DEFAULT: usize = 100_000_000;
const QUEUED_KBYTES_MAX: usize = 2_097_151;
/// An instance that is gone is missed after this time, by default.
const SESSION_MS: &str = "10000";
/// Messages of a partition that are worth having ahead, whatever their size.
const QUEUED_MESSAGES: std::ops::RangeInclusive<usize> = 100..=100_000;

pub(super) fn consumer(settings: &Settings, spec: &SourceSpec) -> Result<ClientConfig, Fault> {
    options::refused(&spec.options).map_err(|wrong| {
        let detail = format!("the options of the topic {}: {wrong}", spec.topic);
        Fault::new(trestle_core::FaultKind::Unavailable(Why::Down), Scope::Cluster, detail)
    })?;
    // Half of the buffer is for what waits in the queue, half for the answer of a broker that is on its way there.
    let half = spec.buffer_bytes / 2;
    let one = spec.largest_message + RECORD_SLACK;
    let queued_messages = (half / 1024).clamp(*QUEUED_MESSAGES.start(), *QUEUED_MESSAGES.end());
    let mut config = settings.base(&spec.options);
    let default = |config: &mut ClientConfig, name: &str, value: String| {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    };
    default(&mut config, "isolation.level", "read_committed".into());
    // A static member does not say that it leaves: its partitions go to others after this time.
    default(&mut config, "session.timeout.ms", SESSION_MS.into());
    // A broker answers with one batch at least, however large: these bound memory, and hold nothing back.
    default(&mut config, "fetch.max.bytes", half.max(one).min(FETCH_MAX).to_string());
    default(&mut config, "fetch.message.max.bytes", one.min(FETCH_MAX).to_string());
    // The answer to one fetch, and what surrounds it.
    let fetch: usize = config.get("fetch.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(FETCH_MAX);
    default(&mut config, "receive.message.max.bytes", (fetch + (1 << 20)).max(RECEIVE_DEFAULT).to_string());
    config
        .set("group.id", &spec.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "false")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("queued.max.messages.kbytes", (half / 1024).clamp(1, QUEUED_KBYTES_MAX).to_string())
        .set("queued.min.messages", queued_messages.to_string())
        // The default lets a partition whose queue was full rest for a second.
        .set("fetch.queue.backoff.ms", "2");
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use trestle_core::Start;

    use super::*;

    #[test]
    fn the_clients_own_buffers_follow_from_the_budget_and_the_largest_message_fits() {
        let settings = Settings { servers: "127.0.0.1:9092".into(), options: BTreeMap::new() };
        let mut spec = SourceSpec {
            topic: "t".into(),
            group: "g".into(),
            start: Start::Earliest,
            route: "r".into(),
            buffer_bytes: 8 << 20,
            largest_message: 5 << 20,
            commit_interval: Duration::from_millis(200),
            options: BTreeMap::new(),
        };
        for buffer_bytes in [1, 8 << 20, 8 << 30] {
            spec.buffer_bytes = buffer_bytes;
            let config = consumer(&settings, &spec).unwrap();
            config.create_native_config().unwrap();
            let number = |name| config.get(name).unwrap().parse::<usize>().unwrap();
            assert!(number("fetch.message.max.bytes") > spec.largest_message);
            assert!(number("queued.max.messages.kbytes") <= (buffer_bytes / 2048).max(1));
        }
        spec.options.insert("group.id".into(), "another".into());
        assert!(consumer(&settings, &spec).is_err());
    }
}
