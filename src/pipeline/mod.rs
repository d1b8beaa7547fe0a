//! The way of a message through one hop: read, placed, sent in order, settled, acknowledged.

mod board;
mod budget;
mod crash;
mod edit;
mod hop;
mod inbox;
mod lane;
mod meter;
mod partitions;
mod place;
mod settle;
mod status;
mod unread;
mod watchdog;

pub use budget::Budget;
pub use edit::Edits;
pub use hop::{Ended, Hop, HopFailed, HopSpec};
pub use partitions::MaxAhead;
pub use place::Placement;
pub use status::{Reason, Status};
pub use unread::unread;

#[cfg(test)]
mod promises;
#[cfg(test)]
mod properties;

/// Mistakes that the property tests' oracle must catch.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sabotage {
    #[default]
    None,
    AckBeforeSend,
    SettlePastFailure,
}
