//! Exponential backoff with jitter.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Each delay is so many times the one before it.
pub const MULTIPLIER: f64 = 2.0;
/// Each delay is shortened by up to this part of it.
pub const JITTER: f64 = 0.25;

/// Delays that grow from `initial` to `max`. The same seed gives the same delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    multiplier: f64,
    jitter: f64,
    next: Duration,
    rng: SmallRng,
}

impl Backoff {
    pub fn new(initial: Duration, max: Duration, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Backoff { initial, max, multiplier: MULTIPLIER, jitter: JITTER, next: initial, rng }
    }

    /// With another multiplier, 1 or more, and another jitter, 0 to 1.
    pub fn shaped(self, multiplier: f64, jitter: f64) -> Self {
        Backoff { multiplier: multiplier.max(1.0), jitter: jitter.clamp(0.0, 1.0), ..self }
    }

    pub fn delay(&mut self) -> Duration {
        let delay = self.next.min(self.max);
        // In seconds, so that no multiplier overflows a `Duration`.
        let next = self.next.as_secs_f64() * self.multiplier;
        self.next = Duration::try_from_secs_f64(next).map_or(self.max, |next| next.min(self.max));
        delay.mul_f64(self.rng.random_range(1.0 - self.jitter..=1.0))
    }

    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1), 7);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.delay().as_millis();
            assert!(delay <= whole && delay >= whole * 3 / 4, "{delay} of {whole}");
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(100));
    }

    #[test]
    fn multiplier_and_jitter_are_the_callers() {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(3600), 7);
        let mut exact = backoff.clone().shaped(3.0, 0.0);
        let delays: Vec<_> = (0..4).map(|_| exact.delay().as_millis()).collect();
        assert_eq!(delays, [10, 30, 90, 270]);
        let mut steady = backoff.clone().shaped(1.0, 1.0);
        let delays: Vec<_> = (0..1000).map(|_| steady.delay()).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(10)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_millis(1)), "all of a delay may be jitter");
        let mut steep = backoff.shaped(f64::MAX, 0.0);
        assert_eq!((steep.delay(), steep.delay()), (Duration::from_millis(10), Duration::from_secs(3600)));
    }
}
