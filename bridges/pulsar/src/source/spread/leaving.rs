//! Acknowledging what is settled, and the end.

use tokio::time::timeout;
use trestle_core::Fault;

use super::{super::partition::answer, ACKNOWLEDGED_AT_ONCE, Acking, CLOSE_TIMEOUT, SpreadPartition, acks::Due};
use crate::connection::RequestError;

impl SpreadPartition {
    /// Acknowledges what is settled, if it is time to.
    pub(super) fn acknowledge(&mut self) {
        let asked = self.commit_wanted || !self.commits.is_empty() || self.reading.acks.is_owing();
        let wanted = asked || self.tracker.may_restart() && !self.ack_failed;
        // A new consumer is on its way: it takes the commit, or the failure to open it answers.
        if !wanted || self.acking.is_some() || self.opening.is_some() {
            return;
        }
        self.commit_wanted = false;
        let commits = std::mem::take(&mut self.commits);
        let Some(consumer) = &self.consumer else {
            if self.tracker.has_to_commit() {
                let fault = Fault::down(format!("{} is not connected", self.subscription.topic));
                return answer(commits, Err(&fault));
            }
            return answer(commits, Ok(()));
        };
        match self.reading.acks.due(self.tracker.commit_points(ACKNOWLEDGED_AT_ONCE)) {
            None => answer(commits, Ok(())),
            Some(due) => {
                self.acking = Some(Acking { answer: consumer.acknowledge_each(due.ids.clone()), due, commits });
            }
        }
    }

    pub(super) fn answered(&mut self, answered: Result<(), RequestError>) {
        let Some(acking) = self.acking.take() else { return };
        self.ack_failed = answered.is_err();
        match answered {
            Ok(()) => {
                self.confirmed(&acking.due);
                if acking.due.points.len() < ACKNOWLEDGED_AT_ONCE {
                    answer(acking.commits, Ok(()));
                } else {
                    // There is more of what these are to be told of.
                    self.commits.extend(acking.commits);
                }
            }
            Err(error) => {
                let fault = self.subscription.fault("acknowledging in", &error);
                answer(acking.commits, Err(&fault));
                // It is acknowledged with what comes next, or at the next tick.
                self.complain(fault);
            }
        }
    }

    fn confirmed(&mut self, due: &Due) {
        self.acknowledged += due.points.len() as u64;
        self.reading.acks.confirm(due);
        self.tracker.committed_each(&due.points);
    }

    /// The end: what is settled is committed with an answer, and the consumer closed, each in bounded time.
    pub(super) async fn close(mut self) {
        self.tracker.end(false);
        self.orders.assign(None);
        if let Some(opening) = self.opening.take()
            && let Ok(Ok(consumer)) = timeout(CLOSE_TIMEOUT, opening).await
        {
            // Else the broker would keep a consumer that nobody listens to.
            self.consumer = Some(consumer);
        }
        let mut commits = std::mem::take(&mut self.commits);
        let Some(consumer) = self.consumer.take() else {
            let fault = Fault::down(format!("{} is not connected", self.subscription.topic));
            return answer(commits, Err(&fault));
        };
        let commit = async {
            if let Some(acking) = self.acking.take() {
                commits.extend(acking.commits);
                if acking.answer.await.is_ok() {
                    self.confirmed(&acking.due);
                }
            }
            while let Some(due) = self.reading.acks.due(self.tracker.commit_points(ACKNOWLEDGED_AT_ONCE)) {
                consumer.acknowledge_each(due.ids.clone()).await?;
                self.confirmed(&due);
            }
            Ok(())
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
