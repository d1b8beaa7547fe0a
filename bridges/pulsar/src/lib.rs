//! Pulsar, over our own data plane on the binary protocol.

mod access;
mod acks;
mod admin;
mod batch;
mod chunks;
mod classify;
mod cluster;
mod compress;
mod connection;
mod connector;
mod envelope;
mod frame;
mod http;
mod lane;
mod place;
mod policies;
mod pool;
mod protobuf;
mod settings;
mod sink;
mod source;
mod tls;
mod topic;
mod translate;
mod url;

use std::sync::Arc;

use trestle_core::Connector;

pub use settings::{Settings, Tls};

/// The connector of one Pulsar cluster, which the route table calls `cluster`. Connects to nothing; an error says which
/// setting is wrong, or which of the files it names cannot be read.
pub fn connector(cluster: &str, settings: Settings) -> Result<Arc<dyn Connector>, String> {
    Ok(Arc::new(connector::PulsarConnector::new(cluster, &settings)?))
}
