//! How much a second may be sent: a token bucket that whoever sends waits at, in the order of coming.

use std::sync::Arc;

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Duration, Instant, sleep_until},
};

/// What a bucket holds at most. Short, so that what was not used before does not come as a burst later.
const BURST: Duration = Duration::from_millis(100);

/// A `rate` setting: of a route, or of a cluster. Without both there is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rate {
    /// A second; 1 or more.
    pub messages: Option<u32>,
    /// Bytes a second; 1 or more.
    pub bytes: Option<u64>,
}

/// One limit, shared by all who send under it.
///
/// One at a time is let through, the one that waited longest first; so none starves, and nobody has to know how much the
/// others want. It pays afterwards, whatever it sent: a message larger than a second's bytes goes, too, and those behind it
/// wait until the debt is paid.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    bucket: Arc<Mutex<Bucket>>,
}

/// The right to send one unit under some limits. Dropped unused, it costs nothing.
#[derive(Debug)]
pub struct Turn(Vec<OwnedMutexGuard<Bucket>>);

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// When all that was sent is paid for. What lies behind us by more than [`BURST`] is forgotten.
    paid_at: Instant,
}

impl Limiter {
    /// Nothing when there is no limit.
    pub fn new(rate: Rate) -> Option<Arc<Self>> {
        let bucket = || Arc::new(Mutex::new(Bucket { rate, paid_at: Instant::now() }));
        (rate != Rate::default()).then(|| Arc::new(Limiter { rate, bucket: bucket() }))
    }

    /// Messages and bytes that one unit should not exceed, so that the limit is not paid in long breaks.
    pub fn unit(&self) -> (usize, usize) {
        let part =
            |a_second: u64| usize::try_from(u128::from(a_second) * BURST.as_millis() / 1000).unwrap_or(usize::MAX);
        let messages = self.rate.messages.map_or(usize::MAX, |messages| part(messages.into()).max(1));
        (messages, self.rate.bytes.map_or(usize::MAX, |bytes| part(bytes).max(1)))
    }

    /// Waits for its turn under all `limits`. They have to be named in the same order by all who share several.
    pub async fn turn(limits: Vec<Arc<Limiter>>) -> Turn {
        let mut buckets = Vec::with_capacity(limits.len());
        for limit in limits {
            // Tokio's mutex is first come first served. Whoever has it waits out the debt; those behind could not go earlier.
            let bucket = limit.bucket.clone().lock_owned().await;
            sleep_until(bucket.paid_at).await;
            buckets.push(bucket);
        }
        Turn(buckets)
    }
}

impl Turn {
    /// So much was sent.
    pub fn spend(self, messages: usize, bytes: usize) {
        for mut bucket in self.0 {
            bucket.spend(messages, bytes);
        }
    }
}

impl Bucket {
    fn spend(&mut self, messages: usize, bytes: usize) {
        let cost = |amount: usize, a_second: Option<u64>| match a_second {
            Some(a_second) => Duration::from_secs_f64(amount as f64 / a_second.max(1) as f64),
            None => Duration::ZERO,
        };
        // Both kinds are paid at the same time: the dearer one decides.
        let cost = cost(messages, self.rate.messages.map(u64::from)).max(cost(bytes, self.rate.bytes));
        let now = Instant::now();
        self.paid_at = self.paid_at.max(now.checked_sub(BURST).unwrap_or(now)) + cost;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn limiter(messages: Option<u32>, bytes: Option<u64>) -> Arc<Limiter> {
        Limiter::new(Rate { messages, bytes }).unwrap()
    }

    /// Sends units until the time is over, and counts them.
    async fn units_in(limits: &[Arc<Limiter>], time: Duration, messages: usize, bytes: usize) -> usize {
        let (end, mut units) = (Instant::now() + time, 0);
        while let Ok(turn) = tokio::time::timeout_at(end, Limiter::turn(limits.to_vec())).await {
            turn.spend(messages, bytes);
            units += 1;
        }
        units
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_in_a_time_is_the_rate_and_at_most_one_burst_more() {
        for (messages, bytes) in [(Some(1000), None), (None, Some(10_000)), (Some(1000), Some(10_000))] {
            let units = units_in(&[limiter(messages, bytes)], Duration::from_secs(60), 10, 100).await;
            assert!(
                (6000..=6011).contains(&units),
                "{units} units of 10 messages and 100 bytes, {messages:?} {bytes:?}"
            );
        }
        // The dearer one decides.
        let units = units_in(&[limiter(Some(1000), Some(5_000))], Duration::from_secs(60), 10, 100).await;
        assert!((3000..=3006).contains(&units), "{units}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_used_is_no_burst_later() {
        let limit = limiter(Some(1000), None);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let units = units_in(&[limit], Duration::from_millis(10), 1, 0).await;
        assert!((100..=111).contains(&units), "{units}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_larger_than_a_seconds_bytes_goes_and_is_paid_afterwards() {
        let limit = limiter(None, Some(1000));
        let begin = Instant::now();
        Limiter::turn(vec![limit.clone()]).await.spend(1, 10_000);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        Limiter::turn(vec![limit]).await.spend(1, 1);
        // As the time of the pause is counted in whole milliseconds, up to one more.
        assert!((9_900..=10_001).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_share_a_limit_take_turns_whatever_they_want() {
        let limit = limiter(Some(1000), None);
        let sent: Arc<[AtomicUsize; 3]> = Arc::default();
        for index in 0..3 {
            let (limit, sent) = (limit.clone(), sent.clone());
            tokio::spawn(async move {
                loop {
                    Limiter::turn(vec![limit.clone()]).await.spend(10, 0);
                    sent[index].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        let sent: Vec<_> = sent.iter().map(|units| units.load(Ordering::Relaxed)).collect();
        assert!(sent.iter().all(|units| (999..=1005).contains(units)), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_costs_nothing_and_holds_up_nobody() {
        let (own, shared) = (limiter(Some(1), None), limiter(Some(1), None));
        Limiter::turn(vec![shared.clone()]).await.spend(10, 0);
        let waiting = tokio::spawn(Limiter::turn(vec![own.clone(), shared]));
        tokio::time::sleep(Duration::from_secs(1)).await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        let begin = Instant::now();
        drop(Limiter::turn(vec![own]).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_unit_is_small_enough_for_an_even_flow() {
        assert_eq!(limiter(Some(1000), Some(1 << 20)).unit(), (100, 104_857));
        assert_eq!(limiter(Some(3), None).unit(), (1, usize::MAX));
        assert!(Limiter::new(Rate::default()).is_none());
    }
}
