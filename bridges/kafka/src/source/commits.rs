use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use trestle_core::{Fault, Position};

/// A commit that the coordinator has not answered in this time has failed; it is asked for again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever waits for a commit is told of a failure after this time at the latest.
const WAIT_LIMIT: Duration = Duration::from_secs(15);
/// After a failed commit.
const RETRY: Duration = Duration::from_millis(500);

/// When to commit, and who waits for it. One commit is under way at a time.
pub(super) struct Commits {
    interval: Duration,
    asked: Option<Instant>,
    due: Instant,
    waiting: Vec<Waiting>,
    /// The last commit failed; said once.
    failing: bool,
}

struct Waiting {
    left: BTreeMap<i32, Position>,
    answer: oneshot::Sender<Result<(), Fault>>,
    limit: Instant,
}

impl Commits {
    pub(super) fn new(interval: Duration) -> Self {
        Commits { interval, asked: None, due: Instant::now(), waiting: Vec::new(), failing: false }
    }

    /// Whether to commit now what there is to commit.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.asked.is_none() && now >= self.due
    }

    pub(super) fn due_in(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    pub(super) fn under_way(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn anybody_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// `answer` gets told once all of `left` is committed.
    pub(super) fn wait_for(
        &mut self,
        left: BTreeMap<i32, Position>,
        answer: oneshot::Sender<Result<(), Fault>>,
        now: Instant,
    ) {
        if left.is_empty() {
            // The asker may be gone.
            let _ = answer.send(Ok(()));
            return;
        }
        self.waiting.push(Waiting { left, answer, limit: now + WAIT_LIMIT });
        self.due = now;
    }

    pub(super) fn started(&mut self, now: Instant) {
        self.asked = Some(now);
        self.due = now + self.interval;
    }

    /// There was nothing to commit.
    pub(super) fn idle(&mut self, now: Instant) {
        self.due = now + self.interval;
    }

    pub(super) fn confirmed(&mut self, partition: i32, position: Position) {
        for waiting in &mut self.waiting {
            if waiting.left.get(&partition).is_some_and(|wanted| *wanted <= position) {
                waiting.left.remove(&partition);
            }
        }
        for done in self.waiting.extract_if(.., |waiting| waiting.left.is_empty()) {
            let _ = done.answer.send(Ok(()));
        }
    }

    /// The commit under way was answered. Says whether the state changed: from working to failing or back.
    pub(super) fn answered(&mut self, failed: Option<&Fault>, now: Instant) -> bool {
        self.asked = None;
        if let Some(fault) = failed {
            self.due = now + RETRY;
            self.give_up(fault, |waiting| now >= waiting.limit);
        } else if self.anybody_waits() {
            self.due = now;
        }
        std::mem::replace(&mut self.failing, failed.is_some()) != failed.is_some()
    }

    /// These are not ours any more.
    pub(super) fn forget(&mut self, partition: i32, fault: &Fault) {
        self.give_up(fault, |waiting| waiting.left.contains_key(&partition));
    }

    /// True when the commit under way must be counted as failed.
    pub(super) fn timed_out(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.duration_since(asked) >= ANSWER_TIMEOUT)
    }

    fn give_up(&mut self, fault: &Fault, which: impl Fn(&Waiting) -> bool) {
        for waiting in self.waiting.extract_if(.., |waiting| which(waiting)) {
            let _ = waiting.answer.send(Err(fault.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(commits: &mut Commits, offset: u64) -> oneshot::Receiver<Result<(), Fault>> {
        let (sender, receiver) = oneshot::channel();
        commits.wait_for(BTreeMap::from([(0, Position::Offset(offset))]), sender, Instant::now());
        receiver
    }

    #[test]
    fn a_commit_is_answered_when_the_broker_confirmed_it_and_not_before() {
        let mut commits = Commits::new(Duration::from_secs(1));
        let mut answer = waiting(&mut commits, 7);
        commits.started(Instant::now());
        commits.confirmed(0, Position::Offset(6));
        commits.answered(None, Instant::now());
        assert!(answer.try_recv().is_err(), "7 is not confirmed");
        assert!(commits.is_due(Instant::now()), "somebody waits");
        commits.started(Instant::now());
        commits.confirmed(0, Position::Offset(7));
        assert!(answer.try_recv().unwrap().is_ok());
    }

    #[test]
    fn a_failing_commit_is_said_once_and_its_waiters_are_told_in_the_end() {
        let mut commits = Commits::new(Duration::from_secs(1));
        let mut answer = waiting(&mut commits, 7);
        let (fault, now) = (Fault::down("no coordinator"), Instant::now());
        assert!(commits.answered(Some(&fault), now));
        assert!(!commits.answered(Some(&fault), now), "nothing new");
        assert!(answer.try_recv().is_err());
        commits.answered(Some(&fault), now + WAIT_LIMIT);
        assert!(answer.try_recv().unwrap().is_err());
        assert!(commits.answered(None, now), "it works again");
    }
}
