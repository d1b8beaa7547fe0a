use std::sync::Arc;

use rdkafka::{producer::Producer as _, types::RDKafkaErrorCode as Code};
use trestle_core::{BoxFuture, Fault, Lane, Message, Outcome, Sent, Slice};

use super::{
    Shared,
    producer::Producer,
    suspects,
    unit::{Fate, Units},
};
use crate::{
    classify::{self, Failure},
    native,
    translate::TIME_HEADER,
};

/// One unit at a time, and of a unit one request at a time: what failed is followed by nothing.
pub(super) struct KafkaLane(pub Arc<Target>);

/// The partition that a lane writes.
pub(super) struct Target {
    pub shared: Arc<Shared>,
    pub partition: i32,
    pub doing: String,
    /// Bytes that the client is sure to send in one request.
    pub request_bytes: usize,
}

impl Lane for KafkaLane {
    fn window(&self) -> usize {
        1
    }

    fn send(&mut self, unit: Vec<Slice>) -> BoxFuture<'static, Sent> {
        let target = self.0.clone();
        Box::pin(async move { target.send(unit).await })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl Target {
    async fn send(&self, unit: Vec<Slice>) -> Sent {
        let messages: Vec<&Message> = unit.iter().flat_map(Slice::iter).collect();
        let (mut sent, now) = (Sent::default(), suspects::now());
        while sent.len() < messages.len() {
            let rest = messages.get(sent.len()..).unwrap_or_default();
            let request = rest.get(..self.request(rest, now)).unwrap_or(rest);
            let part = self.send_around_refused(request).await;
            let all_stored = part.runs.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stored));
            part.runs.into_iter().for_each(|(count, outcome)| sent.push(count, outcome));
            if !all_stored {
                break;
            }
        }
        sent.push(messages.len() - sent.len(), Outcome::NotSent);
        sent
    }

    /// How many of these messages, one at least, go in one request: as many as fit, and a [suspect](super::suspects) alone.
    /// A request that is refused for its size would else be followed by those behind it, which the client has on the way
    /// already.
    fn request(&self, messages: &[&Message], now: i64) -> usize {
        let mut bytes = 0;
        let fits = |message: &&&Message| {
            bytes += message.size();
            bytes <= self.request_bytes && !self.shared.suspects.hold(message, now)
        };
        messages.iter().take_while(fits).count().max(1)
    }

    /// One refused message keeps its whole batch out, also what is in front of it. That is sent again, so that what is stored
    /// is a prefix, and the refused message the first that is not.
    async fn send_around_refused(&self, messages: &[&Message]) -> Sent {
        let sent = self.send_request(messages).await;
        let (stored, innocent) = match sent.runs.as_slice() {
            [(stored, Outcome::Stored), (innocent, Outcome::NotSent), (_, Outcome::Refused(_)), ..] => {
                (*stored, *innocent)
            }
            [(innocent, Outcome::NotSent), (_, Outcome::Refused(_)), ..] => (0, *innocent),
            _ => return sent,
        };
        let again = messages.get(stored..stored + innocent).unwrap_or_default();
        let mut whole = Sent::stored(stored);
        whole.runs.extend(self.send_request(again).await.runs);
        let behind = if stored > 0 { 2 } else { 1 };
        whole.runs.extend(sent.runs.into_iter().skip(behind));
        whole
    }

    async fn send_request(&self, messages: &[&Message]) -> Sent {
        let producer = match self.shared.producer() {
            Ok(producer) => producer,
            Err(fault) => return Sent::refused(messages.len(), fault),
        };
        let (number, fates) = producer.units.open(messages.len());
        let (handed_over, stopped) = self.hand_over(&producer, number, messages);
        producer.units.handed_over(number, handed_over);
        let mut sent = match fates.await {
            Ok(fates) => outcomes(&fates, &self.doing, &producer),
            Err(_) => Sent::unknown(handed_over, Fault::down(format!("{}: the producer ended", self.doing))),
        };
        if let Some(fault) = stopped {
            sent.push(1, Outcome::Refused(fault));
        }
        sent.push(messages.len() - sent.len(), Outcome::NotSent);
        sent
    }

    /// Hands messages to the client until one is refused or has failed already. Says how many, and why no more.
    fn hand_over(&self, producer: &Producer, number: u32, messages: &[&Message]) -> (usize, Option<Fault>) {
        let (client, now) = (producer.client.client(), suspects::now());
        for (count, message) in messages.iter().enumerate() {
            if producer.units.has_failed(number) {
                return (count, None);
            }
            let (time, said) = self.shared.suspects.time(message, now);
            let extra = said.as_ref().map(|time| (TIME_HEADER, time.as_bytes()));
            let tag = Units::tag(number, count);
            if let Err(code) = native::produce(client, &producer.topic, self.partition, message, time, extra, tag) {
                let fault = match classify::produced(code, false, true, &self.doing, producer.trouble()) {
                    Failure::Refused(fault) | Failure::Unknown(fault) => Some(fault),
                    Failure::NotSent => None,
                };
                return (count, fault);
            }
        }
        (messages.len(), None)
    }
}

/// Run-length, in the order of the messages.
fn outcomes(fates: &[Fate], doing: &str, producer: &Producer) -> Sent {
    let mut sent = Sent::default();
    // Who is to blame is known of a message that was alone, and where others of its batch were said to be innocent.
    let others = |fate: &Fate| matches!(fate, Fate::Failed { code: Code::InvalidDifferentRecord, .. });
    let to_blame = fates.len() == 1 || fates.iter().any(others);
    for run in fates.chunk_by(|a, b| a == b) {
        let outcome = match run.first() {
            Some(Fate::Stored) => Outcome::Stored,
            Some(Fate::Failed { code, perhaps_stored, words }) => {
                let doing = words.as_ref().map_or(doing.to_owned(), |words| format!("{doing}: {words}"));
                match classify::produced(*code, *perhaps_stored, to_blame, &doing, producer.trouble()) {
                    Failure::NotSent => Outcome::NotSent,
                    Failure::Refused(fault) => Outcome::Refused(fault),
                    Failure::Unknown(fault) => Outcome::Unknown(fault),
                }
            }
            // Cannot be: the answer comes when all are known.
            Some(Fate::Pending) | None => Outcome::Unknown(Fault::down(doing)),
        };
        sent.push(run.len(), outcome);
    }
    sent
}
