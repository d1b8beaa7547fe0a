//! The task that reads one partition together with the other instances of the group (`Shared`, `Key_Shared`): subscribed and
//! assigned all the time, nothing is ever revoked.
//!
//! - Each settled message is acknowledged on its own, with an answer ([`acks`]).
//! - What is given back goes to the group by another consumer in place of the one before, once nothing of the epoch lives and
//!   what settled is acknowledged: then hardly anything comes twice. Never by a request to redeliver.
//! - A lost connection gives everything that is not acknowledged to the group at once, while it still is in the pipeline's
//!   hands: the only case in which a message is delivered twice without a crash.

mod acks;
mod leaving;
mod opening;
mod reading;

use std::sync::Arc;

use tokio::sync::mpsc;
use trestle_core::{Event, Fault, PartitionId, Tracker};

use self::{acks::Due, reading::Reading};
use super::{
    consumer::{Consumer, Subscription},
    member::{FRAMES, Member, heard, ready},
    options::Options,
    orders::Orders,
    pace::Pace,
};
use crate::connection::{ConsumerEvent, RequestError};

/// Settled messages of one acknowledgement at most.
const ACKNOWLEDGED_AT_ONCE: usize = 20_000;
/// Nothing more is handed out while the broker has yet to confirm so many.
const UNCONFIRMED: usize = 100_000;

pub(super) struct SpreadPartition {
    member: Member<Due>,
    reading: Reading,
    tracker: Arc<Tracker>,
    /// The pipeline was told of the partition.
    assigned: bool,
    started: bool,
    /// The last acknowledgement failed: what waits for one waits no longer.
    ack_failed: bool,
    pace: Pace,
    /// Messages acknowledged so far: what `pace` calls progress.
    acknowledged: u64,
}

/// What woke the task.
enum Woken {
    Heard(usize),
    Opened(Result<Consumer, Fault>),
    Acknowledged(Result<(), RequestError>),
    Ordered,
    Paused,
    Abandoned,
}

impl SpreadPartition {
    pub fn new(
        id: PartitionId,
        subscription: Arc<Subscription>,
        orders: Arc<Orders>,
        events: mpsc::Sender<Result<Event, Fault>>,
        options: &Options,
        largest_message: usize,
    ) -> Self {
        let wake = orders.clone();
        SpreadPartition {
            member: Member::new(subscription, orders, events),
            reading: Reading::new(options, largest_message),
            tracker: Tracker::unordered(id, move || wake.wake.notify_one()),
            assigned: false,
            started: false,
            ack_failed: false,
            pace: Pace::default(),
            acknowledged: 0,
        }
    }

    pub async fn run(mut self) {
        let mut frames = Vec::with_capacity(FRAMES);
        loop {
            if self.member.consumer.is_none() && self.member.opening.is_none() {
                self.member.open();
            }
            match self.woken(&mut frames).await {
                Woken::Heard(0) => self.member.disconnected("the connection was lost"),
                Woken::Heard(_) => {
                    for event in frames.drain(..) {
                        self.hear(event).await;
                    }
                }
                Woken::Opened(opened) => self.opened(opened).await,
                Woken::Acknowledged(answered) => self.answered(answered),
                Woken::Ordered => {
                    if self.obey() {
                        return self.close().await;
                    }
                }
                Woken::Paused => {}
                Woken::Abandoned => return self.close().await,
            }
            self.acknowledge();
            self.give_back();
            self.hand_out().await;
            if let Err(error) = self.ask_for_more().await {
                self.member.disconnected(&error.to_string());
            }
        }
    }

    async fn woken(&mut self, frames: &mut Vec<ConsumerEvent>) -> Woken {
        let member = &mut self.member;
        tokio::select! {
            heard = heard(&mut member.consumer, frames) => Woken::Heard(heard),
            opened = ready(member.opening.as_mut()) => Woken::Opened(opened),
            answered = ready(member.acking.as_mut().map(|acking| &mut acking.answer)) => Woken::Acknowledged(answered),
            () = member.orders.wake.notified() => Woken::Ordered,
            () = self.pace.passed() => Woken::Paused,
            () = member.events.closed() => Woken::Abandoned,
        }
    }

    async fn hear(&mut self, event: ConsumerEvent) {
        // What is left was said to a consumer that is given up.
        if self.member.consumer.is_none() {
            return;
        }
        match event {
            ConsumerEvent::Message(message, payload) => {
                self.member.backoff.reset();
                let wanted = self.started && self.tracker.is_running();
                if wanted && let Err(why) = self.member.learn(&mut self.reading.schemas, &payload).await {
                    return self.member.disconnected(&why);
                }
                self.reading.take(message, payload, wanted);
            }
            ConsumerEvent::Active(_) => {}
            ConsumerEvent::Closed => self.member.disconnected("the broker closed the consumer"),
            ConsumerEvent::EndOfTopic => self.member.terminated(),
        }
    }

    /// Takes the pipeline's orders; true to close.
    fn obey(&mut self) -> bool {
        let orders = self.member.ordered();
        if let Some(from) = orders.start {
            if let Some(from) = from {
                let kind = self.member.subscription.subscription_type.name();
                let detail = format!("a {kind} subscription has no position to begin at, and {from} was asked for");
                self.member.complain(Fault::down(detail));
            }
            self.started = true;
            self.reading.flow.grant(0);
        }
        if let Some(credit) = orders.credit {
            self.reading.flow.grant(credit);
        }
        orders.close
    }

    async fn hand_out(&mut self) {
        if !self.started || !self.tracker.is_running() || self.tracker.uncommitted() >= UNCONFIRMED {
            return;
        }
        while let Some(batch) = self.reading.next_batch(&self.tracker) {
            self.member.tell(Event::Batch(batch)).await;
        }
    }

    async fn ask_for_more(&mut self) -> Result<(), RequestError> {
        let Some(consumer) = &mut self.member.consumer else { return Ok(()) };
        let wanted = self.started && self.tracker.is_running() && self.tracker.uncommitted() < UNCONFIRMED;
        if wanted
            && !self.reading.missed
            && let Some(permits) = self.reading.flow.due()
        {
            consumer.flow(permits).await?;
        }
        Ok(())
    }
}
