//! Going back to what is not settled.

use std::sync::atomic::Ordering;

use trestle_core::Event;

use super::{super::reading::Gone, Partition, Role};
use crate::batch::EntryId;

impl Partition {
    /// Everything from `next` on comes again, or from the beginning. Where that takes a new consumer, there is none for now.
    pub(super) fn go_back(&mut self, next: Option<EntryId>) {
        let asked = self.member.consumer.as_ref().is_some_and(|consumer| consumer.asked);
        let again = asked && self.reading.seen.reaches(next);
        self.reading.back(next, again);
        if again {
            self.subscribe_again();
        }
    }

    /// Entries that came before and were not settled do not come again.
    pub(super) async fn gone(&mut self, Gone { from, to }: Gone) {
        if self.member.subscription.shared.load(Ordering::Relaxed) {
            // Another instance may have had the partition for a moment, and have settled them.
            tracing::warn!(
                topic = self.member.subscription.topic,
                group = self.member.subscription.group,
                ?from,
                ?to,
                "entries that were delivered do not come again: another instance settled them, or they expired"
            );
            return self.revoke(true).await;
        }
        // Expired, or skipped by an operator.
        self.reading.seen.forget_before(to);
        if let Role::Assigned(assignment) = &mut self.role {
            let (from, to) = (from.message(0), to.message(0));
            assignment.started = false;
            assignment.gap = Some(to);
            self.member.tell(Event::Gap { partition: self.id, from, to }).await;
        }
    }
}
