//! How often a message is tried before it is dead-lettered, and what is remembered of its failures.

use std::time::{Duration, SystemTime};

use trestle_core::Position;

use super::backoff::{Backoff, JITTER, MULTIPLIER};

/// A route's `retry` setting.
#[derive(Clone, PartialEq, Debug)]
pub struct Retry {
    pub initial: Duration,
    pub max: Duration,
    /// Each delay is so many times the one before it; 1 or more.
    pub multiplier: f64,
    /// The part of each delay that is left to chance, 0 to 1.
    pub jitter: f64,
    /// Attempts beyond the first.
    pub retries: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            multiplier: MULTIPLIER,
            jitter: JITTER,
            retries: 3,
        }
    }
}

impl Retry {
    /// Lanes give different seeds, so that they do not beat in step.
    pub fn backoff(&self, seed: u64) -> Backoff {
        Backoff::new(self.initial, self.max, seed).shaped(self.multiplier, self.jitter)
    }

    /// The delay behind so many attempts.
    pub fn delay_after(&self, attempts: u32, seed: u64) -> Duration {
        let mut backoff = self.backoff(seed);
        (1..attempts.min(LONGEST_CLIMB)).for_each(|_| _ = backoff.delay());
        backoff.delay()
    }
}

/// Delays that have grown so often grow no more.
const LONGEST_CLIMB: u32 = 64;

/// An outage that shows in nothing but missing confirmations can end just while a witness is sent, and would then cost
/// the head. So witnesses come more rarely the longer it lasts: at most this often is the number of attempts doubled.
const DOUBLINGS: u32 = 10;

/// The failures of one message at the head of a lane. They outlive the batch: a message that is dropped and read again
/// goes on where it was.
#[derive(Clone, Debug)]
pub struct Failures {
    pub position: Position,
    /// Sends that count: confirmed neither as stored nor as an outage.
    pub attempts: u32,
    /// How often a witness was not confirmed either.
    outages: u32,
    pub first_failed: SystemTime,
    pub last_failed: SystemTime,
    pub error: String,
    /// A later message was stored past it, so it can only be dead-lettered: sent again, it would be out of order.
    pub condemned: bool,
    /// Something else was stored between its last two attempts, the last of which is to come where it waits apart.
    pub witnessed: bool,
}

impl Failures {
    pub fn of(position: Position) -> Self {
        let now = SystemTime::now();
        Failures {
            position,
            attempts: 0,
            outages: 0,
            first_failed: now,
            last_failed: now,
            error: String::new(),
            condemned: false,
            witnessed: false,
        }
    }

    pub fn failed(&mut self, error: &str) {
        self.last_failed = SystemTime::now();
        error.clone_into(&mut self.error);
    }

    /// The attempts came to nothing because the target does not take others either: they come back.
    pub fn outage(&mut self) {
        self.attempts = 0;
        self.outages += 1;
    }

    pub fn spent(&self, retry: &Retry) -> bool {
        self.attempts >= retry.retries.saturating_add(1).saturating_mul(1 << self.outages.min(DOUBLINGS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_an_outage_attempts_come_back_and_twice_as_many_are_needed() {
        let retry = Retry { retries: 3, ..Retry::default() };
        let mut failures = Failures::of(Position::Offset(0));
        for needed in [4, 8, 16] {
            for _ in 0..needed {
                assert!(!failures.spent(&retry));
                failures.attempts += 1;
            }
            assert!(failures.spent(&retry));
            failures.outage();
        }
    }
}
