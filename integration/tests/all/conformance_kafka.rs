//! Kafka keeps what the traits of `trestle-core` promise.

use std::{collections::BTreeMap, env, sync::Arc};

use trestle_conformance::{Features, Subject, conformance_tests};
use trestle_core::Connector;
use trestle_integration::Brokers;

struct Kafka(Arc<dyn Connector>);

impl Subject for Kafka {
    fn connector(&self) -> Arc<dyn Connector> {
        self.0.clone()
    }

    fn features(&self) -> Features {
        // The harness's broker takes 8 MiB.
        Features { durable: true, too_large: Some(9 << 20), ..Features::default() }
    }

    fn source_options(&self) -> BTreeMap<String, String> {
        // So that the group notices soon that a member crashed.
        BTreeMap::from([("session.timeout.ms".into(), "6000".into())])
    }
}

/// On the shared broker, or on one started by hand and named by `$KAFKA_SERVERS`.
async fn kafka() -> Kafka {
    let servers = match env::var("KAFKA_SERVERS") {
        Ok(servers) => servers,
        Err(_) => Brokers::shared().await.unwrap().kafka.servers.clone(),
    };
    let settings = trestle_kafka::Settings { servers, options: BTreeMap::new() };
    Kafka(trestle_kafka::connector("conformance", settings).unwrap())
}

conformance_tests!(kafka().await, flavor = "multi_thread", worker_threads = 2);
