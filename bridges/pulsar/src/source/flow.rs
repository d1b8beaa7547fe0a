//! Credit in bytes turned into permits in messages. Pure.
//!
//! The broker counts permits in messages, but reads as many entries as it has permits (`calculateToRead`), and then owes what
//! they held beyond that. So permits are granted for as many entries as the credit holds, and on top of what is owed. What
//! the broker has left is counted along here, so that no permit gets lost: every message that arrives is counted, whether
//! it is handed out, a repeat or dropped.

use pulsar::message::proto::CommandMessage;

use super::options::{RECEIVER_QUEUE, RECEIVER_QUEUE_BYTES, RECEIVER_QUEUE_MOST};
use crate::frame::Payload;

#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Set by `receiverQueueSize`.
    queue: Option<u32>,
    /// Not more than [`RECEIVER_QUEUE_BYTES`] are asked for at a time, however large entries are.
    held_back: bool,
    /// Bytes that may still be handed out.
    credit: u64,
    /// The largest entry of late, in bytes; 0 before the first.
    largest: u64,
    /// Permits the broker has left; below 0 after a batch that was larger.
    left: i64,
}

/// The largest size seen shrinks by this part of what a message is smaller.
const FORGET: u64 = 256;

impl Flow {
    pub fn new(queue: Option<u32>) -> Self {
        Flow { queue, ..Flow::default() }
    }

    /// Where nothing that is on its way can be dropped cheaply.
    pub fn held_back(queue: Option<u32>) -> Self {
        Flow { queue, held_back: true, ..Flow::default() }
    }

    /// Replaces what was granted before.
    pub fn grant(&mut self, credit: u64) {
        self.credit = credit;
    }

    pub fn credit(&self) -> u64 {
        self.credit
    }

    /// So many bytes were handed out.
    pub fn spend(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(bytes);
    }

    /// A new consumer has no permits.
    pub fn reset(&mut self) {
        self.left = 0;
    }

    /// An entry arrived that took so many permits.
    pub fn arrived(&mut self, permits: u32) {
        self.left -= i64::from(permits);
    }

    /// An entry whose messages have so many bytes was read.
    pub fn measure(&mut self, size: usize) {
        let size = size as u64;
        self.largest = size.max(self.largest - self.largest.saturating_sub(size) / FORGET);
    }

    /// Permits to grant now, from then on counted as granted.
    pub fn due(&mut self) -> Option<u32> {
        let target = i64::from(self.target());
        // Half the queue at a time, as other clients do; below that it is not worth a command.
        if target == 0 || self.left > target / 2 {
            return None;
        }
        let due = u32::try_from(target - self.left).ok().filter(|due| *due > 0)?;
        self.left += i64::from(due);
        Some(due)
    }

    fn target(&self) -> u32 {
        if self.credit == 0 {
            return 0;
        }
        if self.largest == 0 {
            return 1;
        }
        let many = |bytes: u64| u32::try_from(bytes / self.largest).unwrap_or(u32::MAX);
        let least = if self.held_back { 1 } else { RECEIVER_QUEUE };
        let queue = self.queue.unwrap_or_else(|| many(RECEIVER_QUEUE_BYTES).clamp(least, RECEIVER_QUEUE_MOST));
        many(self.credit).clamp(1, queue)
    }
}

/// Permits that the broker counts for an entry: its messages, but for those acknowledged before
/// (`Consumer.sendMessages`).
pub(crate) fn permits(message: &CommandMessage, payload: &Payload) -> u32 {
    let size = payload.metadata.as_ref().ok().and_then(|m| m.num_messages_in_batch).unwrap_or(1).max(1) as u32;
    if message.ack_set.is_empty() {
        return size;
    }
    message.ack_set.iter().map(|word| word.count_ones()).sum::<u32>().min(size)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pulsar::message::proto::MessageMetadata;

    use super::*;

    #[test]
    fn the_first_message_is_asked_for_alone_and_then_as_many_as_the_credit_holds() {
        let mut flow = Flow::new(None);
        assert_eq!(flow.due(), None, "nothing without credit");
        flow.grant(10_000);
        assert_eq!(flow.due(), Some(1));
        assert_eq!(flow.due(), None);
        flow.arrived(1);
        flow.measure(1000);
        flow.spend(1000);
        assert_eq!(flow.due(), Some(9));
        flow.grant(0);
        flow.arrived(9);
        assert_eq!(flow.due(), None);
    }

    #[test]
    fn a_batch_larger_than_the_permits_is_paid_back() {
        let mut flow = Flow::new(None);
        flow.grant(1 << 30);
        flow.due();
        flow.arrived(1000);
        flow.measure(2000);
        assert_eq!(flow.due(), Some(999 + 524));
    }

    #[test]
    fn the_queue_is_bounded_in_messages_and_scaled_by_their_size() {
        for (queue, size, permits) in [(None, 1 << 20, 100), (None, 2048, 512), (None, 100, 1000), (Some(7), 100, 7)] {
            let mut flow = Flow::new(queue);
            flow.grant(1 << 40);
            flow.measure(size);
            assert_eq!(flow.due(), Some(permits));
        }
    }

    #[test]
    fn held_back_no_more_is_asked_for_than_may_be_held() {
        for (size, permits) in [(2 << 20, 1), (100 << 10, 10), (100, 1000)] {
            let mut flow = Flow::held_back(None);
            flow.grant(1 << 40);
            flow.measure(size);
            assert_eq!(flow.due(), Some(permits));
        }
    }

    #[test]
    fn one_large_message_does_not_slow_the_small_ones_for_ever() {
        let mut flow = Flow::new(None);
        flow.grant(1 << 20);
        flow.measure(1 << 20);
        assert_eq!(flow.target(), 1);
        for _ in 0..4000 {
            flow.measure(1000);
        }
        assert!(flow.target() > 500);
    }

    #[test]
    fn permits_are_counted_as_the_broker_counts_them() {
        let mut message = CommandMessage::default();
        let mut payload = Payload { metadata: Ok(MessageMetadata::default()), data: Bytes::new() };
        assert_eq!(permits(&message, &payload), 1);
        if let Ok(metadata) = &mut payload.metadata {
            metadata.num_messages_in_batch = Some(70);
        }
        assert_eq!(permits(&message, &payload), 70);
        message.ack_set = vec![!0 << 10, 0b11_1111];
        assert_eq!(permits(&message, &payload), 60);
    }
}
