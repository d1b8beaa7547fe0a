//! Hands out what is covered by credit, and makes the client fetch what is wanted and nothing else.

use std::time::Duration;

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer, error::KafkaError};
use trestle_core::Event;

use super::{lookup::list, partition::State, reader::Reader};

/// A seek is executed inside the client and takes no time; this bounds what nobody expects.
const SEEK_TIMEOUT: Duration = Duration::from_secs(1);

impl Reader {
    /// Looks at every partition for which something changed.
    pub(super) fn serve(&mut self) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.touched) {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let rewound = partition.rewind();
            if !partition.is_current() {
                // To be read again from further back.
                partition.held.clear();
            }
            while self.outbox.has_room() && partition.credit > 0 && !partition.held.is_empty() {
                let covered = partition.take_covered();
                if let Some(batch) = partition.tracker.admit(covered) {
                    partition.charge(batch.bytes);
                    self.busy = true;
                    self.outbox.push(Ok(Event::Batch(batch)));
                }
            }
            let reads = partition.state == State::Reading && partition.is_current();
            if reads && partition.credit > 0 && partition.held.is_empty() && (partition.paused || rewound) {
                resume.push(id);
            } else if !partition.paused && (!reads || rewound) {
                // Not for want of credit: what was fetched then would be thrown away, and fetched again.
                partition.paused = true;
                pause.push(id);
            }
        }
        if !pause.is_empty() {
            let paused = self.list(&pause).and_then(|list| self.consumer.pause(&list));
            self.report("pausing", paused);
        }
        if !resume.is_empty() {
            self.resume(&resume);
        }
    }

    /// Goes to `next` of each, always: where the client stands after a pause, an error or a rewind is its own affair.
    fn resume(&mut self, ids: &[i32]) {
        let hand_over = self.revoke.is_some() || self.consumer.assignment_lost();
        let (mut seeks, mut assigns) = (TopicPartitionList::new(), TopicPartitionList::new());
        for id in ids {
            let Some(partition) = self.partitions.get(id) else { continue };
            let to = match (partition.stopped, hand_over) {
                (false, _) => &mut seeks,
                (true, false) => &mut assigns,
                // An assignment in the middle of a hand-over would be taken for its answer.
                (true, true) => continue,
            };
            let added = to.add_partition_offset(&self.spec.topic, *id, partition.next);
            self.report("seeking", added);
        }
        self.assign_again(&assigns);
        self.seek(seeks);
        let ready: Vec<i32> =
            ids.iter().copied().filter(|id| self.partitions.get(id).is_some_and(|p| !p.stopped)).collect();
        let resumed = self.list(&ready).and_then(|list| self.consumer.resume(&list));
        for id in ids {
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            if resumed.is_ok() && !partition.stopped {
                partition.paused = false;
            } else {
                partition.paused = true;
                self.touched.insert(*id);
            }
        }
        self.report("resuming", resumed);
    }

    fn assign_again(&mut self, assigns: &TopicPartitionList) {
        if assigns.count() == 0 {
            return;
        }
        let ids: Vec<i32> = assigns.elements().iter().map(|element| element.partition()).collect();
        let assigned = self
            .list(&ids)
            .and_then(|old| self.consumer.incremental_unassign(&old))
            .and_then(|()| self.consumer.incremental_assign(assigns));
        for id in ids.iter().filter(|_| assigned.is_ok()) {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.stopped = false;
            }
        }
        self.report("assigning again", assigned);
    }

    fn seek(&mut self, seeks: TopicPartitionList) {
        if seeks.count() == 0 {
            return;
        }
        let ids: Vec<i32> = seeks.elements().iter().map(|element| element.partition()).collect();
        let failed: Vec<i32> = match self.consumer.seek_partitions(seeks, SEEK_TIMEOUT) {
            // The client does not read these yet, or no longer: they have to be assigned where they are wanted.
            Ok(answer) => answer.elements().iter().filter(|e| e.error().is_err()).map(|e| e.partition()).collect(),
            Err(error) => {
                self.report("seeking", Err(error));
                ids
            }
        };
        for id in failed {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.stopped = true;
            }
        }
    }

    pub(super) fn list(&self, ids: &[i32]) -> Result<TopicPartitionList, KafkaError> {
        list(&self.spec.topic, ids, Offset::Invalid)
    }
}
