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
mod envelope;
mod frame;
mod http;
mod policies;
mod pool;
mod protobuf;
mod settings;
mod tls;
mod topic;
mod translate;
mod url;

pub use settings::{Settings, Tls};
