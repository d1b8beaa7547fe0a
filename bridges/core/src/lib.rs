//! The words every connector and the pipeline share: messages, positions, batches, outcomes, faults, and the
//! traits that a connector implements.
//!
//! This crate does no I/O and knows no protocol. What one protocol needs and the others do not stays in its connector.

mod account;
mod batch;
mod connector;
mod fault;
mod marks;
mod message;
mod options;
mod position;
mod pulse;
mod reader;
mod sink;
mod slice;
mod source;
mod survey;
mod tracker;

pub use account::{Account, Accounts};
pub use batch::{Ack, Batch};
pub use connector::{Connector, Durable, Ensure, Guarantee, SinkSpec, SourcePair, SourceSpec, Start, TopicInfo};
pub use fault::{Cause, Fault, FaultKind, Outcome, Scope, Sent, Why};
pub use marks::Marks;
pub use message::{Defect, Header, Headers, Message};
pub use options::{OptionsOf, WrongOption};
pub use position::{Epoch, PartitionId, Position};
pub use pulse::Pulse;
pub use reader::{Excerpt, Progress, ReadFrom, Reader, ReaderSpec, TaskReader};
pub use sink::{Lane, LaneKey, Limits, Sink};
pub use slice::Slice;
pub use source::{Done, Event, Lag, Source, SourceControl};
pub use survey::{Survey, Surveyed};
pub use tracker::{Restart, Tracker};

/// A boxed future that owns or borrows for `'a`; affordable once a batch, not once a message.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
