//! The Kafka connector against real brokers.

mod reading;
mod rig;
mod rounds;
