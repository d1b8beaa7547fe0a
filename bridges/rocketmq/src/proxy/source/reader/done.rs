//! Takes what was done.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};
use trestle_core::{Fault, Position};

use super::{HEARTBEAT, LOOK, Reader, TICK};
use crate::proxy::{
    client::CallError,
    protocol::{AckEntry, Delivered, code},
    session::{Session, Telemetry},
    source::{
        faults::fault,
        handle::of_its_own,
        hold::{Acked, Number, Renewed},
        incoming::incoming,
    },
};

/// Requests for messages on their way to one broker at most, while it has some.
const RECEIVES: usize = 4;
/// A proxy that answers at once although it has nothing is not asked more often than this.
const EMPTY_PACE: Duration = Duration::from_millis(50);

pub enum Done {
    Opened {
        broker: usize,
        opened: Box<Opened>,
    },
    Ended {
        broker: usize,
        generation: u64,
        why: String,
    },
    Received {
        broker: usize,
        generation: u64,
        /// Bytes that were asked for.
        expected: u64,
        since: Instant,
        messages: Vec<Delivered>,
        ended: Result<(), CallError>,
    },
    Acknowledged {
        broker: usize,
        generation: u64,
        entries: Vec<(Number, AckEntry)>,
        answers: Answers,
    },
    Renewed {
        number: Number,
        entry: AckEntry,
        since: Instant,
        renewed: Result<String, CallError>,
    },
    Beaten {
        broker: usize,
        generation: u64,
        beaten: Result<(), CallError>,
    },
    Looked(Result<BTreeMap<String, String>, CallError>),
}

type Opened = Result<(Session, Telemetry), CallError>;

/// One for each entry, or what became of all.
pub type Answers = Result<Vec<Result<(), CallError>>, CallError>;

impl Reader {
    pub fn done(&mut self, done: Done) {
        match done {
            Done::Opened { broker, opened } => self.opened(broker, *opened),
            Done::Ended { broker, generation, why } if self.is_current(broker, generation) => self.lost(broker, &why),
            Done::Ended { .. } => {}
            Done::Received { broker, generation, expected, since, messages, ended } => {
                self.expected -= expected;
                let came = !messages.is_empty();
                self.received(broker, since, messages);
                if self.is_current(broker, generation) {
                    self.receive_ended(broker, since, came, ended);
                }
            }
            Done::Acknowledged { broker, generation, entries, answers } => {
                self.acknowledgement_ended(broker, generation, entries, answers);
            }
            Done::Renewed { number, entry, since, renewed } => {
                self.renewals -= 1;
                let invisible = self.membership.invisible;
                let renewed = match renewed {
                    Ok(handle) => Renewed::Done { handle: of_its_own(handle), visible_at: since + invisible },
                    Err(error) if error.is_refused_with(code::INVALID_RECEIPT_HANDLE) => Renewed::RanOut,
                    Err(error) => {
                        tracing::debug!(topic = self.membership.topic, %error, "a message was not kept invisible");
                        Renewed::Failed
                    }
                };
                self.hold.renewed(number, &entry, renewed, Instant::now(), invisible);
            }
            Done::Beaten { broker, generation, beaten } if self.is_current(broker, generation) => match beaten {
                Ok(()) => {}
                Err(error) => self.lost(broker, &error.to_string()),
            },
            Done::Beaten { .. } => {}
            Done::Looked(looked) => {
                (self.looking, self.look_at) = (false, Instant::now() + LOOK);
                match looked {
                    Ok(found) => self.looked(found),
                    Err(error) => {
                        tracing::debug!(topic = self.membership.topic, %error, "the topic's brokers are not known");
                    }
                }
            }
        }
    }

    fn is_current(&self, broker: usize, generation: u64) -> bool {
        self.brokers.get(broker).is_some_and(|broker| broker.session.is_some() && broker.generation == generation)
    }

    fn opened(&mut self, at: usize, opened: Opened) {
        let about = self.about.clone();
        let Some(broker) = self.brokers.get_mut(at) else { return };
        broker.opening = false;
        match opened {
            Ok((session, telemetry)) => {
                tracing::debug!(topic = self.membership.topic, broker = broker.name, "a member of the group");
                let generation = broker.generation;
                broker.session = Some(session);
                broker.beat_at = Instant::now() + HEARTBEAT;
                self.doings.push(Box::pin(async move {
                    Done::Ended { broker: at, generation, why: telemetry.ended().await }
                }));
            }
            Err(error) => self.complain(fault(&error, &about)),
        }
    }

