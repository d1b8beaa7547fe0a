//! Partitions that come and go. Nothing here waits: what has to be waited for is looked at again before each poll.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer, error::KafkaResult, types::RDKafkaErrorCode as Code};
use tokio::sync::oneshot;
use trestle_core::{Done, Event, Fault, Tracker};

use super::{
    inbox::Requests,
    lookup::list,
    outbox::Outbox,
    partition::Partition,
    reader::{Reader, name},
};
use crate::{
    native::{self, Kind, PartitionQueue},
    options::Assignment,
};

/// A revoke is completed after this time whatever `done` says, and the rest is read again by the next owner. The design's
/// own limit is shorter; beyond `max.poll.interval.ms` the group would throw this member out.
const REVOKE_LIMIT: Duration = Duration::from_secs(60);
/// The last commit of a revoke or a close is awaited this long.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// Leaving the group is awaited this long.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// A hand-over that the group waits for.
pub(super) struct Revoke {
    partitions: Vec<i32>,
    lost: bool,
    done: oneshot::Receiver<()>,
    limit: Instant,
    /// Said to be done: only the commit is missing, until then.
    commit_limit: Option<Instant>,
}

impl Reader {
    pub(super) fn rebalance(&mut self, event: &native::Event) {
        let partitions: Vec<i32> = event.places().iter().map(|place| place.partition).collect();
        match event.error() {
            Some(Code::AssignPartitions) => {
                self.fine();
                self.assigned(partitions);
            }
            Some(Code::RevokePartitions) => self.revoked(partitions),
            other => tracing::warn!(?other, "{}: a rebalance of an unknown kind", self.doing),
        }
    }

    /// Accepted at once, paused; the offset stands for none and is never fetched from.
    fn assigned(&mut self, partitions: Vec<i32>) {
        let nowhere = list(&self.spec.topic, &partitions, Offset::Offset(0));
        let accepted = nowhere.and_then(|list| {
            // Paused before as well, so that nothing is fetched in between; it fails for what is not known yet.
            let _ = self.consumer.pause(&list);
            self.accept(&list)?;
            self.consumer.pause(&list)
        });
        self.report("accepting partitions", accepted);
        tracing::info!(?partitions, "{}: assigned", self.doing);
        if self.partitions.is_empty() {
            // Whatever the topic is now, nothing of it was read yet.
            self.topic_id = None;
            self.check_topic_at = Instant::now();
        }
        for id in &partitions {
            let inbox = self.shared.inbox.clone();
            let queue = PartitionQueue::of(self.consumer.client(), &self.topic, *id, move || inbox.fetched());
            self.queues.extend(queue.map(|queue| (*id, queue)));
        }
        let trackers = partitions.into_iter().map(|id| self.add(id)).collect();
        self.outbox.push(Ok(Event::Assigned(trackers)));
    }

    fn add(&mut self, id: i32) -> Arc<Tracker> {
        let inbox = self.shared.inbox.clone();
        let tracker = Tracker::new(name(id), move || {
            inbox.ask(|requests| {
                requests.restarts.insert(name(id));
            });
        });
        self.partitions.insert(id, Partition::new(tracker.clone()));
        tracker
    }

