//! Notices a partition that stands still behind a transaction that was never ended: its records are there, and a reader of
//! committed ones is handed none of them, nor any that came later.

use std::time::{Duration, Instant};

use rdkafka::{Offset, consumer::Consumer};
use trestle_core::{Event, PartitionId};

use super::{
    lookup::Question,
    partition::Partition,
    reader::{Reader, name},
};
use crate::native;

/// A partition that could hand something out, and has not for so long, has the broker asked why, again and again.
const ASK_AFTER: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct HeldBack {
    /// Where it stands, and since when; nothing while there is nothing behind it.
    stands: Option<(Offset, Instant)>,
    /// Where it stood when it was told that something is held back.
    told: Option<Offset>,
}

impl Partition {
    /// Whether the broker is to be asked why nothing comes. `end`: of the log, whatever is committed of it.
    fn stands_still(&mut self, end: Option<i64>, now: Instant) -> bool {
        let waits = self.takes();
        let Offset::Offset(next) = self.next else { return false };
        if !waits || end.is_none_or(|end| end <= next) {
            self.held_back.stands = None;
            return false;
        }
        match &mut self.held_back.stands {
            Some((at, since)) if *at == self.next => {
                let due = now.duration_since(*since) >= ASK_AFTER;
                if due {
                    *since = now;
                }
                due
            }
            stands => {
                *stands = Some((self.next, now));
                false
            }
        }
    }
}

impl Reader {
    /// Asks about partitions that stand still, and takes back what was told of those that do not any more.
    pub(super) fn look_for_held(&mut self, now: Instant) {
        let mut over = Vec::new();
        for (id, partition) in &mut self.partitions {
            let end = native::known_end(self.consumer.client(), &self.topic, *id);
            if partition.stands_still(end, now) {
                self.questions.entry(*id).or_insert(Question::Held);
            }
            if partition.held_back.told.is_some_and(|at| at != partition.next) {
                partition.held_back.told = None;
                over.push(*id);
            }
        }
        over.into_iter().for_each(|id| self.tell_held(name(id), None));
    }

    /// `stable`: the first offset that is not known to be committed or aborted.
    pub(super) fn learn_held(&mut self, id: i32, stable: i64) {
        let end = native::known_end(self.consumer.client(), &self.topic, id);
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let (Offset::Offset(next), Some(end)) = (partition.next, end) else { return };
        // Else what lies in between is what transactions leave behind, and nothing waits.
        if partition.held_back.stands.is_none() || stable >= end || next > stable {
            return;
        }
        partition.held_back.told = Some(partition.next);
        let why = format!(
            "a transaction that began at offset {stable} is still open, and {} records from there on wait for it: its \
             producer ends it, or the broker after the producer's `transaction.timeout.ms`; `kafka-transactions.sh \
             find-hanging` finds one that nobody ends, and `abort` ends it",
            end - stable
        );
        self.tell_held(name(id), Some(why));
    }

    fn tell_held(&mut self, partition: PartitionId, why: Option<String>) {
        self.outbox.push(Ok(Event::Held { partition, why }));
    }
}

#[cfg(test)]
mod tests {
    use trestle_core::Tracker;

    use super::*;

    #[test]
    fn a_partition_stands_still_when_nothing_comes_although_there_is_something() {
        let mut partition = Partition::new(Tracker::new(PartitionId(0), || {}));
        partition.begin_at(Offset::Offset(5));
        (partition.paused, partition.credit) = (false, 1);
        let begin = Instant::now();
        let (soon, late) = (begin + ASK_AFTER / 2, begin + ASK_AFTER);
        assert!(!partition.stands_still(Some(5), begin) && !partition.stands_still(Some(5), late), "it is at the end");
        assert!(!partition.stands_still(Some(9), begin) && !partition.stands_still(Some(9), soon));
        assert!(partition.stands_still(Some(9), late));
        assert!(!partition.stands_still(Some(9), late + ASK_AFTER / 2), "asked a moment ago");
        assert!(partition.stands_still(Some(9), late + ASK_AFTER));
        partition.next = Offset::Offset(6);
        assert!(!partition.stands_still(Some(9), late + 2 * ASK_AFTER), "it has moved");
        partition.credit = 0;
        assert!(!partition.stands_still(Some(9), late + 9 * ASK_AFTER), "nobody wants anything");
    }
}
