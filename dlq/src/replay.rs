//! Delivers dead letters once more.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::try_join_all;
use tokio::time::{Instant, sleep};
use trestle_core::{
    BoxFuture, Cause, Fault, FaultKind, Lane, LaneKey, Message, Outcome, PartitionId, Position, Sink, Slice, Tracker,
};

use crate::{format::Report, letter::Letter, write::DeadLetters};

/// Between two attempts while the target takes nothing.
const RETRY: Duration = Duration::from_millis(500);
/// Ids that are remembered, so that a letter that was written twice is delivered once.
const KNOWN: usize = 1_000_000;

/// What became of a letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Delivered,
    /// Delivered before, from another copy of the same letter.
    Known,
    /// The target refused it again: it is a new letter, with one replay more.
    Returned(Cause),
    /// As returned, and replayed too often: it is in the quarantine.
    Quarantined(Cause),
}

/// Where replayed letters go.
pub struct Target {
    sink: Arc<dyn Sink>,
    /// Opened as they are needed.
    lanes: BTreeMap<PartitionId, Box<dyn Lane>>,
    /// Keeps the number of the source partition instead of asking for the key's place.
    same: bool,
    known: HashSet<String>,
}

/// Gives what the target refused a place, opened when it is needed.
pub type Place<'a> = Box<dyn Fn() -> BoxFuture<'a, Result<DeadLetters, Fault>> + Send + Sync + 'a>;

/// What a replay goes by.
pub struct Rules<'a> {
    /// Replays of one letter at most; then it goes into quarantine.
    pub most_replays: u32,
    /// How long the target may take nothing.
    pub patience: Duration,
    pub letters: Place<'a>,
    pub quarantine: Place<'a>,
}

impl Target {
    pub fn new(sink: Arc<dyn Sink>, same: bool) -> Self {
        Target { sink, lanes: BTreeMap::new(), same, known: HashSet::new() }
    }

    /// Delivers letters in their order, those for several partitions side by side, and says what became of each. After an
    /// error any of them may have been delivered.
    pub async fn replay(&mut self, letters: &[Letter], rules: &Rules<'_>) -> Result<Vec<Fate>, Fault> {
        let mut fates = vec![Fate::Delivered; letters.len()];
        let mut of: BTreeMap<PartitionId, Vec<usize>> = BTreeMap::new();
        for (index, letter) in letters.iter().enumerate() {
            if self.known.contains(&letter.id) {
                fates[index] = Fate::Known;
            } else {
                // A copy in the same window counts as known as well.
                if self.known.len() < KNOWN {
                    self.known.insert(letter.id.clone());
                }
                of.entry(self.place(letter)).or_default().push(index);
            }
        }
        for target in of.keys() {
            if !self.lanes.contains_key(target) {
                let lane = open(&*self.sink, *target, rules.patience).await?;
                self.lanes.insert(*target, lane);
            }
        }
        let limits = self.sink.limits();
        let sends = self.lanes.iter_mut().filter_map(|(target, lane)| {
            let indexes = of.get(target)?;
            let messages: Vec<&Message> = indexes.iter().map(|index| &letters[*index].message).collect();
            Some(async move {
                let refused =
                    send(lane.as_mut(), &messages, limits.unit_messages, limits.unit_bytes, rules.patience).await?;
                Ok::<_, Fault>(refused.into_iter().map(|(at, fault)| (indexes[at], fault)).collect::<Vec<_>>())
            })
        });
        let mut refused: Vec<(usize, Fault)> = try_join_all(sends).await?.into_iter().flatten().collect();
        refused.sort_by_key(|(index, _)| *index);
        for (index, fault) in refused {
            self.known.remove(&letters[index].id);
            fates[index] = returned(&letters[index], &fault, rules).await?;
        }
        Ok(fates)
    }

    fn place(&self, letter: &Letter) -> PartitionId {
        match &letter.message.key {
            Some(key) if !self.same => self.sink.place(key),
            _ => PartitionId(letter.source_partition().unwrap_or_default() % self.sink.partitions().max(1)),
        }
    }

