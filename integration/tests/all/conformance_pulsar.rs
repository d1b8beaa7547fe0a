//! Pulsar keeps what the traits of `trestle-core` promise.

use std::{env, sync::Arc};

use trestle_conformance::{Features, Subject, conformance_tests};
use trestle_core::Connector;
use trestle_integration::Brokers;

struct Pulsar(Arc<dyn Connector>);

impl Subject for Pulsar {
    fn connector(&self) -> Arc<dyn Connector> {
        self.0.clone()
    }

    fn features(&self) -> Features {
        // A failover subscription tells a consumer when another is active already.
        Features { fences: true, durable: true, revokes_before: false, offsets: false, ..Features::default() }
    }

    fn topic(&self, name: &str) -> String {
        format!("persistent://public/conformance/{name}")
    }
}

/// On the shared broker, or on one started by hand and named by `$PULSAR_URL` and `$PULSAR_ADMIN`.
async fn pulsar() -> Pulsar {
    let (url, admin) = match (env::var("PULSAR_URL"), env::var("PULSAR_ADMIN")) {
        (Ok(url), Ok(admin)) => (url, admin),
        _ => {
            let pulsar = &Brokers::shared().await.unwrap().pulsar;
            (pulsar.url.clone(), pulsar.admin.clone())
        }
    };
    let settings = serde_json::from_value(serde_json::json!({"url": url, "admin": admin})).unwrap();
    Pulsar(trestle_pulsar::connector("conformance", settings).unwrap())
}

conformance_tests!(pulsar().await, flavor = "multi_thread", worker_threads = 2);
