//! Getting a consumer, and another one when it is lost or has to be given up.

use std::sync::atomic::Ordering;

use futures::FutureExt;
use tokio::time::sleep;
use trestle_core::Fault;

use super::{
    super::{consumer::Consumer, options::SubscriptionType},
    Partition, Role, answer,
};
use crate::connection::RequestError;

impl Partition {
    pub(super) fn open(&mut self) {
        let subscription = self.subscription.clone();
        let delay = self.state.backoff.next();
        let open = async move {
            sleep(delay).await;
            subscription.open().await
        };
        self.state.opening = Some(open.boxed());
    }

    pub(super) async fn opened(&mut self, opened: Result<Consumer, Fault>) {
        self.state.opening = None;
        match opened {
            Ok(consumer) => {
                tracing::debug!(topic = self.subscription.topic, group = self.subscription.group, "subscribed");
                self.reading.reopened();
                self.state.consumer = Some(consumer);
                if self.subscription.subscription_type == SubscriptionType::Exclusive {
                    // It is the only one there is.
                    self.change(true).await;
                }
            }
            Err(fault) => {
                answer(std::mem::take(&mut self.state.commits), Err(&fault));
                self.complain(fault);
                let taken = self.subscription.taken.load(Ordering::Relaxed);
                if taken && self.subscription.subscription_type == SubscriptionType::Exclusive {
                    self.subscription.shared.store(true, Ordering::Relaxed);
                    if matches!(self.state.role, Role::Assigned(_)) {
                        // Another one took over while we were away.
                        self.revoke(true).await;
                    }
                }
            }
        }
    }

    /// Without a consumer from now on; a new one is opened.
    pub(super) fn disconnected(&mut self, why: &str) {
        if self.state.consumer.take().is_none() {
            return;
        }
        tracing::info!(topic = self.subscription.topic, group = self.subscription.group, why, "subscribing again");
        self.state.active = false;
        let fault = Fault::down(format!("reading {}: {why}", self.subscription.topic));
        if let Some(acking) = self.state.acking.take() {
            answer(acking.commits, Err(&fault));
        }
        self.complain(fault);
    }

    /// For a new consumer the broker goes back to what is not acknowledged, once no read is under way. Asked to redeliver, it
    /// goes back at once, and a read that completes then moves it forward again: its entries would never be delivered, and
    /// acknowledged with the next one (`PersistentDispatcherSingleActiveConsumer`, `OpReadEntry.updateReadPosition`; 4.2.4).
    pub(super) fn subscribe_again(&mut self) {
        let Some(old) = self.state.consumer.take() else { return };
        let subscription = self.subscription.clone();
        self.state.active = false;
        self.state.opening = Some(async move { subscription.replace(old).await }.boxed());
    }

    pub(super) fn sought(&mut self, answer: Result<(), RequestError>) {
        self.state.seeking = None;
        match answer {
            Ok(()) => {
                if let Role::Assigned(assignment) = &mut self.state.role {
                    assignment.seek = None;
                }
                // The broker closes every consumer of the subscription now; frames from before must not be read.
                self.disconnected("the subscription was set to another position");
            }
            Err(error) => {
                let fault = self.subscription.fault("going to the position to start at in", &error);
                self.disconnected(&fault.to_string());
                self.complain(fault);
            }
        }
    }
}
