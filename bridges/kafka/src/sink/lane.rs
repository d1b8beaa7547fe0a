use std::{ffi::CString, sync::Arc};

use trestle_core::{BoxFuture, Fault, Lane, Outcome, Sent, Slice};

use super::{
    Shared,
    producer::Producer,
    unit::{Fate, Units},
};
use crate::{
    classify::{self, Failure},
    native,
    translate::{self, TIME_HEADER},
};

/// One unit at a time: a unit that fails is followed by nothing.
pub(super) struct KafkaLane {
    pub shared: Arc<Shared>,
    pub topic: CString,
    pub partition: i32,
    pub doing: String,
}

impl Lane for KafkaLane {
    fn window(&self) -> usize {
        1
    }

    fn send(&mut self, unit: Vec<Slice>) -> BoxFuture<'static, Sent> {
        let messages = unit.iter().map(Slice::len).sum();
        let producer = match self.shared.producer() {
            Ok(producer) => producer,
            Err(fault) => return Box::pin(async move { Sent::refused(messages, fault) }),
        };
        let (number, fates) = producer.units.open(messages);
        let (handed_over, stopped) = self.hand_over(&producer, number, &unit);
        producer.units.handed_over(number, handed_over);
        let doing = self.doing.clone();
        Box::pin(async move {
            let mut sent = match fates.await {
                Ok(fates) => outcomes(&fates, &doing, &producer),
                Err(_) => Sent::unknown(handed_over, Fault::down(format!("{doing}: the producer ended"))),
            };
            if let Some(fault) = stopped {
                sent.push(1, Outcome::Refused(fault));
            }
            let left = messages - sent.len();
            sent.push(left, Outcome::NotSent);
            sent
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl KafkaLane {
    /// Hands messages to the client until one is refused or has failed already. Says how many, and why no more.
    fn hand_over(&self, producer: &Producer, number: u32, unit: &[Slice]) -> (usize, Option<Fault>) {
        use rdkafka::producer::Producer as _;
        let client = producer.client.client();
        let mut count = 0;
        for message in unit.iter().flat_map(Slice::iter) {
            if producer.units.has_failed(number) {
                return (count, None);
            }
            let (time, said) = translate::record_time(message.time);
            let extra = said.as_ref().map(|time| (TIME_HEADER, time.as_bytes()));
            let tag = Units::tag(number, count);
            match native::produce(client, &self.topic, self.partition, message, time, extra, tag) {
                Ok(()) => count += 1,
                Err(code) => {
                    let fault = match classify::produced(code, false, true, &self.doing, producer.trouble()) {
                        Failure::Refused(fault) | Failure::Unknown(fault) => Some(fault),
                        Failure::NotSent => None,
                    };
                    return (count, fault);
                }
            }
        }
        (count, None)
    }
}

/// Run-length, in the order of the messages.
fn outcomes(fates: &[Fate], doing: &str, producer: &Producer) -> Sent {
    let mut sent = Sent::default();
    for run in fates.chunk_by(|a, b| a == b) {
        let outcome = match run[0] {
            Fate::Stored => Outcome::Stored,
            // Cannot be: the answer comes when all are known.
            Fate::Pending => Outcome::Unknown(Fault::down(doing)),
            Fate::Failed { code, perhaps_stored } => {
                match classify::produced(code, perhaps_stored, fates.len() == 1, doing, producer.trouble()) {
                    Failure::NotSent => Outcome::NotSent,
                    Failure::Refused(fault) => Outcome::Refused(fault),
                    Failure::Unknown(fault) => Outcome::Unknown(fault),
                }
            }
        };
        sent.push(run.len(), outcome);
    }
    sent
}
