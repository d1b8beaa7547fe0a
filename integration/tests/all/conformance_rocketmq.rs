//! RocketMQ keeps what the traits of `trestle-core` promise.

use std::{collections::BTreeMap, env, sync::Arc};

use trestle_conformance::{Features, Subject, conformance_tests};
use trestle_core::Connector;
use trestle_integration::Brokers;

struct RocketMq(Arc<dyn Connector>);

impl Subject for RocketMq {
    fn connector(&self) -> Arc<dyn Connector> {
        self.0.clone()
    }

    fn features(&self) -> Features {
        // Members work out for themselves who has which queue, so that one hears of it when another has it.
        Features { revokes_before: false, ..Features::default() }
    }

    fn source_options(&self) -> BTreeMap<String, String> {
        // So that members find each other soon.
        let soon = [("heartbeatBrokerInterval", "2000"), ("rebalanceInterval", "1000")];
        soon.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }
}

/// On the shared broker, or on one started by hand whose name server `$ROCKETMQ_NAMESRV` names.
async fn rocketmq() -> RocketMq {
    let namesrv = match env::var("ROCKETMQ_NAMESRV") {
        Ok(namesrv) => namesrv,
        Err(_) => Brokers::shared().await.unwrap().rocketmq.namesrv.clone(),
    };
    let settings = serde_json::from_value(serde_json::json!({"namesrv": namesrv})).unwrap();
    RocketMq(trestle_rocketmq::connector("conformance", settings).unwrap())
}

conformance_tests!(rocketmq().await, flavor = "multi_thread", worker_threads = 2);
