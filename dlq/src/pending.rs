//! The letters of a dead-letter topic that nobody has dealt with yet.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use trestle_core::{Connector, Fault, Marks, PartitionId, Position, ReadFrom, Reader, ReaderSpec};

use crate::{
    join::{Joined, Joiner},
    letter::Letter,
    marked_topic::MarkedTopic,
};

/// The subscription, or the group of marks, that keeps dead letters until somebody has dealt with them.
pub const SUBSCRIPTION: &str = "trestle-dlq";
const BUFFER: usize = 8 << 20;

pub struct Pending {
    reader: Box<dyn Reader>,
    marks: Box<dyn Marks>,
    joiner: Joiner,
    ready: VecDeque<Letter>,
    /// Where letters begin that were read and neither handled nor left.
    out: BTreeSet<(PartitionId, Position)>,
    /// The first message of each partition that stays: nothing up to there is given up as a whole.
    left: BTreeMap<PartitionId, Position>,
    foreign: u64,
}

impl Pending {
    /// Reads up to where the topic ends now. Joins nothing: another one may read the same letters until one handles them.
    pub async fn open(connector: Arc<dyn Connector>, topic: &str, largest_message: usize) -> Result<Self, Fault> {
        let spec = ReaderSpec {
            topic: topic.to_owned(),
            from: ReadFrom::Earliest,
            follow: false,
            buffer_bytes: BUFFER,
            largest_message,
            options: BTreeMap::new(),
        };
        let reader = connector.reader(spec).await?;
        let marks = match connector.marks(topic, SUBSCRIPTION).await? {
            Some(marks) => marks,
            None => Box::new(MarkedTopic::open(connector.clone(), topic, SUBSCRIPTION).await?),
        };
        Ok(Pending {
            reader,
            marks,
            joiner: Joiner::default(),
            ready: VecDeque::new(),
            out: BTreeSet::new(),
            left: BTreeMap::new(),
            foreign: 0,
        })
    }

    /// The next letter, in the topic's order; `None` at the end. A fault means that reading is disturbed, as
    /// [`Reader::next`] says.
    pub async fn next(&mut self) -> Result<Option<Letter>, Fault> {
        loop {
            if let Some(letter) = self.ready.pop_front() {
                return Ok(Some(letter));
            }
            let Some(excerpt) = self.reader.next().await? else { return Ok(None) };
            let partition = excerpt.partition;
            for message in &excerpt.messages {
                if self.marks.has(partition, message.position) {
                    continue;
                }
                match self.joiner.take(partition, message) {
                    Joined::Whole(letter) => {
                        self.out.extend(first(&letter));
                        self.ready.push_back(*letter);
                    }
                    Joined::Open => {}
                    Joined::Foreign => {
                        self.foreign += 1;
                        self.stays(partition, message.position);
                    }
                }
            }
        }
    }

    /// Messages that are no dead letters, and parts whose others are missing: they are left alone.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// The letter stays.
    pub fn leave(&mut self, letter: &Letter) {
        if let Some((partition, position)) = first(letter) {
            self.out.remove(&(partition, position));
            self.stays(partition, position);
        }
    }

    fn stays(&mut self, partition: PartitionId, position: Position) {
        let left = self.left.entry(partition).or_insert(position);
        *left = position.min(*left);
    }

    /// The letters are dealt with; resolves when the cluster has noted it.
    pub async fn handled(&mut self, letters: &[Letter]) -> Result<(), Fault> {
        let mut of: BTreeMap<PartitionId, Vec<Position>> = BTreeMap::new();
        for letter in letters {
            of.entry(letter.partition).or_default().extend(&letter.positions);
            first(letter).map(|first| self.out.remove(&first));
        }
        for (partition, positions) in of {
            let upto = positions.iter().copied().max().filter(|upto| self.nothing_stays(partition, *upto));
            self.marks.mark(partition, positions, upto).await?;
        }
        Ok(())
    }

    /// Whether nothing up to here is still wanted.
    fn nothing_stays(&self, partition: PartitionId, upto: Position) -> bool {
        let out = self.out.iter().find(|(of, _)| *of == partition).map(|(_, position)| *position);
        let wanted = [out, self.left.get(&partition).copied(), self.joiner.oldest(partition)];
        wanted.into_iter().flatten().all(|wanted| wanted > upto)
    }
}

fn first(letter: &Letter) -> Option<(PartitionId, Position)> {
    Some((letter.partition, *letter.positions.iter().min()?))
}
