//! What is in flight on a lane, and what becomes of it. Pure.

use std::{collections::VecDeque, iter, sync::Arc};

use tokio::sync::oneshot;
use trestle_core::{Fault, Outcome, Sent, Slice};

use super::{
    Done,
    repeats::{Unresolved, ids},
};

/// Sends in the order of the calls.
#[derive(Default)]
pub(super) struct Flight {
    sends: VecDeque<Send>,
}

/// One call of `send`.
pub(super) struct Send {
    pub unit: Vec<Slice>,
    pub done: oneshot::Sender<Done>,
    pub messages: usize,
    /// Stored already, at the front: not sent.
    pub skipped: usize,
    pub parts: VecDeque<Part>,
    /// Of the messages behind the last part.
    pub rest: Rest,
}

/// Messages that are stored or not as a whole.
pub(super) struct Part {
    pub sequence: u64,
    pub messages: usize,
    /// Frames without a receipt.
    pub waiting: usize,
    /// Whether a frame of it may have left.
    pub written: bool,
    pub fate: Option<Outcome>,
}

pub(super) enum Rest {
    None,
    /// The first is refused, the others are not sent.
    Refused(Fault),
    /// All are refused together.
    AllRefused(Fault),
    NotSent,
}

/// The broker spoke of a send that is not next in line.
#[derive(Debug)]
pub(super) struct OutOfOrder {
    pub expected: Option<u64>,
}

impl Flight {
    pub fn push(&mut self, send: Send) {
        self.sends.push_back(send);
    }

    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Sends that were not answered yet.
    pub fn len(&self) -> usize {
        self.sends.len()
    }

    /// A frame with this sequence id was handed to the connection.
    pub fn written(&mut self, sequence: u64) {
        // Newest first: frames are written in order, soon after they are pushed.
        let mut parts = self.sends.iter_mut().rev().flat_map(|send| send.parts.iter_mut().rev());
        if let Some(part) = parts.find(|part| part.sequence == sequence) {
            part.written = true;
        }
    }

    /// One frame of the oldest waiting part is stored.
    pub fn receipt(&mut self, sequence: u64) -> Result<(), OutOfOrder> {
        let part = self.next(sequence)?;
        part.waiting = part.waiting.saturating_sub(1);
        if part.waiting == 0 {
            part.fate = Some(Outcome::Stored);
        }
        Ok(())
    }

    /// Messages of the oldest waiting part, if it has this sequence id.
    pub fn messages(&mut self, sequence: u64) -> Result<usize, OutOfOrder> {
        self.next(sequence).map(|part| part.messages)
    }

    /// The oldest waiting part ends otherwise than by being stored.
    pub fn end(&mut self, sequence: u64, fate: Outcome) -> Result<(), OutOfOrder> {
        self.next(sequence)?.fate = Some(fate);
        Ok(())
    }

    fn next(&mut self, sequence: u64) -> Result<&mut Part, OutOfOrder> {
        let mut parts = self.sends.iter_mut().flat_map(|send| send.parts.iter_mut());
        match parts.find(|part| part.fate.is_none()) {
            Some(part) if part.sequence == sequence => Ok(part),
            other => Err(OutOfOrder { expected: other.map(|part| part.sequence) }),
        }
    }

    /// Takes the sends at the front of which everything is known.
    pub fn finished(&mut self) -> Option<Send> {
        let front = self.sends.front()?;
        let known = front.parts.iter().all(|part| part.fate.is_some());
        if known { self.sends.pop_front() } else { None }
    }

    /// Nothing more will be heard: what was written is unknown because of `fault`, what was not is not sent. Says what to
    /// look for.
    pub fn give_up(&mut self, fault: &Fault) -> Vec<Unresolved> {
        let mut unresolved = Vec::new();
        for send in &mut self.sends {
            let mut at = send.skipped;
            for part in &mut send.parts {
                let fate = match part.written {
                    true => Outcome::Unknown(fault.clone()),
                    false => Outcome::NotSent,
                };
                if matches!(part.fate.get_or_insert(fate), Outcome::Unknown(_)) {
                    let messages = ids(&send.unit).skip(at).take(part.messages);
                    let messages = messages.map(|(tracker, position)| (Arc::downgrade(tracker), position)).collect();
                    unresolved.push(Unresolved { sequence: part.sequence, messages });
                }
                at += part.messages;
            }
        }
        unresolved
    }
}

