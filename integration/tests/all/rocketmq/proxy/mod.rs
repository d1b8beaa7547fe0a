//! A cluster that is reached through its gRPC proxy.

mod holding;
mod reading;
mod routes;
mod writing;

use std::sync::Arc;

use anyhow::{Context, Result};
use trestle_core::{Connector, Fault};

fn through(proxy: &str) -> Result<Arc<dyn Connector>> {
    let settings = serde_json::from_value(serde_json::json!({ "proxy": proxy }))?;
    trestle_rocketmq::connector("billing", settings).map_err(|wrong| anyhow::anyhow!(wrong))
}

fn fault<T>(result: Result<T, Fault>) -> Result<Fault> {
    result.err().context("it is refused")
}
