//! Trestle carries messages between Kafka, Pulsar and RocketMQ.

pub mod admin;
pub mod clusters;
pub mod commands;
pub mod config;
pub mod discovery;
#[doc(hidden)]
pub mod fuzz;
pub mod letters;
pub mod logging;
pub mod patience;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod supervisor;
