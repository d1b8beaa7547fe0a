//! Acknowledging what is settled, and letting a partition go once that is answered.

use tokio::time::Instant;

use super::{
    super::member::{Acking, answer},
    Assignment, Leaving, Partition, Role,
};
use crate::connection::RequestError;

impl Partition {
    /// Acknowledges what is settled, if it is time to.
    pub(super) fn acknowledge(&mut self) {
        let member = &mut self.member;
        let wanted = member.commit_wanted || !member.commits.is_empty();
        // A new consumer is on its way: it takes the commit, or the failure to open it answers.
        if !wanted || member.acking.is_some() || member.opening.is_some() {
            return;
        }
        let tracker = match &self.role {
            Role::Standby => None,
            Role::Assigned(assignment) => Some(&assignment.tracker),
            Role::Leaving(leaving) => Some(&leaving.tracker),
        };
        let due = tracker.and_then(|tracker| tracker.commit_point()).and_then(|prefix| self.reading.acks.due(prefix));
        member.commit_wanted = false;
        let commits = std::mem::take(&mut member.commits);
        match (due, &member.consumer) {
            (None, _) => answer(commits, Ok(())),
            (Some(ack), Some(consumer)) => {
                // Settled, so nobody misses it from now on, also where the answer comes late.
                if let Some(next) = self.reading.acks.behind(ack.position) {
                    self.reading.seen.forget_before(next);
                }
                member.acking = Some(Acking { answer: consumer.acknowledge(ack.id.clone()), what: ack, commits });
            }
            (Some(_), None) => answer(commits, Err(&member.not_connected())),
        }
    }

    pub(super) fn acknowledged(&mut self, answered: Result<(), RequestError>) {
        let Some(acking) = self.member.acking.take() else { return };
        match answered {
            Ok(()) => {
                let position = acking.what.position;
                self.reading.acks.confirm(position);
                if let Role::Assigned(Assignment { tracker, .. }) | Role::Leaving(Leaving { tracker, .. }) = &self.role
                {
                    tracker.committed(position);
                }
                answer(acking.commits, Ok(()));
            }
            Err(error) => {
                let fault = self.member.subscription.fault("acknowledging in", &error);
                answer(acking.commits, Err(&fault));
                // What stays unacknowledged is acknowledged with what comes next, or at the next tick.
                self.member.complain(fault);
            }
        }
    }

    /// Completes a revoke once the pipeline let go and the commit is answered, or when it takes too long.
    pub(super) async fn leave(&mut self) {
        let Role::Leaving(leaving) = &self.role else { return };
        let timed_out = Instant::now() >= leaving.until;
        if !timed_out {
            if leaving.done.is_some() || self.member.acking.is_some() {
                return;
            }
            let due = leaving.tracker.commit_point().and_then(|prefix| self.reading.acks.due(prefix));
            if due.is_some() && self.member.consumer.is_some() {
                self.member.commit_wanted = true;
                return self.acknowledge();
            }
        }
        self.role = Role::Standby;
        self.member.orders.assign(None);
        if self.active {
            self.assign().await;
        }
    }

    /// The end: what is settled is committed with an answer, and the consumer closed, each in bounded time.
    pub(super) async fn close(mut self) {
        let tracker = match std::mem::take(&mut self.role) {
            Role::Standby => None,
            Role::Assigned(Assignment { tracker, .. }) | Role::Leaving(Leaving { tracker, .. }) => Some(tracker),
        };
        if let Some(tracker) = &tracker {
            tracker.end(false);
        }
        let Some(consumer) = self.member.last_consumer().await else { return };
        let acking = self.member.acking.take().map(|Acking { what, answer, commits }| {
            self.member.commits.extend(commits);
            (what, answer)
        });
        let acks = &mut self.reading.acks;
        let commit = async {
            if let Some((ack, answer)) = acking
                && answer.await.is_ok()
            {
                acks.confirm(ack.position);
            }
            match tracker.and_then(|tracker| tracker.commit_point()).and_then(|prefix| acks.due(prefix)) {
                Some(ack) => consumer.acknowledge(ack.id).await,
                None => Ok(()),
            }
        };
        self.member.close(&consumer, commit).await;
    }
}
