//! Letters that are delivered once more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use trestle_core::{Connector, Durable, Ensure, Fault, Sink, SinkSpec};
use trestle_dlq::{DeadLetters, Fate, Letter, Rules, SUBSCRIPTION, Target};

use super::{Letters, Pick};
use crate::{clusters, config::Endpoint, pipeline::Placement};

/// Behind the name of a dead-letter topic.
const QUARANTINE: &str = "-quarantine";
/// Letters of one window at most; after a kill, so many may come twice.
const WINDOW: u64 = 100;

/// How letters are delivered.
pub struct Replay<'a> {
    pub pick: Pick<'a>,
    /// Instead of the target of each letter's route.
    pub to: Option<Endpoint>,
    /// Letters a second.
    pub rate: u64,
    /// Replays of a letter at most; one that is refused so often goes into quarantine.
    pub most_replays: u32,
}

/// How many letters of a route and cause would go where; `None` where the table does not have their route.
pub type Plan = BTreeMap<(String, String, Option<String>), u64>;

/// What became of how many.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Counts {
    pub delivered: u64,
    /// Copies of letters that were delivered before.
    pub known: u64,
    pub returned: u64,
    pub quarantined: u64,
    /// Of routes that the table does not have.
    pub without_target: u64,
    /// It ended early, and goes on where it was when it is called again.
    pub stopped: bool,
}

impl Replay<'_> {
    /// What [`Replay::run`] would do.
    pub async fn plan(&self) -> Result<Plan, String> {
        let mut plan = Plan::new();
        for topic in &self.pick.topics {
            let Some(mut letters) = self.open(topic).await? else { continue };
            while let Some(letter) = letters.next().await? {
                if self.pick.filter.takes(&letter) {
                    let target = self.target(&letter).map(|(to, _)| to.to_string());
                    *plan.entry((letter.route, letter.cause, target)).or_default() += 1;
                }
            }
        }
        Ok(plan)
    }

    /// Delivers the letters until `stop` resolves, and then those that are on their way. `progress` is told how many it were.
    pub async fn run(&self, stop: impl Future<Output = ()>, progress: impl Fn(u64) + Send) -> Result<Counts, String> {
        let mut counts = Counts::default();
        let mut stop = std::pin::pin!(stop);
        for topic in &self.pick.topics {
            let Some(mut letters) = self.open(topic).await? else { continue };
            let mut out = Delivery::new(self, topic)?;
            let mut window: Vec<Letter> = Vec::new();
            while !counts.stopped {
                let letter = tokio::select! {
                    biased;
                    () = &mut stop => { counts.stopped = true; None }
                    letter = letters.next() => letter?,
                };
                let end = letter.is_none();
                match letter {
                    Some(letter) if self.pick.filter.takes(&letter) => window.push(letter),
                    Some(letter) => letters.leave(&letter),
                    None => {}
                }
                if end || window.len() as u64 == WINDOW.min(self.rate) {
                    out.deliver(std::mem::take(&mut window), &mut letters, &mut counts).await?;
                    progress(out.done);
                }
                if end {
                    break;
                }
            }
            out.close().await;
        }
        Ok(counts)
    }

    async fn open(&self, topic: &Endpoint) -> Result<Option<Letters>, String> {
        Letters::open(topic, self.pick.table.memory.largest_message, self.pick.patience).await
    }

    /// Where a letter's message goes, and whether it keeps its partition's number there.
    fn target(&self, letter: &Letter) -> Option<(Endpoint, bool)> {
        if let Some(to) = &self.to {
            return Some((to.clone(), false));
        }
        let hop = self.pick.table.routes.get(&letter.route)?.hops.last()?;
        Some((hop.to.clone(), hop.placement == Placement::Same))
    }

    fn sink_spec(&self, endpoint: &Endpoint, hop: &'static str) -> SinkSpec {
        SinkSpec {
            topic: endpoint.topic.clone(),
            route: "dlq".into(),
            hop,
            fenced: false,
            split_large: hop == "dead-letter",
            send_timeout: self.pick.patience,
            guarantee: endpoint.cluster.guarantee,
            options: if hop == "dead-letter" { clusters::taking_all(endpoint) } else { endpoint.options.clone() },
        }
    }
}

