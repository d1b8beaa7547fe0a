//! Judges from outside what the bridge did: shares no code with it, and reads the target from its beginning.
//!
//! A [`Writer`] sends the numbered messages of a [`Load`] to Kafka and keeps a [`Ledger`] of what the broker confirmed.
//! [`Target`] reads the RocketMQ topic, [`PulsarLog`] the dead letters and the staging topic. [`judge`] compares;
//! [`Commits`] samples the group's committed positions meanwhile, and [`commit_breaks`] says where one was too far.

mod commits;
mod load;
mod pulsar_log;
mod report;
mod rocketmq;
mod stored;
mod target;
mod verdict;
mod writer;

pub use commits::{Commits, Sample, commit_breaks};
pub use load::{Content, Load, Shape};
pub use pulsar_log::{Entry, EntryId, PulsarLog};
pub use report::Row;
pub use target::Target;
pub use verdict::{Seen, Verdict, judge};
pub use writer::{Confirmed, Ledger, Writer};
