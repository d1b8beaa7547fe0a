//! A gate in front of a target: closed while the target cannot take anything, so that an outage spends no attempts.

use tokio::time::{Duration, Instant};
use trestle_core::Why;

use super::backoff::Backoff;

/// How long a closed gate may hold what waits at it before it gives it back to the budget.
pub const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// A route's `gate` setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatePolicy {
    /// Failures in a row after which the gate closes whatever their kind.
    pub failures: u32,
    /// From closing to the first probe; each further one that fails doubles it.
    pub initial: Duration,
    /// The longest time between two probes.
    pub max: Duration,
    /// A probe that takes longer has failed.
    pub probe: Duration,
}

impl Default for GatePolicy {
    fn default() -> Self {
        GatePolicy {
            failures: 5,
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            probe: Duration::from_secs(3),
        }
    }
}

impl GatePolicy {
    /// Lanes give different seeds, so that they do not probe in step.
    pub fn backoff(&self, seed: u64) -> Backoff {
        Backoff::new(self.initial, self.max, seed)
    }
}

#[derive(Debug)]
pub enum Gate {
    Open,
    Closed(Closed),
    /// A probe was answered: one send is let through until one is stored.
    HalfOpen(Closed),
}

#[derive(Clone, Debug)]
pub struct Closed {
    pub since: Instant,
    pub why: Why,
    pub error: String,
    /// What waited was given back.
    pub released: bool,
}

impl Gate {
    /// Closes; a gate that was half open goes on counting from when it first closed.
    pub fn close(&mut self, why: Why, error: String) {
        let (since, released) = match self {
            Gate::Open => (Instant::now(), false),
            Gate::Closed(c) | Gate::HalfOpen(c) => (c.since, c.released),
        };
        *self = Gate::Closed(Closed { since, why, error, released });
    }

    pub fn half_open(&mut self) {
        if let Gate::Closed(closed) = self {
            *self = Gate::HalfOpen(closed.clone());
        }
    }

    /// A message was stored. Says how long the gate was not open, if it was not.
    pub fn open(&mut self) -> Option<Duration> {
        let since = match self {
            Gate::Open => return None,
            Gate::Closed(c) | Gate::HalfOpen(c) => c.since,
        };
        *self = Gate::Open;
        Some(since.elapsed())
    }

    /// Why it is not open.
    pub fn why(&self) -> Option<Why> {
        match self {
            Gate::Open => None,
            Gate::Closed(c) | Gate::HalfOpen(c) => Some(c.why),
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Gate::Open)
    }

    pub fn closed(&self) -> Option<&Closed> {
        match self {
            Gate::Closed(closed) => Some(closed),
            _ => None,
        }
    }

    pub fn closed_mut(&mut self) -> Option<&mut Closed> {
        match self {
            Gate::Closed(closed) => Some(closed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_counted_from_its_beginning_through_half_open() {
        let mut gate = Gate::Open;
        gate.close(Why::Down, "gone".into());
        tokio::time::advance(Duration::from_secs(2)).await;
        gate.half_open();
        assert!(gate.closed().is_none());
        gate.close(Why::Down, "gone again".into());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(gate.open(), Some(Duration::from_secs(5)));
        assert!(gate.is_open());
        assert_eq!(gate.open(), None);
    }
}
