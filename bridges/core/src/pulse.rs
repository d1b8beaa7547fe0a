use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Duration, Instant};

/// For how long somebody has waited for an answer without hearing anything: who waits tells, and a watchdog looks.
pub struct Pulse {
    base: Instant,
    /// Milliseconds from `base`; [`RESTS`] while nobody waits.
    since: AtomicU64,
}

const RESTS: u64 = u64::MAX;

impl Default for Pulse {
    fn default() -> Self {
        Pulse { base: Instant::now(), since: AtomicU64::new(RESTS) }
    }
}

impl Pulse {
    /// An answer is waited for, from now on unless that was so already.
    pub fn waits(&self) {
        let _ = self.since.compare_exchange(RESTS, self.now(), Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Something was heard, and more is waited for.
    pub fn beats(&self) {
        self.since.store(self.now(), Ordering::Release);
    }

    /// Nothing is waited for.
    pub fn rests(&self) {
        self.since.store(RESTS, Ordering::Release);
    }

    /// Nothing while nobody waits.
    pub fn silent_for(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Acquire);
        (since != RESTS).then(|| Duration::from_millis(self.now().saturating_sub(since)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(RESTS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_when_somebody_began_to_wait_or_last_heard_something() {
        let (pulse, second) = (Pulse::default(), Duration::from_secs(1));
        tokio::time::advance(second).await;
        assert_eq!(pulse.silent_for(), None);
        pulse.waits();
        tokio::time::advance(second).await;
        pulse.waits();
        assert_eq!(pulse.silent_for(), Some(second), "who waits already has not heard anything");
        pulse.beats();
        tokio::time::advance(second * 2).await;
        assert_eq!(pulse.silent_for(), Some(second * 2));
        pulse.rests();
        assert_eq!(pulse.silent_for(), None);
    }
}
