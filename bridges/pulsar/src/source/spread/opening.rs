//! Getting a consumer, and another one when it is lost or something has to be given back.

use trestle_core::{Event, Fault, Position};

use super::{
    super::consumer::{Consumer, Subscription},
    SpreadPartition,
};

impl SpreadPartition {
    pub(super) async fn opened(&mut self, opened: Result<Consumer, Fault>) {
        if !self.member.opened(opened) {
            return;
        }
        self.reading.reopened();
        if self.tracker.live_batches() == 0 {
            // What was read and not handed out may have gone to another.
            self.reading.acks.give_back(&self.tracker.commit_points(usize::MAX));
        }
        self.ack_failed = false;
        if !std::mem::replace(&mut self.assigned, true) {
            let Subscription { topic, group, .. } = &*self.member.subscription;
            tracing::info!(topic, group, "assigned");
            self.member.orders.assign(Some(self.tracker.clone()));
            self.member.tell(Event::Assigned(vec![self.tracker.clone()])).await;
        }
    }

    /// Where the epoch has ended and nothing of it lives: whatever is not settled goes back to the group.
    pub(super) fn give_back(&mut self) {
        let stuck = self.reading.missed && !self.reading.is_holding() && self.reading.flow.credit() > 0;
        if stuck && self.tracker.is_running() {
            self.tracker.end_epoch();
        }
        // What is settled is acknowledged first, or the broker would give it to somebody.
        let acknowledging = self.member.acking.is_some() || self.tracker.has_to_commit() && !self.ack_failed;
        let progress = Some(Position::Offset(self.acknowledged));
        if !self.tracker.may_restart()
            || (acknowledging && self.member.consumer.is_some())
            || !self.pace.allows(progress)
            || self.tracker.restart().is_none()
        {
            return;
        }
        self.pace.went_back(progress);
        self.reading.drop_held();
        self.reading.acks.give_back(&self.tracker.commit_points(usize::MAX));
        if let Some(old) = self.member.consumer.take_if(|consumer| consumer.asked) {
            self.member.replace(old);
        }
    }
}
