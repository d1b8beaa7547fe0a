//! Acknowledging what is settled, and the end.

use super::{
    super::member::{Acking, answer},
    ACKNOWLEDGED_AT_ONCE, SpreadPartition,
    acks::Due,
};
use crate::connection::RequestError;

impl SpreadPartition {
    /// Acknowledges what is settled, if it is time to.
    pub(super) fn acknowledge(&mut self) {
        let asked = self.member.commit_wanted || !self.member.commits.is_empty() || self.reading.acks.is_owing();
        let wanted = asked || self.tracker.may_restart() && !self.ack_failed;
        // A new consumer is on its way: it takes the commit, or the failure to open it answers.
        if !wanted || self.member.acking.is_some() || self.member.opening.is_some() {
            return;
        }
        self.member.commit_wanted = false;
        let commits = std::mem::take(&mut self.member.commits);
        let Some(consumer) = &self.member.consumer else {
            if self.tracker.has_to_commit() {
                return answer(commits, Err(&self.member.not_connected()));
            }
            return answer(commits, Ok(()));
        };
        match self.reading.acks.due(self.tracker.commit_points(ACKNOWLEDGED_AT_ONCE)) {
            None => answer(commits, Ok(())),
            Some(due) => {
                let answer = consumer.acknowledge_each(due.ids.clone());
                self.member.acking = Some(Acking { what: due, answer, commits });
            }
        }
    }

    pub(super) fn answered(&mut self, answered: Result<(), RequestError>) {
        let Some(acking) = self.member.acking.take() else { return };
        self.ack_failed = answered.is_err();
        match answered {
            Ok(()) => {
                self.confirmed(&acking.what);
                if acking.what.points.len() < ACKNOWLEDGED_AT_ONCE {
                    answer(acking.commits, Ok(()));
                } else {
                    // There is more of what these are to be told of.
                    self.member.commits.extend(acking.commits);
                }
            }
            Err(error) => {
                let fault = self.member.subscription.fault("acknowledging in", &error);
                answer(acking.commits, Err(&fault));
                // It is acknowledged with what comes next, or at the next tick.
                self.member.complain(fault);
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
        self.member.orders.assign(None);
        let Some(consumer) = self.member.last_consumer().await else { return };
        let acking = self.member.acking.take().map(|Acking { what, answer, commits }| {
            self.member.commits.extend(commits);
            (what, answer)
        });
        let (acks, tracker) = (&mut self.reading.acks, &self.tracker);
        let commit = async {
            if let Some((due, answer)) = acking
                && answer.await.is_ok()
            {
                acks.confirm(&due);
                tracker.committed_each(&due.points);
            }
            while let Some(due) = acks.due(tracker.commit_points(ACKNOWLEDGED_AT_ONCE)) {
                consumer.acknowledge_each(due.ids.clone()).await?;
                acks.confirm(&due);
                tracker.committed_each(&due.points);
            }
            Ok(())
        };
        self.member.close(&consumer, commit).await;
    }
}
