//! Takes events from the queue.

use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer, error::KafkaError, types::RDKafkaErrorCode as Code};
use trestle_core::{Fault, Position, Scope};

use super::{
    partition::{Partition, after},
    reader::Reader,
};
use crate::{
    classify,
    native::{Event, Kind, Record},
    translate,
};

/// One gathering ends at this many messages, or with the message that reaches this many bytes.
const MESSAGES: usize = 500;
const BYTES: usize = 1 << 20;

impl Reader {
    /// Takes what was fetched of the partitions that can hand something out, or else waits for an event. An error is the end of
    /// this consumer.
    pub(super) fn gather(&mut self, wait: Duration) -> Result<(), Fault> {
        let ready = |(id, partition): (&i32, &Partition)| partition.takes().then_some(*id);
        let ready: Vec<i32> = self.partitions.iter().filter_map(ready).collect();
        let mut something = false;
        for id in ready {
            something |= self.take(id)?;
        }
        let event = self.queue.poll(if something { Duration::ZERO } else { wait });
        self.shared.inbox.awake();
        event.map_or(Ok(()), |event| self.news(&event))
    }

    /// Takes one gathering of a partition; whether there was anything.
    fn take(&mut self, id: i32) -> Result<bool, Fault> {
        let (mut records, mut bytes, mut news) = (Vec::<Record>::new(), 0, None);
        let Some(queue) = self.queues.get(&id) else { return Ok(false) };
        while records.len() < MESSAGES && bytes < BYTES {
            let Some(event) = queue.next() else { break };
            if event.kind() != Kind::Fetched {
                news = Some(event);
                break;
            }
            if let Some(record) = event.into_record() {
                bytes += translate::record_bytes(&record);
                records.push(record);
            }
        }
        let something = !records.is_empty() || news.is_some();
        if !records.is_empty() {
            self.fine();
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.hold(translate::messages(&records, self.spec.largest_message));
                self.touched.insert(id);
            }
        }
        news.map_or(Ok(()), |event| self.news(&event))?;
        Ok(something)
    }

    pub(super) fn news(&mut self, event: &Event) -> Result<(), Fault> {
        match event.kind() {
            Kind::Rebalance => self.rebalance(event),
            Kind::Committed => self.committed(event),
            Kind::Topic => self.topic_is(event.topic_id()),
            Kind::Error => return self.failed(event),
            Kind::Log => {
                if let Some((level, facility, line)) = event.log() {
                    super::log(level, &facility, &line);
                }
            }
            Kind::Fetched | Kind::Delivered | Kind::Other => {}
        }
        Ok(())
    }

    pub(super) fn commit_if_due(&mut self, now: Instant) {
        if self.commits.timed_out(now) {
            self.commit_answered(Some(Fault::down(format!("{}: a commit was not answered", self.doing))), now);
        }
        if self.commits.is_due(now) && (self.busy || self.commits.anybody_waits()) {
            self.commit(now);
        }
    }

    /// Commits all that is settled. What belongs to another already is not ours to commit: a client that lost its place in
    /// the group commits as a stranger, which a broker accepts of a group without members.
    pub(super) fn commit(&mut self, now: Instant) {
        let mut positions = TopicPartitionList::new();
        let mut live = false;
        let lost = self.consumer.assignment_lost();
        for (id, partition) in &self.partitions {
            live |= partition.tracker.live_batches() > 0;
            let Some(position) = partition.tracker.commit_point().filter(|_| !lost) else { continue };
            let added = positions.add_partition_offset(&self.spec.topic, *id, after(position));
            live |= added.is_err();
        }
        if positions.count() == 0 {
            self.busy = live;
            return self.commits.idle(now);
        }
        match self.queue.commit(self.consumer.client(), &positions) {
            Ok(()) => self.commits.started(now),
            Err(code) => {
                let fault = classify::fault(code, Scope::Cluster, &self.committing(), "");
                self.commit_answered(Some(fault), now);
            }
        }
    }

    fn committed(&mut self, event: &Event) {
        let (now, mut failed) = (Instant::now(), event.error());
        for place in event.places() {
            if let Some(error) = place.error {
                failed = Some(error);
            } else if let (None, Some(partition)) = (event.error(), self.partitions.get_mut(&place.partition)) {
                let Some(last) = u64::try_from(place.offset).ok().and_then(|next| next.checked_sub(1)) else {
                    continue;
                };
                partition.tracker.committed(Position::Offset(last));
                partition.committed = Offset::Offset(place.offset);
                self.commits.confirmed(place.partition, Position::Offset(last));
            }
        }
        let failed = failed.filter(|code| *code != Code::NoOffset);
        let fault = failed.map(|code| classify::fault(code, Scope::Cluster, &self.committing(), ""));
        self.commit_answered(fault, now);
    }

    fn commit_answered(&mut self, fault: Option<Fault>, now: Instant) {
        let changed = self.commits.answered(fault.as_ref(), now);
        match fault {
            Some(fault) if changed => tracing::warn!(%fault, "a commit failed; it is tried again"),
            None => {
                self.fine();
                if changed {
                    tracing::info!("{}: commits are confirmed again", self.doing);
                }
            }
            Some(_) => {}
        }
    }

    fn committing(&self) -> String {
        format!("{}: committing for the group {}", self.doing, self.spec.group)
    }

    /// A call inside the client that should not fail; what depended on it is tried again.
    pub(super) fn report(&mut self, what: &str, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            let fault = classify::client_fault(&error, Scope::Cluster, &format!("{}: {what}", self.doing));
            self.disturbed(fault);
        }
    }
}
