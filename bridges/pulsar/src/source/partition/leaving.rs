//! Acknowledging what is settled, and letting a partition go once that is answered.

use tokio::time::{Instant, timeout};
use trestle_core::Fault;

use super::{Acking, Assignment, CLOSE_TIMEOUT, Leaving, Partition, Role, answer};
use crate::connection::RequestError;

impl Partition {
    /// Acknowledges what is settled, if it is time to.
    pub(super) fn acknowledge(&mut self) {
        let state = &mut self.state;
        let wanted = state.commit_wanted || !state.commits.is_empty();
        // A new consumer is on its way: it takes the commit, or the failure to open it answers.
        if !wanted || state.acking.is_some() || state.opening.is_some() {
            return;
        }
        let tracker = match &state.role {
            Role::Standby => None,
            Role::Assigned(assignment) => Some(&assignment.tracker),
            Role::Leaving(leaving) => Some(&leaving.tracker),
        };
        let due = tracker.and_then(|tracker| tracker.commit_point()).and_then(|prefix| self.reading.acks.due(prefix));
        state.commit_wanted = false;
        let commits = std::mem::take(&mut state.commits);
        match (due, &state.consumer) {
            (None, _) => answer(commits, Ok(())),
            (Some(ack), Some(consumer)) => {
                // Settled, so nobody misses it from now on, also where the answer comes late.
                if let Some(next) = self.reading.acks.behind(ack.position) {
                    self.reading.seen.forget_before(next);
                }
                state.acking = Some(Acking { answer: consumer.acknowledge(ack.id.clone()), ack, commits });
            }
            (Some(_), None) => {
                answer(commits, Err(&Fault::down(format!("{} is not connected", self.subscription.topic))));
            }
        }
    }

    pub(super) fn acknowledged(&mut self, answered: Result<(), RequestError>) {
        let Some(acking) = self.state.acking.take() else { return };
        match answered {
            Ok(()) => {
                let position = acking.ack.position;
                self.reading.acks.confirm(position);
                if let Role::Assigned(Assignment { tracker, .. }) | Role::Leaving(Leaving { tracker, .. }) =
                    &self.state.role
                {
                    tracker.committed(position);
                }
                answer(acking.commits, Ok(()));
            }
            Err(error) => {
                let fault = self.subscription.fault("acknowledging in", &error);
                answer(acking.commits, Err(&fault));
                // What stays unacknowledged is acknowledged with what comes next, or at the next tick.
                self.complain(fault);
            }
        }
    }

    /// Completes a revoke once the pipeline let go and the commit is answered, or when it takes too long.
    pub(super) async fn leave(&mut self) {
        let Role::Leaving(leaving) = &self.state.role else { return };
        let timed_out = Instant::now() >= leaving.until;
        if !timed_out {
            if leaving.done.is_some() || self.state.acking.is_some() {
                return;
            }
            let due = leaving.tracker.commit_point().and_then(|prefix| self.reading.acks.due(prefix));
            if due.is_some() && self.state.consumer.is_some() {
                self.state.commit_wanted = true;
                return self.acknowledge();
            }
        }
        self.state.role = Role::Standby;
        self.orders.assign(None);
        if self.state.active {
            self.assign().await;
        }
    }

    /// The end: what is settled is committed with an answer, and the consumer closed, each in bounded time.
    pub(super) async fn close(mut self) {
        let tracker = match std::mem::take(&mut self.state.role) {
            Role::Standby => None,
            Role::Assigned(Assignment { tracker, .. }) | Role::Leaving(Leaving { tracker, .. }) => Some(tracker),
        };
        if let Some(tracker) = &tracker {
            tracker.end(false);
        }
        if let Some(opening) = self.state.opening.take()
            && let Ok(Ok(consumer)) = timeout(CLOSE_TIMEOUT, opening).await
        {
            // Else the broker would keep a consumer that nobody listens to.
            self.state.consumer = Some(consumer);
        }
        let Some(consumer) = self.state.consumer.take() else {
            let fault = Fault::down(format!("{} is not connected", self.subscription.topic));
            return answer(self.state.commits, Err(&fault));
        };
        let mut commits = std::mem::take(&mut self.state.commits);
        let commit = async {
            if let Some(acking) = self.state.acking.take() {
                commits.extend(acking.commits);
                if acking.answer.await.is_ok() {
                    self.reading.acks.confirm(acking.ack.position);
                }
            }
            let due = tracker.and_then(|tracker| tracker.commit_point()).and_then(|p| self.reading.acks.due(p));
            match due {
                Some(ack) => consumer.acknowledge(ack.id).await,
                None => Ok(()),
            }
        };
        let committed = match timeout(CLOSE_TIMEOUT, commit).await {
            Ok(committed) => committed.map_err(|error| self.subscription.fault("acknowledging in", &error)),
            Err(_) => Err(Fault::down(format!("{} did not answer the last commit", self.subscription.topic))),
        };
        if let Err(fault) = &committed {
            tracing::warn!(topic = self.subscription.topic, %fault, "closed without the last commit");
        }
        answer(commits, committed.as_ref().map(drop));
        let _ = timeout(CLOSE_TIMEOUT, consumer.close()).await;
    }
}
