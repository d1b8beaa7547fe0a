//! Begins what is due: sessions, receives, acknowledgements, renewals. What it takes comes back as [`Done`].

use tokio::time::{Instant, sleep};

use super::{Broker, Done, HEARTBEAT, Reader};
use crate::proxy::{
    brokers,
    client::{CallError, Client},
    session::Session,
};

/// Messages asked for at once at most; more than brokers give (`MAX_MSG_NUMS_FOR_POP_REQUEST`) would not come.
const RECEIVED_AT_ONCE: u64 = 32;
/// Messages of one acknowledgement at most, and acknowledgements on their way to one broker. A proxy inside a broker stores those of
/// one request one after the other, each flushed to disk (`LocalMessageService.ackMessage`), and those of several side by side.
const ACKNOWLEDGED_AT_ONCE: usize = 32;
const ACKNOWLEDGEMENTS: usize = 8;
/// Renewals on their way at once at most.
const RENEWALS: usize = 32;

impl Reader {
    pub(super) fn start_what_is_due(&mut self) {
        let now = Instant::now();
        let forgotten = self.hold.settle(&self.tracker.commit_points(usize::MAX));
        if !forgotten.is_empty() {
            tracing::warn!(
                topic = self.membership.topic,
                group = self.membership.group,
                messages = forgotten.len(),
                "delivered, and taken for lost by the broker meanwhile: it hands them out again"
            );
            self.confirmed(&forgotten);
        }
        self.hand_out_again(now);
        for broker in 0..self.brokers.len() {
            self.open(broker);
            self.acknowledge(broker, now);
            self.beat(broker, now);
            self.receive(broker, now);
        }
        self.renew(now);
        self.look(now);
        self.fail_waiters_of_the_lost();
    }

    /// Where the epoch has ended and nothing of it lives.
    fn hand_out_again(&mut self, now: Instant) {
        if self.tracker.may_restart() && self.pace.allows(self.acknowledged, now) && self.tracker.restart().is_some() {
            self.hold.restart(now);
        }
    }

    fn open(&mut self, at: usize) {
        let Some(broker) = self.brokers.get_mut(at) else { return };
        if broker.session.is_some() || broker.opening || broker.gone {
            return;
        }
        broker.opening = true;
        let (delay, id) = (broker.reopening.next(), format!("{}@{at}", self.id));
        let (membership, name, address) = (self.membership.clone(), broker.name.clone(), broker.address.clone());
        self.doings.push(Box::pin(async move {
            sleep(delay).await;
            Done::Opened { broker: at, opened: Box::new(Session::open(membership, name, address, id).await) }
        }));
    }

    fn beat(&mut self, at: usize, now: Instant) {
        let Some(broker) = self.brokers.get_mut(at).filter(|broker| broker.beat_at <= now) else { return };
        let Some(session) = broker.session.clone() else { return };
        broker.beat_at = now + HEARTBEAT;
        let generation = broker.generation;
        self.doings
            .push(Box::pin(async move { Done::Beaten { broker: at, generation, beaten: session.heartbeat().await } }));
    }

    fn receive(&mut self, at: usize, now: Instant) {
        loop {
            let spoken_for = self.hold.waiting_bytes() as u64 + self.expected;
            let wanted = self.started && self.tracker.is_running() && !self.hold.is_full() && self.credit > spoken_for;
            let free = |broker: &&mut Broker| broker.receiving < broker.receives && broker.receive_at <= now;
            let Some(broker) = self.brokers.get_mut(at).filter(|broker| wanted && free(broker)) else { return };
            let Some(session) = broker.session.clone() else { return };
            let largest = self.largest.max(1);
            let most = ((self.credit - spoken_for) / largest).clamp(1, RECEIVED_AT_ONCE);
            let (generation, expected) = (broker.generation, most * largest);
            broker.receiving += 1;
            self.expected += expected;
            self.doings.push(Box::pin(async move {
                // Invisible from the moment at which the broker hands it out, which is no earlier than this.
                let since = Instant::now();
                let (messages, ended) = session.receive(most as usize).await;
                Done::Received { broker: at, generation, expected, since, messages, ended }
            }));
        }
    }

    fn acknowledge(&mut self, at: usize, now: Instant) {
        let wanted = !self.waiters.is_empty() || self.tracker.uncommitted() >= ACKNOWLEDGED_AT_ONCE;
        if wanted || self.brokers.get(at).is_some_and(|broker| broker.due) {
            self.acknowledge_now(at, now);
        }
    }

    pub fn acknowledge_now(&mut self, at: usize, now: Instant) {
        loop {
            let Some(broker) = self.brokers.get_mut(at) else { return };
            if broker.acknowledging >= ACKNOWLEDGEMENTS || broker.acknowledge_at > now {
                return;
            }
            let Some(session) = broker.session.clone() else { return };
            let entries = self.hold.acknowledge(at, ACKNOWLEDGED_AT_ONCE);
            if entries.is_empty() {
                broker.due = false;
                return;
            }
            broker.acknowledging += 1;
            let generation = broker.generation;
            self.doings.push(Box::pin(async move {
                let answers = session.acknowledge(entries.iter().map(|(_, entry)| entry.clone()).collect()).await;
                Done::Acknowledged { broker: at, generation, entries, answers }
            }));
        }
    }

    fn renew(&mut self, now: Instant) {
        let free = RENEWALS.saturating_sub(self.renewals);
        for (number, broker, entry) in self.hold.renew(now, free) {
            self.renewals += 1;
            let session = self.brokers.get(broker).and_then(|broker| broker.session.clone());
            let invisible = self.membership.invisible;
            self.doings.push(Box::pin(async move {
                let since = Instant::now();
                let renewed = match session {
                    Some(session) => session.change_invisible(entry.clone(), invisible).await,
                    None => Err(CallError::Unreachable("not connected".into())),
                };
                Done::Renewed { number, entry, since, renewed }
            }));
        }
    }

    fn look(&mut self, now: Instant) {
        if self.looking || now < self.look_at {
            return;
        }
        self.looking = true;
        let (origin, topic, id) = (self.origin.clone(), self.membership.topic.clone(), self.id.clone());
        self.doings.push(Box::pin(async move {
            let look = async {
                let client = Client::connect(&origin.address, id, origin.credentials).await?;
                brokers::readable(&client, &origin.address, &topic).await
            };
            Done::Looked(look.await)
        }));
    }
}
