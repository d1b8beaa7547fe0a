//! How often a message is tried before it is dead-lettered, and what is remembered of its failures.

use std::time::{Duration, SystemTime};

use trestle_core::{PartitionId, Position};

use super::backoff::Backoff;

/// A route's `retry` setting.
#[derive(Clone, Debug)]
pub struct Retry {
    pub initial: Duration,
    pub max: Duration,
    /// Attempts beyond the first.
    pub retries: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { initial: Duration::from_millis(100), max: Duration::from_secs(5), retries: 3 }
    }
}

impl Retry {
    /// Lanes give different seeds, so that they do not beat in step.
    pub fn backoff(&self, seed: u64) -> Backoff {
        Backoff::new(self.initial, self.max, seed)
    }
}

/// The failures of the message at the head of a lane. It outlives the batch: a message that is dropped and read again
/// goes on where it was.
#[derive(Clone, Debug)]
pub struct Failures {
    pub partition: PartitionId,
    pub position: Position,
    /// Sends that count: confirmed neither as stored nor as an outage.
    pub attempts: u32,
    pub first_failed: SystemTime,
    pub last_failed: SystemTime,
    pub error: String,
    /// A later message was stored past it, so it can only be dead-lettered: sent again, it would be out of order.
    pub condemned: bool,
}

impl Failures {
    pub fn of(partition: PartitionId, position: Position) -> Self {
        let now = SystemTime::now();
        Failures { partition, position, attempts: 0, first_failed: now, last_failed: now, error: String::new(), condemned: false }
    }

    pub fn is_of(&self, partition: PartitionId, position: Position) -> bool {
        self.partition == partition && self.position == position
    }

    pub fn failed(&mut self, error: &str) {
        self.last_failed = SystemTime::now();
        error.clone_into(&mut self.error);
    }

    pub fn spent(&self, retry: &Retry) -> bool {
        self.attempts > retry.retries
    }
}