impl Send {
    pub fn is_stored(&self) -> bool {
        matches!(self.rest, Rest::None) && self.parts.iter().all(|part| matches!(part.fate, Some(Outcome::Stored)))
    }

    /// The answer; every part has its fate.
    pub fn sent(&mut self) -> Sent {
        let parts = self.parts.drain(..).map(|part| (part.messages, part.fate.unwrap_or(Outcome::NotSent)));
        let (mut sent, mut stored) = (Sent::default(), 0);
        // Neighbours that are stored are one run.
        for (messages, outcome) in iter::once((self.skipped, Outcome::Stored)).chain(parts) {
            match outcome {
                Outcome::Stored => stored += messages,
                other => {
                    sent.push(std::mem::take(&mut stored), Outcome::Stored);
                    sent.push(messages, other);
                }
            }
        }
        sent.push(stored, Outcome::Stored);
        let left = self.messages.saturating_sub(sent.len());
        match std::mem::replace(&mut self.rest, Rest::None) {
            Rest::Refused(fault) => {
                sent.push(left.min(1), Outcome::Refused(fault));
                sent.push(left.saturating_sub(1), Outcome::NotSent);
            }
            Rest::AllRefused(fault) => sent.push(left, Outcome::Refused(fault)),
            Rest::None | Rest::NotSent => sent.push(left, Outcome::NotSent),
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use trestle_core::{Message, PartitionId, Position, Tracker};

    use super::*;

    fn flight(parts: &[(u64, usize)], messages: usize, rest: Rest) -> Flight {
        let message = |offset| Message::at(Position::Offset(offset as u64));
        let batch = Tracker::new(PartitionId(0), || {}).admit((0..messages).map(message).collect()).unwrap();
        let part = |&(sequence, messages)| Part { sequence, messages, waiting: 1, written: true, fate: None };
        let mut flight = Flight::default();
        flight.push(Send {
            unit: vec![Slice::whole(Arc::new(batch))],
            done: oneshot::channel().0,
            messages,
            skipped: 0,
            parts: parts.iter().map(part).collect(),
            rest,
        });
        flight
    }

    fn runs(flight: &mut Flight) -> Vec<(usize, &'static str)> {
        let name = |outcome: &Outcome| match outcome {
            Outcome::Stored => "stored",
            Outcome::NotSent => "not sent",
            Outcome::Refused(_) => "refused",
            Outcome::Unknown(_) => "unknown",
        };
        flight.finished().unwrap().sent().runs.iter().map(|(n, outcome)| (*n, name(outcome))).collect()
    }

    #[test]
    fn a_send_is_answered_when_the_fate_of_all_its_messages_is_known() {
        let mut flight = flight(&[(1, 2), (3, 3)], 5, Rest::None);
        flight.receipt(1).unwrap();
        assert!(flight.finished().is_none());
        flight.receipt(3).unwrap();
        assert_eq!(runs(&mut flight), [(5, "stored")]);
    }

    #[test]
    fn a_receipt_out_of_order_is_not_taken() {
        let mut flight = flight(&[(1, 2), (3, 3)], 5, Rest::None);
        assert_eq!(flight.receipt(3).unwrap_err().expected, Some(1));
    }

    #[test]
    fn a_message_too_large_is_refused_behind_a_stored_prefix() {
        let mut flight = flight(&[(1, 2)], 5, Rest::Refused(Fault::down("")));
        flight.receipt(1).unwrap();
        assert_eq!(runs(&mut flight), [(2, "stored"), (1, "refused"), (2, "not sent")]);
    }

    #[test]
    fn what_was_not_written_is_not_unknown() {
        let mut flight = flight(&[(1, 2), (3, 3)], 5, Rest::None);
        flight.sends[0].parts[1].written = false;
        let unresolved = flight.give_up(&Fault::down(""));
        assert_eq!(unresolved.iter().map(|u| (u.sequence, u.messages.len())).collect::<Vec<_>>(), [(1, 2)]);
        assert_eq!(runs(&mut flight), [(2, "unknown"), (3, "not sent")]);
    }
}
