//! How long to wait before trying again.

use tokio::time::{Duration, Instant};

/// At once, then from here on doubled.
const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

/// Between attempts.
#[derive(Default)]
pub struct Backoff(u32);

impl Backoff {
    pub fn next(&mut self) -> Duration {
        let delay = match self.0 {
            0 => Duration::ZERO,
            attempt => FIRST.saturating_mul(1 << (attempt - 1).min(16)).min(MOST),
        };
        self.0 = self.0.saturating_add(1);
        delay
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Between the times that the same messages are handed out again: a pipeline that gives back whatever it gets must not be fed in
/// circles at full speed.
#[derive(Default)]
pub struct Pace {
    backoff: Backoff,
    progress: u64,
    next: Option<Instant>,
}

impl Pace {
    /// Whether it is time. `progress` grows with whatever is done for good.
    pub fn allows(&mut self, progress: u64, now: Instant) -> bool {
        if progress != self.progress {
            (self.progress, self.next) = (progress, None);
            self.backoff.reset();
        }
        let next = *self.next.get_or_insert_with(|| now + self.backoff.next());
        if now >= next {
            self.next = None;
        }
        now >= next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_progress_it_takes_longer_each_time() {
        let (mut pace, begin, mut now) = (Pace::default(), Instant::now(), Instant::now());
        let mut waited = Vec::new();
        for _ in 0..9 {
            let since = now;
            while !pace.allows(1, now) {
                now += Duration::from_millis(50);
            }
            waited.push((now - since).as_millis());
        }
        assert_eq!(waited, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert!(now > begin && pace.allows(2, now), "progress");
    }
}
