//! Kafka, over librdkafka.

mod account;
mod classify;
mod connector;
mod fetching;
mod heard;
mod murmur2;
mod native;
mod options;
mod reader;
mod settings;
mod sink;
mod source;
mod survey;
mod topic;
mod translate;

use std::sync::Arc;

use trestle_core::Connector;

pub use account::ACCOUNTS;
pub use options::{NAMES as OPTIONS, check_options};
pub use settings::Settings;

/// A connector to one cluster; `cluster` is its name in the route table. Nothing is connected yet; the error says which
/// setting is wrong.
pub fn connector(cluster: &str, settings: Settings) -> Result<Arc<dyn Connector>, String> {
    settings.check()?;
    Ok(Arc::new(connector::Kafka::new(cluster, settings)))
}
