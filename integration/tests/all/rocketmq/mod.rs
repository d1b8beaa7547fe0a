//! The RocketMQ connector against real brokers.

mod faults;
mod group;
pub mod rig;
mod shapes;
