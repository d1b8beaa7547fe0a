//! Getting a consumer, and another one when it is lost or has to be given up.

use std::sync::atomic::Ordering;

use trestle_core::Fault;

use super::{
    super::{consumer::Consumer, options::SubscriptionType},
    Partition, Role,
};
use crate::connection::RequestError;

impl Partition {
    pub(super) async fn opened(&mut self, opened: Result<Consumer, Fault>) {
        let is_there = self.member.opened(opened);
        if is_there {
            self.reading.reopened();
        }
        let subscription = &self.member.subscription;
        if subscription.subscription_type != SubscriptionType::Exclusive {
            return;
        }
        if is_there {
            // It is the only one there is.
            self.change(true).await;
        } else if subscription.taken.load(Ordering::Relaxed) {
            subscription.shared.store(true, Ordering::Relaxed);
            if matches!(self.role, Role::Assigned(_)) {
                // Another one took over while we were away.
                self.revoke(true).await;
            }
        }
    }

    /// Without a consumer from now on; a new one is opened.
    pub(super) fn disconnected(&mut self, why: &str) {
        self.active = false;
        self.member.disconnected(why);
    }

    /// For a new consumer the broker goes back to what is not acknowledged, once no read is under way. Asked to redeliver, it
    /// goes back at once, and a read that completes then moves it forward again: its entries would never be delivered, and
    /// acknowledged with the next one (`PersistentDispatcherSingleActiveConsumer`, `OpReadEntry.updateReadPosition`; 4.2.4).
    pub(super) fn subscribe_again(&mut self) {
        let Some(old) = self.member.consumer.take() else { return };
        self.active = false;
        self.member.replace(old);
    }

    pub(super) fn sought(&mut self, answer: Result<(), RequestError>) {
        self.seeking = None;
        match answer {
            Ok(()) => {
                if let Role::Assigned(assignment) = &mut self.role {
                    assignment.seek = None;
                }
                // The broker closes every consumer of the subscription now; frames from before must not be read.
                self.disconnected("the subscription was set to another position");
            }
            Err(error) => {
                let fault = self.member.subscription.fault("going to the position to start at in", &error);
                self.disconnected(&fault.to_string());
                self.member.complain(fault);
            }
        }
    }
}
