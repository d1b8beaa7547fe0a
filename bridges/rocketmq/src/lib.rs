//! RocketMQ: reads and writes topics over the remoting protocol, queue by queue.
//!
//! A partition is a queue, numbered by its place in the topic's queue list, sorted by broker name and queue number, which
//! only grows while a source or sink lives. At least once: RocketMQ has no fence and no deduplication, so
//! [`SinkSpec::fenced`](trestle_core::SinkSpec) is ignored. TLS is not spoken yet.
//!
//! Clusters that show only a gRPC proxy are reached with the feature `proxy`: written through Apache's gRPC client, read through
//! one of our own. See `proxy`.

mod account;
mod admin;
mod classify;
mod client;
mod compression;
mod connector;
#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod micro;
mod place;
#[cfg(feature = "proxy")]
mod proxy;
mod pull;
mod queues;
mod reader;
mod remoting;
mod route;
mod settings;
mod sink;
mod sink_options;
mod source;
mod stamp;
mod survey;
mod tags;
mod topics;
mod translate;
mod unit;
mod wire;

pub use account::ACCOUNTS;
pub use connector::connector;
pub use settings::{CLUSTER_OPTIONS, Durability, Settings, check_options, is_behind_a_proxy};
pub use sink_options::SINK_OPTIONS;
pub use tags::TAGS_OPTION;