    /// The session is over; another one is opened.
    fn lost(&mut self, at: usize, why: &str) {
        let Some(broker) = self.brokers.get_mut(at) else { return };
        tracing::info!(topic = self.membership.topic, broker = broker.name, why, "connecting again");
        broker.session = None;
        broker.generation += 1;
        (broker.receiving, broker.acknowledging) = (0, 0);
        self.complain(Fault::down(format!("{}: {why}", self.about)));
    }

    pub fn received(&mut self, at: usize, since: Instant, messages: Vec<Delivered>) {
        if messages.is_empty() {
            return;
        }
        let mut largest = 0;
        for delivered in messages {
            largest = largest.max(delivered.body.len() as u64);
            let Some(incoming) = incoming(delivered, self.largest_message) else {
                self.complain(Fault::down(format!("{}: a message came without a handle", self.about)));
                continue;
            };
            largest = largest.max(incoming.message.size() as u64);
            self.hold.arrive(at, incoming, since, self.membership.invisible);
        }
        self.largest = largest.max(self.largest - self.largest / 8);
        if let Some(broker) = self.brokers.get_mut(at) {
            broker.reopening.reset();
            broker.refused.reset();
        }
    }

    fn receive_ended(&mut self, at: usize, since: Instant, came: bool, ended: Result<(), CallError>) {
        let Some(broker) = self.brokers.get_mut(at) else { return };
        broker.receiving -= 1;
        broker.receives = if came { RECEIVES } else { 1 };
        match ended {
            Ok(()) => {
                broker.reopening.reset();
                broker.refused.reset();
                broker.receive_at = if came { since } else { since + EMPTY_PACE };
            }
            Err(error) if error.is_of_the_connection() => self.lost(at, &error.to_string()),
            Err(error) => {
                broker.receive_at = Instant::now() + broker.refused.next();
                // A proxy at its limit says so, and is asked again later.
                if !error.is_refused_with(code::TOO_MANY_REQUESTS) {
                    self.complain(fault(&error, &self.about));
                }
            }
        }
    }

    fn acknowledgement_ended(
        &mut self,
        at: usize,
        generation: u64,
        entries: Vec<(Number, AckEntry)>,
        answers: Answers,
    ) {
        let mut failure = None;
        let mut answers = match answers {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                failure = Some(error);
                Vec::new().into_iter()
            }
        };
        let mut confirmed = Vec::new();
        for (number, entry) in &entries {
            let acked = match answers.next() {
                Some(Ok(())) => Acked::Done,
                Some(Err(error)) if error.is_refused_with(code::INVALID_RECEIPT_HANDLE) => Acked::RanOut,
                Some(Err(error)) => {
                    failure.get_or_insert(error);
                    Acked::Failed
                }
                None => Acked::Failed,
            };
            confirmed.extend(self.hold.acknowledged(*number, entry, acked));
        }
        self.confirmed(&confirmed);
        let current = self.is_current(at, generation);
        let Some(broker) = self.brokers.get_mut(at).filter(|_| current) else { return };
        broker.acknowledging -= 1;
        let Some(error) = failure else { return };
        // It is acknowledged with what comes next, a little later.
        broker.acknowledge_at = Instant::now() + TICK;
        let fault = fault(&error, &format!("{}: acknowledging", self.about));
        self.waiters.drain(..).for_each(|waiter| waiter.fail(&fault));
        match error.is_of_the_connection() {
            true => self.lost(at, &error.to_string()),
            false => self.complain(fault),
        }
    }

    /// Nothing more is to be done about these.
    pub fn confirmed(&mut self, positions: &[Position]) {
        if positions.is_empty() {
            return;
        }
        self.acknowledged += positions.len() as u64;
        self.tracker.committed_each(positions);
        let positions = positions.iter().copied().collect();
        self.waiters = self.waiters.drain(..).filter_map(|waiter| waiter.confirmed(&positions)).collect();
    }
}
