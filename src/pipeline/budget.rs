//! One process, one memory budget: what all routes together may hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;

/// A partition borrows at most this part of the pool.
const SHARE: usize = 8;
/// Messages of the largest size that only partitions holding nothing may use, so that a few slow ones cannot starve the rest.
const RESERVED_MESSAGES: usize = 2;

/// Bytes of messages in flight, over all routes of the process. Charged when a batch arrives, given back when it is gone.
///
/// Credit is a promise, not a reservation: several partitions may be told of the same free bytes. As soon as a batch leaves
/// less than promised, all look again, so that the pool can be overrun by one batch a source at a time and no more.
pub struct Budget {
    pool: usize,
    largest_message: usize,
    used: AtomicUsize,
    /// Moves whenever what a partition may have can have changed for the others: all look again.
    moved: watch::Sender<u64>,
}

impl Budget {
    /// `pool` and `largest_message` in bytes.
    pub fn new(pool: usize, largest_message: usize) -> Arc<Self> {
        Arc::new(Budget { pool, largest_message, used: AtomicUsize::new(0), moved: watch::channel(0).0 })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Changes when partitions have to look again what they may have.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Bytes that a partition which holds `held` may still ask for. One that holds nothing may ask for one message as long
    /// as it fits the pool; a credit of 1 stands for one message of any size.
    pub fn credit(&self, held: usize) -> u64 {
        let used = self.used();
        let lendable = self.lendable().saturating_sub(used);
        let credit = (self.pool / SHARE).saturating_sub(held).min(lendable);
        if credit == 0 && held == 0 && used + self.largest_message <= self.pool { 1 } else { credit as u64 }
    }

    /// Charges `bytes` until the answer is dropped; `held` is the partition's own count, kept in step.
    pub fn charge(
        self: &Arc<Self>,
        bytes: usize,
        held: &Arc<AtomicUsize>,
        on_release: impl Fn() + Send + Sync + 'static,
    ) -> Charge {
        held.fetch_add(bytes, Ordering::AcqRel);
        let used = self.used.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if self.is_short_at(used) {
            self.all_look_again();
        }
        Charge { budget: self.clone(), bytes, held: held.clone(), on_release: Box::new(on_release) }
    }

    /// Whether less is left than a partition may have been promised. Who can do without what it holds gives it back then;
    /// [`Budget::moved`] tells.
    pub fn is_short(&self) -> bool {
        self.is_short_at(self.used())
    }

    fn is_short_at(&self, used: usize) -> bool {
        used + self.pool / SHARE > self.lendable()
    }

    fn all_look_again(&self) {
        self.moved.send_modify(|times| *times = times.wrapping_add(1));
    }

    fn lendable(&self) -> usize {
        self.pool.saturating_sub(RESERVED_MESSAGES * self.largest_message)
    }
}

/// Bytes of the budget; given back on drop.
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
    held: Arc<AtomicUsize>,
    on_release: Box<dyn Fn() + Send + Sync>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
        let before = self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        // Short means that some partition may have been refused: that starts where the reserve does.
        let short = self.budget.lendable().saturating_sub(self.budget.largest_message);
        if before > short {
            self.budget.all_look_again();
        }
        (self.on_release)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn charge(budget: &Arc<Budget>, bytes: usize, held: &Arc<AtomicUsize>) -> Charge {
        budget.charge(bytes, held, || {})
    }

    #[test]
    fn a_partition_borrows_an_eighth_at_most() {
        let budget = Budget::new(80 * MIB, 5 * MIB);
        let held = Arc::default();
        assert_eq!(budget.credit(0), 10 * MIB as u64);
        let first = charge(&budget, 8 * MIB, &held);
        assert_eq!(budget.credit(8 * MIB), 2 * MIB as u64);
        let _second = charge(&budget, 4 * MIB, &held);
        assert_eq!(budget.credit(held.load(Ordering::Relaxed)), 0);
        drop(first);
        assert_eq!(budget.credit(held.load(Ordering::Relaxed)), 6 * MIB as u64);
    }

    #[test]
    fn the_reserve_is_for_partitions_that_hold_nothing() {
        let budget = Budget::new(80 * MIB, 5 * MIB);
        let others = Arc::default();
        let _most = charge(&budget, 70 * MIB, &others);
        assert_eq!(budget.credit(1), 0, "a partition that holds something waits");
        assert_eq!(budget.credit(0), 1, "one that holds nothing may have a message");
        let _rest = charge(&budget, 6 * MIB, &others);
        assert_eq!(budget.credit(0), 0, "unless it might not fit");
    }

    #[test]
    fn who_was_refused_is_told_when_bytes_come_back() {
        let budget = Budget::new(80 * MIB, 5 * MIB);
        let held = Arc::default();
        let most = charge(&budget, 78 * MIB, &held);
        let mut moved = budget.moved();
        assert!(!moved.has_changed().unwrap());
        drop(most);
        assert!(moved.has_changed().unwrap());
        moved.borrow_and_update();
        drop(charge(&budget, MIB, &held));
        assert!(!moved.has_changed().unwrap(), "nobody can have been refused");
        assert_eq!((budget.used(), held.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn who_was_promised_more_than_is_left_is_told() {
        let budget = Budget::new(80 * MIB, 5 * MIB);
        let held = Arc::default();
        let moved = budget.moved();
        let _all_but_a_share = charge(&budget, 60 * MIB, &held);
        assert!(!moved.has_changed().unwrap(), "every promise can be kept");
        let _some = charge(&budget, MIB, &held);
        assert!(moved.has_changed().unwrap());
    }
}
