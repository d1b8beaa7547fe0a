//! The RocketMQ connector against real brokers.

mod faults;
mod group;
mod rig;
mod shapes;
