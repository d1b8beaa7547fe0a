//! All tests on real brokers are modules of this one program, so that the shared brokers are started once.

mod brokers;
mod kafka;
