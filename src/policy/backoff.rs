//! Exponential backoff with jitter.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Delays that double from `initial` to `max`, each shortened by up to a quarter. The same seed gives the same delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
    rng: SmallRng,
}

impl Backoff {
    pub fn new(initial: Duration, max: Duration, seed: u64) -> Self {
        Backoff { initial, max, next: initial, rng: SmallRng::seed_from_u64(seed) }
    }

    pub fn delay(&mut self) -> Duration {
        let delay = self.next.min(self.max);
        self.next = (self.next * 2).min(self.max);
        delay.mul_f64(self.rng.random_range(0.75..=1.0))
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
}
