//! The Kafka connector against real brokers.

mod members;
mod outages;
mod reading;
mod rig;
mod rounds;
mod writing;
mod zombie;
