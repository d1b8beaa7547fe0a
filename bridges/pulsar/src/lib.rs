//! Pulsar, over our own data plane on the binary protocol.

mod access;
mod acks;
mod batch;
mod chunks;
mod compress;
mod connection;
mod envelope;
mod frame;
mod protobuf;
mod settings;
mod tls;
mod translate;
mod url;
mod pool {
    pub struct Pool;
}

pub use settings::{Settings, Tls};
