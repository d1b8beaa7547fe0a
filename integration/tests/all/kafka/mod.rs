//! The Kafka connector against real brokers.

mod members;
mod outages;
mod reading;
mod rig;
mod rounds;
mod transactions;
mod writing;
mod zombie;
