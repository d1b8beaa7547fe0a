//! Kafka keeps what the traits of `trestle-core` promise.

use std::{collections::BTreeMap, env, sync::Arc};

use trestle_conformance::{Features, Subject, conformance_tests};
use trestle_core::Connector;
use trestle_integration::Brokers;

struct Kafka {
    connector: Arc<dyn Connector>,
    strategy: &'static str,
}

impl Subject for Kafka {
    fn connector(&self) -> Arc<dyn Connector> {
        self.connector.clone()
    }

    fn features(&self) -> Features {
        // The harness's broker takes 8 MiB.
        Features { durable: true, too_large: Some(9 << 20), ..Features::default() }
    }

    fn source_options(&self) -> BTreeMap<String, String> {
        // So that the group notices soon that a member crashed.
        let options = [("session.timeout.ms", "6000"), ("partition.assignment.strategy", self.strategy)];
        options.map(|(name, value)| (name.into(), value.into())).into()
    }
}

/// On the shared broker, or on one started by hand and named by `$KAFKA_SERVERS`.
async fn kafka(strategy: &'static str) -> Kafka {
    let servers = match env::var("KAFKA_SERVERS") {
        Ok(servers) => servers,
        Err(_) => Brokers::shared().await.unwrap().kafka.servers.clone(),
    };
    let settings = trestle_kafka::Settings { servers, options: BTreeMap::new() };
    Kafka { connector: trestle_kafka::connector("conformance", settings).unwrap(), strategy }
}

conformance_tests!(kafka("cooperative-sticky").await, flavor = "multi_thread", worker_threads = 2);

/// In a group that takes everything away before it assigns anew.
mod eager {
    super::conformance_tests! { @each (super::kafka("range,roundrobin").await) (flavor = "multi_thread", worker_threads = 2)
        a_new_source_goes_on_at_the_committed_position
        a_dropped_batch_is_read_again_from_the_lowest_unsettled_in_order
        a_second_member_gets_partitions_and_nothing_is_lost
        partitions_of_a_member_that_leaves_are_given_to_the_other
        closing_twice_is_fine_and_next_stays_pending
    }
}
