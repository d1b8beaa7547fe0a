//! The main job, Kafka -> Pulsar -> RocketMQ, by the real program on real brokers, judged by the oracle.
//!
//! Short forms by default; `TRESTLE_SOAK=1` runs them longer and with more messages.

mod clean;
mod crashes;
mod large;
mod outages;
mod partitions;
mod replicas;
mod rig;
