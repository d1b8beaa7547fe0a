//! Writes dead letters, each confirmed by the broker before the call returns.

use std::sync::Arc;

use tokio::sync::Mutex;
use trestle_core::{
    Cause, Fault, FaultKind, Lane, LaneKey, Message, Outcome, PartitionId, Pulse, Sent, Sink, Slice, Tracker,
};

use crate::format::{Report, dead_letter, part};

/// The one partition that dead letters are written to: they are few, and their order then tells when each failed.
const PARTITION: PartitionId = PartitionId(0);
/// A value larger than the topic carries is cut into parts of this size, halved as long as they are still too large.
const PART_BYTES: usize = 512 << 10;
const SMALLEST_PART_BYTES: usize = 16 << 10;

/// The dead-letter topic of a route. One letter at a time: an incident that rejects everything should be slow.
pub struct DeadLetters {
    sink: Arc<dyn Sink>,
    lane: Mutex<Option<Box<dyn Lane>>>,
    pulse: Pulse,
}

impl DeadLetters {
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        DeadLetters { sink, lane: Mutex::new(None), pulse: Pulse::default() }
    }

    /// Whether the cluster's answer is waited for.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Whether the dead-letter topic could be written now.
    pub async fn probe(&self) -> Result<(), Fault> {
        self.sink.probe(PARTITION).await
    }

    /// Returns when the broker has confirmed the dead letter, with all its parts.
    pub async fn write(&self, message: &Message, report: &Report) -> Result<(), Fault> {
        let letter = dead_letter(message, report);
        match self.send(letter.clone()).await {
            // Parts share out the value; where there is none, headers and key are too large and nothing can be cut.
            Err(Fault { kind: FaultKind::Rejected(Cause::TooLarge), .. })
                if letter.value.as_ref().is_some_and(|v| !v.is_empty()) =>
            {
                self.write_parts(&letter).await
            }
            result => result,
        }
    }

    async fn write_parts(&self, letter: &Message) -> Result<(), Fault> {
        let value = letter.value.clone().unwrap_or_default();
        let mut size = PART_BYTES;
        loop {
            match self.write_parts_of(letter, &value, size).await {
                Err(Fault { kind: FaultKind::Rejected(Cause::TooLarge), .. }) if size > SMALLEST_PART_BYTES => {
                    size /= 2
                }
                result => return result,
            }
        }
    }

    async fn write_parts_of(&self, letter: &Message, value: &bytes::Bytes, size: usize) -> Result<(), Fault> {
        let parts = value.len().div_ceil(size);
        for number in 0..parts {
            let chunk = value.slice(number * size..value.len().min((number + 1) * size));
            self.send(part(letter, chunk, number, parts)).await?;
        }
        Ok(())
    }

    async fn send(&self, letter: Message) -> Result<(), Fault> {
        let mut lane = self.lane.lock().await;
        self.pulse.beats();
        let sent = self.send_through(&mut lane, letter).await;
        self.pulse.rests();
        sent
    }

    async fn send_through(&self, lane: &mut Option<Box<dyn Lane>>, letter: Message) -> Result<(), Fault> {
        if lane.is_none() {
            *lane = Some(self.sink.lane(LaneKey { target: PARTITION, source: None }).await?);
        }
        let Some(open) = lane.as_mut() else { return Err(Fault::down("the dead-letter lane did not open")) };
        // A lane takes slices of batches; this batch has one message and nobody waits for its acknowledgement.
        let tracker = Tracker::new(PARTITION, || {});
        let Some(batch) = tracker.admit(vec![letter]) else {
            return Err(Fault::down("the dead letter was not admitted"));
        };
        let sent = open.send(vec![Slice::whole(Arc::new(batch))]).await;
        judge(sent, 1)
    }

    pub async fn close(&self) {
        if let Some(lane) = self.lane.lock().await.take() {
            lane.close().await;
        }
    }
}

/// Whether all `messages` of a send are stored.
pub(crate) fn judge(sent: Sent, messages: usize) -> Result<(), Fault> {
    let mut stored = 0;
    for (run, outcome) in sent.runs {
        match outcome {
            Outcome::Stored => stored += run,
            Outcome::Refused(fault) | Outcome::Unknown(fault) => return Err(fault),
            Outcome::NotSent => break,
        }
    }
    if stored == messages { Ok(()) } else { Err(Fault::down("the dead letter was not sent")) }
}
