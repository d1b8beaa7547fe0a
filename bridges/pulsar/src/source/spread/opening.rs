//! Getting a consumer, and another one when it is lost or something has to be given back.

use futures::FutureExt;
use tokio::time::sleep;
use trestle_core::{Event, Fault, Position};

use super::{
    super::{
        consumer::Consumer,
        partition::{answer, tell},
    },
    SpreadPartition,
};

impl SpreadPartition {
    pub(super) fn open(&mut self) {
        let subscription = self.subscription.clone();
        let delay = self.backoff.next();
        let open = async move {
            sleep(delay).await;
            subscription.open().await
        };
        self.opening = Some(open.boxed());
    }

    pub(super) async fn opened(&mut self, opened: Result<Consumer, Fault>) {
        self.opening = None;
        match opened {
            Ok(consumer) => {
                tracing::debug!(topic = self.subscription.topic, group = self.subscription.group, "subscribed");
                self.reading.reopened();
                if self.tracker.live_batches() == 0 {
                    // What was read and not handed out may have gone to another.
                    self.reading.acks.give_back(&self.tracker.commit_points(usize::MAX));
                }
                self.consumer = Some(consumer);
                self.ack_failed = false;
                if !std::mem::replace(&mut self.assigned, true) {
                    tracing::info!(topic = self.subscription.topic, group = self.subscription.group, "assigned");
                    self.orders.assign(Some(self.tracker.clone()));
                    tell(&self.events, &self.orders, Event::Assigned(vec![self.tracker.clone()])).await;
                }
            }
            Err(fault) => {
                answer(std::mem::take(&mut self.commits), Err(&fault));
                self.complain(fault);
            }
        }
    }

    /// Without a consumer from now on; a new one is opened, and what is not acknowledged goes to whom the broker chooses.
    pub(super) fn disconnected(&mut self, why: &str) {
        if self.consumer.take().is_none() {
            return;
        }
        tracing::info!(topic = self.subscription.topic, group = self.subscription.group, why, "subscribing again");
        let fault = Fault::down(format!("reading {}: {why}", self.subscription.topic));
        if let Some(acking) = self.acking.take() {
            answer(acking.commits, Err(&fault));
        }
        self.complain(fault);
    }

    /// Where the epoch has ended and nothing of it lives: whatever is not settled goes back to the group.
    pub(super) fn give_back(&mut self) {
        let stuck = self.reading.missed && !self.reading.is_holding() && self.reading.flow.credit() > 0;
        if stuck && self.tracker.is_running() {
            self.tracker.end_epoch();
        }
        // What is settled is acknowledged first, or the broker would give it to somebody.
        let acknowledging = self.acking.is_some() || self.tracker.has_to_commit() && !self.ack_failed;
        let progress = Some(Position::Offset(self.acknowledged));
        if !self.tracker.may_restart()
            || (acknowledging && self.consumer.is_some())
            || !self.pace.allows(progress)
            || self.tracker.restart().is_none()
        {
            return;
        }
        self.pace.went_back(progress);
        self.reading.drop_held();
        self.reading.acks.give_back(&self.tracker.commit_points(usize::MAX));
        if let Some(old) = self.consumer.take_if(|consumer| consumer.asked) {
            let subscription = self.subscription.clone();
            self.opening = Some(async move { subscription.replace(old).await }.boxed());
        }
    }
}
