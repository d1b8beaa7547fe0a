//! What a send's outcomes mean for its messages: those stored are settled, the rest stays in order.

use trestle_core::{Fault, Outcome, Sent, Slice};

/// What is left of a unit after its stored messages were settled.
pub(super) struct Applied {
    /// Slices that were stored and are to be settled by the caller, in order.
    pub stored: Vec<Slice>,
    /// Not stored for sure, in order; the first is the one that failed.
    pub left: Vec<Slice>,
    pub failure: Option<Failure>,
    /// Messages stored behind one that was not.
    pub order_breaks: usize,
}

pub(super) struct Failure {
    pub fault: Fault,
    /// Messages from the first that is left up to the last that the fault speaks of.
    pub messages: usize,
}

/// Sorts a unit by the outcomes of its send. A message that the outcomes do not speak of is perhaps stored.
pub(super) fn apply(unit: Vec<Slice>, sent: Sent) -> Applied {
    let mut applied = Applied { stored: Vec::new(), left: Vec::new(), failure: None, order_breaks: 0 };
    let messages: usize = unit.iter().map(Slice::len).sum();
    let silent = messages.saturating_sub(sent.len());
    let mut rest = unit.into_iter();
    let mut slice = rest.next();
    let unspoken = (silent, Outcome::Unknown(Fault::down("the connector did not say what became of these messages")));
    for (mut messages, outcome) in sent.runs.into_iter().chain((silent > 0).then_some(unspoken)) {
        let stored = matches!(outcome, Outcome::Stored);
        if stored && !applied.left.is_empty() {
            applied.order_breaks += messages;
        }
        if let Outcome::Refused(fault) | Outcome::Unknown(fault) = outcome
            && applied.failure.is_none()
        {
            // What was not sent before it may be innocent: only a search can tell.
            let before: usize = applied.left.iter().map(Slice::len).sum();
            applied.failure = Some(Failure { fault, messages: before + messages });
        }
        while messages > 0 {
            let Some(current) = &mut slice else { break };
            let part = current.take_front(messages);
            messages -= part.len();
            if stored {
                applied.stored.push(part)
            } else {
                applied.left.push(part)
            }
            if current.is_empty() {
                slice = rest.next();
            }
        }
    }
    if !applied.left.is_empty() && applied.failure.is_none() {
        let fault = Fault::down("the connector left messages unsent and did not say why");
        applied.failure = Some(Failure { fault, messages: 1 });
    }
    applied
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trestle_core::{Message, PartitionId, Position, Tracker};

    use super::*;

    fn unit(sizes: &[u64]) -> Vec<Slice> {
        let tracker = Tracker::new(PartitionId(0), || {});
        let mut next = 0;
        let mut slice = |size: &u64| {
            let message = |offset| Message::at(Position::Offset(offset));
            let batch = tracker.admit((next..next + size).map(message).collect()).unwrap();
            next += size;
            Slice::whole(Arc::new(batch))
        };
        sizes.iter().map(&mut slice).collect()
    }

    fn offsets(slices: &[Slice]) -> Vec<u64> {
        let offset = |m: &Message| match m.position {
            Position::Offset(offset) => offset,
            Position::Entry { .. } => unreachable!(),
        };
        slices.iter().flat_map(|s| s.iter().map(offset).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn what_was_not_sent_in_front_of_a_refused_message_is_not_taken_for_it() {
        let mut sent = Sent::default();
        sent.push(2, Outcome::Stored);
        sent.push(3, Outcome::NotSent);
        sent.push(1, Outcome::Refused(Fault::rejected(trestle_core::Cause::Refused, "no")));
        sent.push(4, Outcome::NotSent);
        let applied = apply(unit(&[10]), sent);
        assert_eq!(applied.failure.map(|failure| failure.messages), Some(4), "the culprit is among these");
    }

    #[test]
    fn a_partial_store_leaves_the_rest_in_order_over_several_slices() {
        let sent = Sent::refused_at(4, Fault::down("down"), 9);
        let applied = apply(unit(&[3, 3, 3]), sent);
        assert_eq!(offsets(&applied.stored), [0, 1, 2, 3]);
        assert_eq!(offsets(&applied.left), [4, 5, 6, 7, 8]);
        assert_eq!(applied.failure.unwrap().messages, 1);
        assert_eq!(applied.order_breaks, 0);
    }

    #[test]
    fn what_the_outcomes_do_not_speak_of_is_not_settled() {
        let applied = apply(unit(&[3, 2]), Sent::stored(2));
        assert_eq!(offsets(&applied.stored), [0, 1]);
        assert_eq!(offsets(&applied.left), [2, 3, 4]);
        assert!(applied.failure.is_some());
    }

    #[test]
    fn a_message_stored_behind_a_failed_one_is_an_order_break() {
        let mut sent = Sent::default();
        sent.push(1, Outcome::Stored);
        sent.push(1, Outcome::Unknown(Fault::timeout("late")));
        sent.push(2, Outcome::Stored);
        let applied = apply(unit(&[4]), sent);
        assert_eq!(offsets(&applied.left), [1]);
        assert_eq!(applied.order_breaks, 2);
    }
}
