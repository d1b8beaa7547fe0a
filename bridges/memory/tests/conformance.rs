//! The memory connector keeps what the traits promise, as it is and with everything slow and cut small.

use std::{sync::Arc, time::Duration};

use trestle_conformance::{Features, Subject, conformance_tests};
use trestle_core::Connector;
use trestle_memory::{Cluster, Revokes};

struct Memory {
    cluster: Cluster,
    features: Features,
}

impl Subject for Memory {
    fn connector(&self) -> Arc<dyn Connector> {
        self.cluster.connector()
    }

    fn features(&self) -> Features {
        self.features.clone()
    }
}

fn prompt() -> Memory {
    let features = Features { fences: true, durable: true, ..Features::default() };
    Memory { cluster: Cluster::new(1), features }
}

fn slow() -> Memory {
    let memory = prompt();
    memory.cluster.configure(|s| {
        s.window = 4;
        s.latency = Duration::ZERO..=Duration::from_millis(50);
        s.fetch = 1..=7;
        s.fetch_delay = Duration::ZERO..=Duration::from_millis(20);
    });
    memory
}

fn telling_after() -> Memory {
    let mut memory = slow();
    memory.cluster.configure(|s| s.revokes = Revokes::After);
    memory.features.revokes_before = false;
    memory
}

mod prompt {
    super::conformance_tests!(super::prompt(), start_paused = true);
}

mod slow {
    super::conformance_tests!(super::slow(), start_paused = true);
}

mod telling_after {
    super::conformance_tests!(super::telling_after(), start_paused = true);
}
