//! The RocketMQ connector against real brokers.

mod faults;
mod group;
mod native;
mod options;
#[cfg(feature = "rocketmq-proxy")]
mod proxy;
pub mod rig;
mod shapes;
mod start;
mod tags;
