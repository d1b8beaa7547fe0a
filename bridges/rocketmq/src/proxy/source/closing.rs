//! Commits that wait for an answer, and the end.

use std::collections::BTreeSet;

use futures::{StreamExt, future::join_all, stream};
use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};
use trestle_core::{Fault, Position, Tracker};

use super::{
    orders::Answer,
    reader::{Done, Reader},
};

/// For the last acknowledgements, then for giving back what is not delivered, then for the farewells.
const LAST_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(3);
const GIVING_BACK: Duration = Duration::from_secs(2);
const FAREWELL: Duration = Duration::from_secs(1);
/// For all of it.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(7);
const AGAIN: Duration = Duration::from_millis(200);
/// What is given back is somebody else's after this time.
const GIVEN_BACK: Duration = Duration::from_secs(1);
/// Messages that are given back at the same time.
const GIVEN_BACK_AT_ONCE: usize = 64;

/// A commit: answered once the broker knows all that was settled when it was asked for.
pub struct Waiter {
    left: BTreeSet<Position>,
    answer: Answer,
}

impl Waiter {
    /// Nothing where there is nothing to wait for.
    pub fn new(tracker: &Tracker, answer: Answer) -> Option<Waiter> {
        let left: BTreeSet<Position> = tracker.commit_points(usize::MAX).into_iter().collect();
        Waiter { left, answer }.confirmed(&BTreeSet::new())
    }

    pub fn confirmed(mut self, positions: &BTreeSet<Position>) -> Option<Waiter> {
        self.left.retain(|position| !positions.contains(position));
        if !self.left.is_empty() {
            return Some(self);
        }
        // Whoever asked may have gone.
        let _ = self.answer.send(Ok(()));
        None
    }

    pub fn fail(self, fault: &Fault) {
        let _ = self.answer.send(Err(fault.clone()));
    }
}

impl Reader {
    /// A commit does not wait for a broker that is not connected.
    pub fn fail_waiters_of_the_lost(&mut self) {
        let lost =
            |at: usize| self.brokers.get(at).is_some_and(|broker| broker.session.is_none()) && self.hold.owes(at);
        if !self.waiters.is_empty() && (0..self.brokers.len()).any(lost) {
            let fault = Fault::down(format!("{}: not connected", self.about));
            self.waiters.drain(..).for_each(|waiter| waiter.fail(&fault));
        }
    }

    /// What is settled is acknowledged with an answer, what is not becomes visible to others, and the group is left, each in
    /// bounded time.
    pub async fn close(mut self) {
        self.tracker.end(false);
        let deadline = Instant::now() + LAST_ACKNOWLEDGEMENTS;
        while self.tracker.has_to_commit() && self.brokers.iter().any(|broker| broker.session.is_some()) {
            self.acknowledge_the_last();
            // Also what failed a moment ago is tried again.
            match timeout_at(deadline.min(Instant::now() + AGAIN), self.doings.next()).await {
                Ok(Some(done @ (Done::Acknowledged { .. } | Done::Renewed { .. } | Done::Ended { .. }))) => {
                    self.done(done);
                }
                // What comes now goes back.
                Ok(Some(Done::Received { broker, since, messages, .. })) => self.received(broker, since, messages),
                Ok(Some(_)) => {}
                Ok(None) => sleep(AGAIN).await,
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        if self.tracker.has_to_commit() {
            let messages = self.tracker.uncommitted();
            tracing::warn!(topic = self.membership.topic, messages, "closed without acknowledging: they come again");
            let fault = Fault::down(format!("{}: closed without the last acknowledgements", self.about));
            self.waiters.drain(..).for_each(|waiter| waiter.fail(&fault));
        }
        let sessions: Vec<_> = self.brokers.iter().map(|broker| broker.session.clone()).collect();
        let given_back =
            stream::iter(self.hold.give_back()).for_each_concurrent(GIVEN_BACK_AT_ONCE, |(broker, entry)| {
                let session = sessions.get(broker).cloned().flatten();
                async move {
                    if let Some(session) = session {
                        // What is not given back comes when its time is over.
                        let _ = session.change_invisible(entry, GIVEN_BACK).await;
                    }
                }
            });
        let _ = timeout(GIVING_BACK, given_back).await;
        let farewells = sessions.iter().flatten().map(|session| session.farewell());
        let _ = timeout(FAREWELL, join_all(farewells)).await;
    }

    fn acknowledge_the_last(&mut self) {
        let forgotten = self.hold.settle(&self.tracker.commit_points(usize::MAX));
        self.confirmed(&forgotten);
        let now = Instant::now();
        for at in 0..self.brokers.len() {
            self.acknowledge_now(at, now);
        }
    }
}