    /// The partition stays ours, but nothing that was handed out of it means anything any more.
    pub(super) fn assign_anew(&mut self, id: i32) {
        let Some(old) = self.partitions.remove(&id) else { return };
        old.tracker.end(true);
        let (done, _) = Done::new();
        self.outbox.push(Ok(Event::Revoked { partitions: vec![name(id)], lost: true, done }));
        let tracker = self.add(id);
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.stopped = old.stopped;
            partition.fresh = true;
        }
        let paused = self.list(&[id]).and_then(|list| self.consumer.pause(&list));
        self.report("pausing", paused);
        self.outbox.push(Ok(Event::Assigned(vec![tracker])));
    }

    fn revoked(&mut self, partitions: Vec<i32>) {
        let lost = self.consumer.assignment_lost();
        tracing::info!(?partitions, lost, "{}: revoked", self.doing);
        for partition in partitions.iter().filter_map(|id| self.partitions.get(id)) {
            partition.tracker.end(lost);
        }
        let (done, told) = Done::new();
        let names = partitions.iter().map(|id| name(*id)).collect();
        self.outbox.push(Ok(Event::Revoked { partitions: names, lost, done }));
        self.touched.extend(&partitions);
        let limit = Instant::now() + REVOKE_LIMIT;
        self.revoke = Some(Revoke { partitions, lost, done: told, limit, commit_limit: None });
    }

    /// Lets the partitions of a revoke go once the pipeline let go of them and what is settled is committed.
    pub(super) fn advance_revoke(&mut self, now: Instant) {
        let Some(revoke) = &mut self.revoke else { return };
        let of = |id: &i32| self.partitions.get(id);
        if !revoke.lost && self.consumer.assignment_lost() {
            revoke.lost = true;
            revoke.partitions.iter().filter_map(of).for_each(|partition| partition.tracker.end(true));
        }
        if !revoke.lost {
            let waits = matches!(revoke.done.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            if waits && revoke.commit_limit.is_none() && now < revoke.limit {
                return;
            }
            let commit_limit = *revoke.commit_limit.get_or_insert(now + COMMIT_LIMIT);
            let settled = revoke.partitions.iter().filter_map(of).any(|p| p.tracker.commit_point().is_some());
            if now < commit_limit && (settled || self.commits.under_way()) {
                if !self.commits.under_way() {
                    self.commit(now);
                }
                return;
            }
        }
        if let Some(revoke) = self.revoke.take() {
            self.let_go(&revoke.partitions);
        }
    }

    fn let_go(&mut self, partitions: &[i32]) {
        let gone = self.list(partitions).and_then(|list| self.give_up(&list));
        self.report("giving partitions back", gone);
        let fault = Fault::down(format!("{}: the partition was given back", self.doing));
        for id in partitions {
            self.partitions.remove(id);
            self.queues.remove(id);
            self.commits.forget(*id, &fault);
        }
    }

    /// Commits, leaves the group; each in bounded time. What it was asked in the same breath is answered as well.
    pub(super) fn close(&mut self, requests: Requests) {
        for partition in self.partitions.values() {
            partition.tracker.end(false);
        }
        self.commit_requests(requests.commits, Instant::now());
        let limit = Instant::now() + COMMIT_LIMIT;
        loop {
            let now = Instant::now();
            let settled = self.partitions.values().any(|p| p.tracker.commit_point().is_some());
            if now >= limit || self.consumer.assignment_lost() || !(settled || self.commits.under_way()) {
                break;
            }
            if !self.commits.under_way() {
                self.commit(now);
            }
            self.leave_step();
        }
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!(%error, "{}: closing", self.doing);
        }
        let limit = Instant::now() + LEAVE_LIMIT;
        while !self.consumer.closed() && Instant::now() < limit {
            self.leave_step();
        }
        self.shared.inbox.attach(None);
    }

    /// One event while leaving: every hand-over is answered at once.
    fn leave_step(&mut self) {
        let Some(event) = self.queue.poll(Duration::from_millis(20)) else { return };
        if event.kind() != Kind::Rebalance {
            // There is no reading on that an error could hinder.
            let _ = self.news(&event);
            return;
        }
        let partitions: Vec<i32> = event.places().iter().map(|place| place.partition).collect();
        let list = list(&self.spec.topic, &partitions, Offset::Offset(0));
        let answer = list.and_then(|list: TopicPartitionList| match event.error() {
            Some(Code::AssignPartitions) => self.accept(&list),
            _ => self.give_up(&list),
        });
        self.report("leaving the group", answer);
    }

    fn accept(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        match self.assignment {
            Assignment::Cooperative => self.consumer.incremental_assign(partitions),
            // Everything was taken away before.
            Assignment::Eager => self.consumer.assign(partitions),
        }
    }

    fn give_up(&self, partitions: &TopicPartitionList) -> KafkaResult<()> {
        match self.assignment {
            Assignment::Cooperative => self.consumer.incremental_unassign(partitions),
            // An eager group takes everything at once.
            Assignment::Eager => self.consumer.unassign(),
        }
    }

    /// The consumer died: its assignments are lost. Gives the way out back, for the next one.
    pub(super) fn abandon(mut self, fault: Fault) -> Outbox {
        self.shared.inbox.attach(None);
        for partition in self.partitions.values() {
            partition.tracker.end(true);
        }
        let partitions: Vec<_> = self.partitions.keys().map(|id| name(*id)).collect();
        self.outbox.push(Err(fault));
        if !partitions.is_empty() {
            let (done, _) = Done::new();
            self.outbox.push(Ok(Event::Revoked { partitions, lost: true, done }));
        }
        self.outbox.again()
    }
}