    pub async fn close(self) {
        for lane in self.lanes.into_values() {
            lane.close().await;
        }
    }
}

async fn open(sink: &dyn Sink, target: PartitionId, patience: Duration) -> Result<Box<dyn Lane>, Fault> {
    let end = Instant::now() + patience;
    loop {
        match sink.lane(LaneKey { target, source: None }).await {
            Err(_) if Instant::now() < end => sleep(RETRY).await,
            opened => return opened,
        }
    }
}

/// Sends messages in order, as often as it takes; gives those that will never be taken.
async fn send(
    lane: &mut dyn Lane,
    messages: &[&Message],
    unit_messages: usize,
    unit_bytes: usize,
    patience: Duration,
) -> Result<Vec<(usize, Fault)>, Fault> {
    let (mut at, mut most, mut refused) = (0, unit_messages, Vec::new());
    let mut end = Instant::now() + patience;
    while at < messages.len() {
        let mut bytes = 0;
        let fits = messages[at..].iter().take(most).take_while(|message| {
            bytes += message.size();
            bytes <= unit_bytes
        });
        let unit = fits.count().max(1);
        let copies = messages[at..at + unit].iter().enumerate();
        let copies = copies.map(|(n, message)| Message { position: Position::Offset(n as u64), ..(*message).clone() });
        let tracker = Tracker::new(PartitionId(0), || {});
        let batch = tracker.admit(copies.collect()).ok_or_else(|| Fault::down("the letters were not admitted"))?;
        let sent = lane.send(vec![Slice::whole(Arc::new(batch))]).await;
        let (mut stored, mut fault) = (0, None);
        for (run, outcome) in sent.runs {
            match outcome {
                Outcome::Stored if fault.is_none() => stored += run,
                Outcome::Refused(why) | Outcome::Unknown(why) => fault = fault.or(Some(why)),
                Outcome::Stored | Outcome::NotSent => {}
            }
        }
        at += stored;
        if stored > 0 {
            end = Instant::now() + patience;
        }
        match fault {
            None if stored == unit => most = unit_messages,
            // One by one, so that no other goes with the one that is refused.
            Some(fault) if matches!(fault.kind, FaultKind::Rejected(_)) && (unit == 1 || stored + 1 == unit) => {
                refused.push((at, fault));
                at += 1;
            }
            Some(fault) if matches!(fault.kind, FaultKind::Rejected(_)) => most = 1,
            Some(fault) if Instant::now() >= end => return Err(fault),
            None if Instant::now() >= end => return Err(Fault::down("the target takes nothing")),
            _ => {
                most = 1;
                sleep(RETRY).await;
            }
        }
    }
    Ok(refused)
}

async fn returned(letter: &Letter, fault: &Fault, rules: &Rules<'_>) -> Result<Fate, Fault> {
    let FaultKind::Rejected(cause) = fault.kind else { return Err(fault.clone()) };
    let now = SystemTime::now();
    let first = letter.first_failed.and_then(|millis| u64::try_from(millis).ok());
    let replays = letter.replays.saturating_add(1);
    let report = Report {
        route: letter.route.clone(),
        hop: letter.hop.clone().into(),
        origin: letter.origin.clone().into(),
        target: letter.target.clone().into(),
        source: letter.source.clone(),
        cause,
        error: fault.detail.clone(),
        attempts: letter.attempts.saturating_add(1),
        first_failed: first.map_or(now, |millis| UNIX_EPOCH + Duration::from_millis(millis)),
        last_failed: now,
        replays,
    };
    let too_often = replays >= rules.most_replays;
    let place = if too_often { (rules.quarantine)() } else { (rules.letters)() }.await?;
    let written = place.write(&letter.message, &report).await;
    place.close().await;
    written?;
    Ok(if too_often { Fate::Quarantined(cause) } else { Fate::Returned(cause) })
}