/// Delivers the letters of one topic.
struct Delivery<'a> {
    replay: &'a Replay<'a>,
    letters: Endpoint,
    connector: Arc<dyn Connector>,
    /// By where they go.
    targets: BTreeMap<String, Target>,
    began: Instant,
    done: u64,
}

impl<'a> Delivery<'a> {
    fn new(replay: &'a Replay<'a>, topic: &Endpoint) -> Result<Self, String> {
        Ok(Delivery {
            replay,
            letters: topic.clone(),
            connector: clusters::connect(&topic.cluster).map_err(|error| error.problem)?,
            targets: BTreeMap::new(),
            began: Instant::now(),
            done: 0,
        })
    }

    /// Delivers a window and notes that it is dealt with.
    async fn deliver(&mut self, window: Vec<Letter>, letters: &mut Letters, counts: &mut Counts) -> Result<(), String> {
        let mut groups: BTreeMap<String, (Endpoint, bool, Vec<Letter>)> = BTreeMap::new();
        for letter in window {
            match self.replay.target(&letter) {
                Some((to, same)) => {
                    groups.entry(format!("{to} {same}")).or_insert_with(|| (to, same, Vec::new())).2.push(letter);
                }
                None => {
                    counts.without_target += 1;
                    letters.leave(&letter);
                }
            }
        }
        for (name, (to, same, group)) in groups {
            let fates = self.group(&name, &to, same, &group).await.map_err(|fault| format!("{to}: {fault}"))?;
            letters.handled(&group).await?;
            fates.into_iter().for_each(|fate| counts.count(&fate));
            self.done += group.len() as u64;
        }
        let due = Duration::from_secs_f64(self.done as f64 / self.replay.rate as f64);
        tokio::time::sleep_until(self.began + due).await;
        Ok(())
    }

    async fn group(&mut self, name: &str, to: &Endpoint, same: bool, group: &[Letter]) -> Result<Vec<Fate>, Fault> {
        if !self.targets.contains_key(name) {
            let connector = clusters::connect(&to.cluster).map_err(|error| Fault::down(error.problem))?;
            let sink: Arc<dyn Sink> = connector.sink(self.replay.sink_spec(to, "deliver")).await?;
            self.targets.insert(name.to_owned(), Target::new(sink, same));
        }
        let quarantined = Endpoint { topic: format!("{}{QUARANTINE}", self.letters.topic), ..self.letters.clone() };
        let (letters, quarantine) = (self.letters.clone(), quarantined);
        let place = |at: Endpoint| {
            let (connector, replay) = (&self.connector, self.replay);
            Box::new(move || {
                let at = at.clone();
                Box::pin(open(connector, replay, at)) as trestle_core::BoxFuture<'_, _>
            }) as trestle_dlq::Place<'_>
        };
        let rules = Rules {
            most_replays: self.replay.most_replays,
            patience: self.replay.pick.patience,
            letters: place(letters),
            quarantine: place(quarantine),
        };
        match self.targets.get_mut(name) {
            Some(target) => target.replay(group, &rules).await,
            None => Err(Fault::down("the target is gone")),
        }
    }

    async fn close(self) {
        for target in self.targets.into_values() {
            target.close().await;
        }
    }
}

/// A topic for letters, which is made if it is not there.
async fn open(connector: &Arc<dyn Connector>, replay: &Replay<'_>, at: Endpoint) -> Result<DeadLetters, Fault> {
    let durable = Some(Durable { subscription: SUBSCRIPTION.into() });
    connector.ensure(&at.topic, Ensure { partitions: 1, durable }).await?;
    Ok(DeadLetters::new(connector.sink(replay.sink_spec(&at, "dead-letter")).await?))
}

impl Counts {
    /// Whether every letter was delivered.
    pub fn is_all(&self) -> bool {
        !self.stopped && self.returned + self.quarantined + self.without_target == 0
    }

    fn count(&mut self, fate: &Fate) {
        match fate {
            Fate::Delivered => self.delivered += 1,
            Fate::Known => self.known += 1,
            Fate::Returned(_) => self.returned += 1,
            Fate::Quarantined(_) => self.quarantined += 1,
        }
    }
}
