use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use super::{
    load::Load,
    pulsar_log::{EntryId, PulsarLog},
    writer::Ledger,
};

const EVERY: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(5);

/// One look at the group's positions, and after it at the ends of the staging topic's partitions.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The next offset to be read of each source partition; None: no position yet.
    pub committed: Vec<Option<i64>>,
    pub staged: Vec<Option<EntryId>>,
}

/// Samples the committed positions from outside the group while traffic flows.
pub struct Commits {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Sample>>,
}

impl Commits {
    /// `staging` without `-partition-N`; its partition i holds what comes from source partition i.
    pub fn start(
        servers: &str,
        group: &str,
        topic: &str,
        partitions: i32,
        log: PulsarLog,
        staging: &str,
    ) -> Result<Commits> {
        // Never subscribes, so it is no member.
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", servers).set("group.id", group).create()?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let (staging, topic) = (staging.to_owned(), topic.to_owned());
        let (stop, mut stopped) = oneshot::channel();
        let consumer = std::sync::Arc::new(consumer);
        let task = tokio::spawn(async move {
            let mut samples = Vec::new();
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                // Any broker may be down at any time here; there is then nothing to see.
                let (consumer, asked, topic) = (consumer.clone(), asked.clone(), topic.clone());
                let look = spawn_blocking(move || committed(&consumer, asked, &topic, partitions)).await;
                if let Ok(Ok(committed)) = look
                    && let Ok(staged) = ends(&log, &staging, partitions).await
                {
                    samples.push(Sample { committed, staged });
                }
                sleep(EVERY).await;
            }
            samples
        });
        Ok(Commits { stop, task })
    }

    pub async fn stop(self) -> Result<Vec<Sample>> {
        // Nobody listens when the task ended by itself; then it says so below.
        let _ = self.stop.send(());
        self.task.await.context("the sampler ended")
    }
}

fn committed(
    consumer: &BaseConsumer,
    asked: TopicPartitionList,
    topic: &str,
    partitions: i32,
) -> Result<Vec<Option<i64>>> {
    let positions = consumer.committed_offsets(asked, LIMIT)?;
    let of = |partition| match positions.find_partition(topic, partition).map(|found| found.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    };
    Ok((0..partitions).map(of).collect())
}

async fn ends(log: &PulsarLog, staging: &str, partitions: i32) -> Result<Vec<Option<EntryId>>> {
    let mut ends = Vec::new();
    for partition in 0..partitions {
        ends.push(log.last(&format!("{staging}-partition-{partition}")).await?);
    }
    Ok(ends)
}

/// Where each source offset first stands in the staging topic, by source partition.
pub type Staged = BTreeMap<i32, BTreeMap<i64, EntryId>>;

/// COMMIT: samples whose committed position was past a message that was then neither staged nor (`dead`, by number)
/// dead-lettered. One line each, the first ten.
pub fn commit_breaks(samples: &[Sample], ledger: &Ledger, staged: &Staged, dead: &BTreeSet<u64>) -> Vec<String> {
    let mut breaks = Vec::new();
    for (number, at) in &ledger.confirmed {
        if dead.contains(number) {
            continue;
        }
        let stands = staged.get(&at.partition).and_then(|offsets| offsets.get(&at.offset));
        for (nth, sample) in samples.iter().enumerate() {
            let partition = at.partition as usize;
            let passed = sample.committed.get(partition).copied().flatten().is_some_and(|next| next > at.offset);
            let end = sample.staged.get(partition).copied().flatten();
            let there = stands.is_some_and(|stands| end.is_some_and(|end| *stands <= end));
            if passed && !there {
                breaks.push(format!(
                    "sample {nth}: partition {partition} was committed past offset {} (message {number}), which stands at {stands:?} \
                     in the staging topic; that ended at {end:?}",
                    at.offset
                ));
                break;
            }
        }
        if breaks.len() == 10 {
            break;
        }
    }
    breaks
}

impl PulsarLog {
    /// Reads the staging topic whole. What was acknowledged there is still read: it goes only with its ledger.
    pub async fn staged(&self, staging: &str, partitions: i32, ledger: &Ledger) -> Result<Staged> {
        let mut staged = Staged::new();
        for partition in 0..partitions {
            let offsets = staged.entry(partition).or_default();
            for entry in self.read(&format!("{staging}-partition-{partition}")).await? {
                let at = entry.number(&ledger.load).and_then(|number| ledger.confirmed.get(&number));
                if let Some(at) = at.filter(|at| at.partition == partition) {
                    offsets.entry(at.offset).or_insert(entry.id);
                }
            }
        }
        Ok(staged)
    }
}

impl Ledger {
    /// Where the group's positions are in the end when all is settled.
    pub fn ends(&self, partitions: i32) -> Vec<Option<i64>> {
        let end = |partition| self.confirmed.values().filter(|c| c.partition == partition).map(|c| c.offset + 1).max();
        (0..partitions).map(end).collect()
    }

    pub fn load(&self) -> &Load {
        &self.load
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Confirmed;

    fn ledger() -> Ledger {
        let confirmed = (0..10).map(|n| (n, Confirmed { partition: 0, offset: n as i64 })).collect();
        Ledger { load: Load::new("run", 10), confirmed, failed: 0 }
    }

    /// Offset n is entry n of ledger 1.
    fn staged() -> Staged {
        Staged::from([(0, (0..10).map(|n| (n, (1, n as u64))).collect())])
    }

    fn sample(committed: i64, end: u64) -> Sample {
        Sample { committed: vec![Some(committed)], staged: vec![Some((1, end))] }
    }

    #[test]
    fn a_position_at_or_behind_what_is_staged_is_fine() {
        let samples = [sample(0, 0), sample(4, 3), sample(5, 9)];
        assert!(commit_breaks(&samples, &ledger(), &staged(), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_position_past_what_is_staged_then_is_a_break_even_when_it_is_staged_later() {
        let breaks = commit_breaks(&[sample(4, 3), sample(5, 3)], &ledger(), &staged(), &BTreeSet::new());
        assert_eq!(breaks.len(), 1);
        assert!(breaks[0].starts_with("sample 1: partition 0 was committed past offset 4"), "{}", breaks[0]);
    }

    #[test]
    fn a_message_that_never_is_staged_is_a_break_unless_it_is_a_dead_letter() {
        let mut staged = staged();
        staged.get_mut(&0).unwrap().remove(&2);
        assert_eq!(commit_breaks(&[sample(5, 9)], &ledger(), &staged, &BTreeSet::new()).len(), 1);
        assert!(commit_breaks(&[sample(5, 9)], &ledger(), &staged, &BTreeSet::from([2])).is_empty());
        assert!(commit_breaks(&[sample(2, 9)], &ledger(), &staged, &BTreeSet::new()).is_empty());
    }
}
