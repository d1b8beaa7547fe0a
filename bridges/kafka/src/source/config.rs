use rdkafka::ClientConfig;
use trestle_core::{Fault, SourceSpec};

use crate::{
    fetching,
    options::{ASSIGNMENT, COOPERATIVE},
    settings::Settings,
};

/// An instance that is gone is missed after this time, by default.
const SESSION_MS: &str = "10000";

/// `partitions`: of the topic. All of them may be ours, and each has a queue of its own.
pub(super) fn consumer(settings: &Settings, spec: &SourceSpec, partitions: usize) -> Result<ClientConfig, Fault> {
    let (buffer, largest) = (spec.buffer_bytes, spec.largest_message);
    let mut config = fetching::config(settings, &spec.topic, &spec.options, buffer, largest, partitions)?;
    // A static member does not say that it leaves: its partitions go to others after this time.
    fetching::default(&mut config, "session.timeout.ms", SESSION_MS.into());
    fetching::default(&mut config, ASSIGNMENT, COOPERATIVE.into());
    config.set("group.id", &spec.group).set("auto.offset.reset", "error").set("enable.partition.eof", "false");
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
        for (buffer_bytes, partitions) in [(1, 1), (8 << 20, 1), (8 << 20, 64), (8 << 30, 4)] {
            spec.buffer_bytes = buffer_bytes;
            let config = consumer(&settings, &spec, partitions).unwrap();
            config.create_native_config().unwrap();
            let number = |name| config.get(name).unwrap().parse::<usize>().unwrap();
            assert!(number("fetch.max.bytes") > spec.largest_message, "a large message comes alone");
            assert!(partitions * number("queued.max.messages.kbytes") <= (buffer_bytes / 2048).max(partitions));
            assert!(number("fetch.message.max.bytes") <= (buffer_bytes / 2 / partitions).max(256 << 10));
        }
        spec.options.insert("group.id".into(), "another".into());
        assert!(consumer(&settings, &spec, 1).is_err());
    }
}
