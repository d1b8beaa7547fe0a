//! All tests on real brokers are modules of this one program, so that the shared brokers are started once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

mod brokers;
mod check_connect;
mod conformance_kafka;
mod conformance_pulsar;
mod conformance_rocketmq;
mod credentials;
mod dlq;
mod kafka;
mod main_job;
mod metrics;
mod oracle;
mod pairs;
mod parts;
mod pulsar_sink;
mod pulsar_source;
mod rocketmq;
mod verify;
