//! The main job, Kafka -> Pulsar -> RocketMQ, by the real program on real brokers, judged by the oracle.
//!
//! Short forms by default; `TRESTLE_SOAK=1` runs them longer and with more messages.

mod clean;
mod crashes;
mod gaps_and_growth;
mod large;
mod many;
mod names;
mod network;
mod outages;
mod partitions;
mod pressure;
mod refusals;
mod reload;
mod replicas;
pub mod rig;
mod storing;
mod too_many;
