use std::{pin::pin, sync::Arc};

use trestle_core::{BoxFuture, Excerpt, Fault, PartitionId, ReadFrom, Reader, ReaderSpec};

use crate::cluster::{Shared, State};

/// Messages of an excerpt at most.
const MESSAGES: usize = 100;

pub(crate) struct MemoryReader {
    cluster: Arc<Shared>,
    topic: String,
    follow: bool,
    /// Of each partition: the offset to read next, and where it ends.
    places: Vec<(u64, u64)>,
    /// The partition to look at first, so that none waits for ever.
    turn: usize,
}

impl MemoryReader {
    pub fn new(cluster: Arc<Shared>, spec: ReaderSpec) -> Self {
        let state = cluster.lock();
        let logs = state.topics.get(&spec.topic).into_iter().flat_map(|topic| &topic.partitions).map(|p| &p.log);
        let place = |log: &crate::log::Log| {
            let from = match spec.from {
                ReadFrom::Earliest => log.start(),
                ReadFrom::Time(time) => log.dated(time),
            };
            (from, log.end())
        };
        let places = logs.map(place).collect();
        drop(state);
        MemoryReader { cluster, topic: spec.topic, follow: spec.follow, places, turn: 0 }
    }

    fn take(&mut self, state: &State) -> Option<Excerpt> {
        let partitions = &state.topics.get(&self.topic)?.partitions;
        for index in 0..self.places.len() {
            let at = (self.turn + index) % self.places.len();
            let (next, end) = &mut self.places[at];
            let end = if self.follow { u64::MAX } else { *end };
            let there = partitions.get(at).map(|p| p.log.read(*next)).unwrap_or_default();
            let stored: Vec<_> = there.iter().take_while(|s| s.offset < end).take(MESSAGES).collect();
            let Some(last) = stored.last() else { continue };
            *next = last.offset + 1;
            self.turn = at + 1;
            let messages = stored.into_iter().map(|s| s.message.clone()).collect();
            return Some(Excerpt { partition: PartitionId(at as u32), messages });
        }
        None
    }
}

impl Reader for MemoryReader {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Excerpt>, Fault>> {
        Box::pin(async move {
            let cluster = self.cluster.clone();
            loop {
                let mut changed = pin!(cluster.changed.notified());
                changed.as_mut().enable();
                let found = self.take(&cluster.lock());
                if found.is_some() || !self.follow {
                    return Ok(found);
                }
                changed.await;
            }
        })
    }
}
