//! How many dead letters are too many: a fault that is in no message must not empty a topic into the dead letters.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

/// A route's `dead_letter.most` and `dead_letter.within`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadLetterLimit {
    pub most: u32,
    pub within: Duration,
}

/// The dead letters of one route, over all its hops and lanes. Once there would be more than the limit allows, none is
/// written any more until a person says so: that they were few again later proves nothing.
///
/// Remembers one time a letter of the window, [`DeadLetterLimit::most`] of them.
#[derive(Debug)]
pub struct NackWindow {
    limit: Option<DeadLetterLimit>,
    state: Mutex<State>,
    stopped: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// When each letter of the window was written, oldest first.
    written: VecDeque<Instant>,
    /// Letters that are being written.
    pending: usize,
}

/// The right to write one dead letter. Dropped without [`Admission::written`], it counts as not written.
#[derive(Debug)]
pub struct Admission<'a>(Option<&'a NackWindow>);

/// There were too many already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany {
    pub limit: DeadLetterLimit,
    /// This is the one that stopped the route.
    pub first: bool,
}

impl NackWindow {
    /// Without a limit there are never too many.
    pub fn new(limit: Option<DeadLetterLimit>) -> Arc<Self> {
        Arc::new(NackWindow { limit, state: Mutex::default(), stopped: watch::Sender::new(false) })
    }

    /// Asks for the right to write one letter.
    pub fn admit(&self) -> Result<Admission<'_>, TooMany> {
        let Some(limit) = self.limit else { return Ok(Admission(None)) };
        let mut state = self.state();
        if *self.stopped.borrow() {
            return Err(TooMany { limit, first: false });
        }
        while state.written.front().is_some_and(|written| written.elapsed() >= limit.within) {
            state.written.pop_front();
        }
        if state.written.len() + state.pending >= limit.most as usize {
            self.stopped.send_replace(true);
            return Err(TooMany { limit, first: true });
        }
        state.pending += 1;
        Ok(Admission(Some(self)))
    }

    /// Follows whether the route is stopped.
    pub fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// A person has looked, and lets the route go on: the window is empty again.
    pub fn resume(&self) {
        let mut state = self.state();
        state.written.clear();
        self.stopped.send_replace(false);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// The letter is confirmed.
    pub fn written(self) {
        if let Some(window) = self.0 {
            window.state().written.push_back(Instant::now());
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some(window) = self.0 {
            window.state().pending -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn window(most: u32) -> Arc<NackWindow> {
        NackWindow::new(Some(DeadLetterLimit { most, within: MINUTE }))
    }

    #[tokio::test(start_paused = true)]
    async fn exactly_so_many_are_written_and_time_alone_lets_no_more_through() {
        let window = window(3);
        for _ in 0..3 {
            window.admit().unwrap().written();
        }
        assert!(window.admit().unwrap_err().first);
        assert!(!window.admit().unwrap_err().first, "it is said once");
        tokio::time::advance(10 * MINUTE).await;
        assert!(window.admit().is_err() && *window.stopped().borrow());
        window.resume();
        assert!(!*window.stopped().borrow());
        for _ in 0..3 {
            window.admit().unwrap().written();
        }
        assert!(window.admit().unwrap_err().first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_that_could_not_be_written_does_not_count_and_one_on_its_way_does() {
        let window = window(1);
        for _ in 0..100 {
            drop(window.admit().unwrap());
        }
        let _on_its_way = window.admit().unwrap();
        assert!(window.admit().is_err());
    }

    #[test]
    fn none_at_all_and_any_number() {
        assert!(window(0).admit().unwrap_err().first);
        let any = NackWindow::new(None);
        for _ in 0..10_000 {
            any.admit().unwrap().written();
        }
        assert!(any.state().written.is_empty(), "nothing is remembered without a limit");
    }

    /// Against the plain reading of the promise: a letter is refused when, with it, more than `most` lie within `within`.
    #[tokio::test(start_paused = true)]
    async fn whatever_the_times_it_stops_at_the_first_letter_too_many() {
        for seed in 0..500 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let most = rng.random_range(0..6);
            let (window, mut times) = (window(most), Vec::<Instant>::new());
            for _ in 0..50 {
                tokio::time::advance(Duration::from_secs(rng.random_range(0..30))).await;
                let recent = times.iter().filter(|time| time.elapsed() < MINUTE).count();
                match window.admit() {
                    Ok(admission) => admission.written(),
                    Err(_) => {
                        assert_eq!(recent, most as usize, "seed {seed}: stopped too early");
                        break;
                    }
                }
                assert!(recent < most as usize, "seed {seed}: stopped too late");
                assert!(window.state().written.len() <= most as usize, "seed {seed}: more is remembered than needed");
                times.push(Instant::now());
            }
        }
    }
}
