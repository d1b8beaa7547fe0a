//! How long to wait before trying again.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep_until};
use trestle_core::Position;

/// Between attempts to subscribe: at once, then doubled from here.
const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

/// Between attempts to subscribe.
#[derive(Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    pub fn next(&mut self) -> Duration {
        let delay = delay(self.0);
        self.0 = self.0.saturating_add(1);
        delay
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Between rewinds, so that a pipeline that gives back whatever it gets does not read in circles at full speed. The first
/// rewind of a position waits for nothing.
#[derive(Default)]
pub(super) struct Pace {
    prefix: Option<Position>,
    fruitless: u32,
    next: Option<Instant>,
    waiting: bool,
}

impl Pace {
    /// Whether going back is in order now; else [`Pace::passed`] resolves when it is.
    pub fn allows(&mut self, prefix: Option<Position>) -> bool {
        self.waiting = prefix == self.prefix && self.next.is_some_and(|next| Instant::now() < next);
        !self.waiting
    }

    /// Reading went back while this was settled.
    pub fn went_back(&mut self, prefix: Option<Position>) {
        self.fruitless =
            if self.next.is_some() && prefix == self.prefix { self.fruitless.saturating_add(1) } else { 0 };
        self.prefix = prefix;
        self.next = Some(Instant::now() + delay(self.fruitless));
    }

    pub async fn passed(&self) {
        match self.next.filter(|_| self.waiting) {
            Some(next) => sleep_until(next).await,
            None => pending().await,
        }
    }
}

/// 0, then 100 ms doubled up to 5 s.
fn delay(attempt: u32) -> Duration {
    match attempt {
        0 => Duration::ZERO,
        _ => FIRST.saturating_mul(1 << (attempt - 1).min(16)).min(MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn going_back_again_without_progress_waits_longer_each_time() {
        let (mut pace, here) = (Pace::default(), Some(Position::Offset(1)));
        let mut waited = Vec::new();
        for _ in 0..9 {
            let begin = Instant::now();
            while !pace.allows(here) {
                pace.passed().await;
            }
            waited.push(begin.elapsed().as_millis());
            pace.went_back(here);
        }
        assert_eq!(waited, [0, 0, 100, 200, 400, 800, 1600, 3200, 5000]);
        assert!(pace.allows(Some(Position::Offset(2))), "progress");
    }
}
