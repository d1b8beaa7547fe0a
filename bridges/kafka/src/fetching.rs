//! What every consumer has in common: buffers that follow from the memory budget.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use trestle_core::{Fault, FaultKind, OptionsOf, Scope, Why};

use crate::{options, settings::Settings};

/// Bytes of a record beyond key, value and headers, and of its batch.
const RECORD_SLACK: usize = 64 * 1024;
/// librdkafka's own limits of `fetch.max.bytes` and `queued.max.messages.kbytes`.
const FETCH_MAX: usize = 512 << 20;
const RECEIVE_DEFAULT: usize = 100_000_000;
const QUEUED_KBYTES_MAX: usize = 2_097_151;
/// Messages of a partition that are worth having ahead, whatever their size.
const QUEUED_MESSAGES: std::ops::RangeInclusive<usize> = 100..=100_000;

/// What is fetched of a partition at once at least, where there is so much. A larger batch comes alone.
const FETCH_LEAST: usize = 256 << 10;

/// Reads a topic with at most `buffer_bytes` of its own, and messages of `largest_message` bytes all the same. `queues`: what is
/// fetched waits in so many.
pub(crate) fn config(
    settings: &Settings,
    topic: &str,
    topic_options: &BTreeMap<String, String>,
    buffer_bytes: usize,
    largest_message: usize,
    queues: usize,
) -> Result<ClientConfig, Fault> {
    options::refused(OptionsOf::Source, topic_options).map_err(|wrong| {
        let detail = format!("the options of the topic {topic}: {wrong}");
        Fault::new(FaultKind::Unavailable(Why::Down), Scope::Cluster, detail)
    })?;
    // Half of the buffer is for what waits in the queue, half for the answer of a broker that is on its way there.
    let half = buffer_bytes / 2;
    let one = largest_message + RECORD_SLACK;
    let share = half / queues.max(1);
    let queued_messages = (share / 1024).clamp(*QUEUED_MESSAGES.start(), *QUEUED_MESSAGES.end());
    let mut config = settings.base(topic_options);
    default(&mut config, "isolation.level", "read_committed".into());
    // A broker answers with one batch at least, however large: these bound memory, and hold nothing back.
    default(&mut config, "fetch.max.bytes", half.max(one).min(FETCH_MAX).to_string());
    default(&mut config, "fetch.message.max.bytes", share.max(FETCH_LEAST).min(one).min(FETCH_MAX).to_string());
    // The answer to one fetch, and what surrounds it.
    let fetch: usize = config.get("fetch.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(FETCH_MAX);
    default(&mut config, "receive.message.max.bytes", (fetch + (1 << 20)).max(RECEIVE_DEFAULT).to_string());
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("queued.max.messages.kbytes", (share / 1024).clamp(1, QUEUED_KBYTES_MAX).to_string())
        .set("queued.min.messages", queued_messages.to_string())
        // The default lets a partition whose queue was full rest for a second.
        .set("fetch.queue.backoff.ms", "2");
    Ok(config)
}

/// Unless the route table sets it.
pub(crate) fn default(config: &mut ClientConfig, name: &str, value: String) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}
