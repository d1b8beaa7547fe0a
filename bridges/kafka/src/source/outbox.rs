use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;
use trestle_core::{Event, Fault};

use super::inbox::Inbox;

/// Events on their way to `next`. Never blocks: what finds no room waits here, and then no batch is handed out, so only
/// news of assignments pile up, which stop as well while a revoke is not answered.
pub(super) struct Outbox {
    sender: mpsc::Sender<Result<Event, Fault>>,
    waiting: VecDeque<Result<Event, Fault>>,
    inbox: Arc<Inbox>,
}

impl Outbox {
    pub(super) fn new(sender: mpsc::Sender<Result<Event, Fault>>, inbox: Arc<Inbox>) -> Self {
        Outbox { sender, waiting: VecDeque::new(), inbox }
    }

    /// The same way out, for the next consumer.
    pub(super) fn again(&mut self) -> Outbox {
        let waiting = std::mem::take(&mut self.waiting);
        Outbox { sender: self.sender.clone(), waiting, inbox: self.inbox.clone() }
    }

    pub(super) fn push(&mut self, event: Result<Event, Fault>) {
        self.waiting.push_back(event);
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    self.inbox.starve();
                    // Room may have been made before the cry for it.
                    if self.sender.capacity() == 0 {
                        return;
                    }
                }
                // Nobody will ever read them.
                Err(mpsc::error::TrySendError::Closed(_)) => return self.waiting.clear(),
            }
        }
    }

    /// Whether a batch may be handed out.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn abandoned(&self) -> bool {
        self.sender.is_closed()
    }
}
