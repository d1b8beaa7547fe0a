//! Real brokers for tests: Kafka, Pulsar and RocketMQ in containers, with the faults a bridge has to survive.
//!
//! Start with [`Brokers::shared`] where a test only uses brokers, and with [`Kafka::start`], [`Pulsar::start`] or
//! [`RocketMq::start`] where it breaks one. The images are made by `compose/images/build`.

mod bridge;
mod brokers;
mod docker;
pub mod exposition;
pub mod http;
#[cfg(test)]
mod kubernetes;
mod native;
pub mod oracle;
mod ports;
mod reaper;
mod soak;
mod tcp_proxy;
mod wait;

pub use bridge::{Bridge, Memory, Metrics, bridge_binary};
pub use brokers::{Brokers, Container, Kafka, Pulsar, RocketMq, Settings, create_kafka_topic, delete_kafka_records};
pub use native::Native;
pub use ports::free_port;
pub use soak::short_or_soak;
pub use tcp_proxy::{Mode, TcpProxy};
pub use wait::until;
