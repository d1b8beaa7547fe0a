//! An in-process connector that misbehaves on command, for tests of what is built on connectors.
//!
//! A [`Cluster`] holds topics, groups and faults; it is also the [`Connector`](trestle_core::Connector). It keeps every
//! message and every commit ever made, so that a test can judge a whole run afterwards. Nothing is spawned and no wall
//! clock is read: under a current-thread runtime with paused time a run is the same for the same seed.

mod cluster;
mod faults;
mod group;
mod log;
mod reader;
mod settings;
mod sink;
mod source;
#[cfg(test)]
mod testing;

pub use cluster::Cluster;
pub use faults::{FaultSpec, Freeze, Poison};
pub use group::Commit;
pub use log::{Sending, Stored, Writer};
pub use settings::{Revokes, Settings};
