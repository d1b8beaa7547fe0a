//! What of a partition was read and not yet handed out.

use std::{collections::VecDeque, sync::Arc};

use trestle_core::{Batch, Message, Tracker};

use super::flow::Flow;

/// Messages of a batch at most, where one entry holds fewer: entries that arrived together go together.
const BATCH_MESSAGES: usize = 1_000;

#[derive(Default)]
pub(super) struct Held {
    messages: VecDeque<Message>,
    /// Bytes of them all.
    pub bytes: usize,
}

impl Held {
    pub fn push(&mut self, message: Message) {
        self.bytes += message.size();
        self.messages.push_back(message);
    }

    pub fn clear(&mut self) {
        *self = Held::default();
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The next batch that credit allows, as far as positions grow. The message that crosses the line is still part of it.
    pub fn next_batch(&mut self, flow: &mut Flow, tracker: &Arc<Tracker>) -> Option<Batch> {
        loop {
            let (mut messages, mut bytes) = (Vec::<Message>::new(), 0);
            while messages.len() < BATCH_MESSAGES && bytes < flow.credit() {
                let newest = messages.last().map(|message| message.position);
                let grows = |next: &mut Message| newest.is_none_or(|newest| newest < next.position);
                let Some(message) = self.messages.pop_front_if(grows) else { break };
                bytes += message.size() as u64;
                messages.push(message);
            }
            if messages.is_empty() {
                return None;
            }
            self.bytes -= bytes as usize;
            // What was handed out before is left out and costs nothing.
            if let Some(batch) = tracker.admit(messages) {
                flow.spend(batch.bytes as u64);
                return Some(batch);
            }
        }
    }
}
