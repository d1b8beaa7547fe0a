//! `trestle dlq replay`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Args;
use serde_json::json;
use tokio::{signal, time::Instant};
use trestle_core::{Connector, Durable, Ensure, Fault, Sink, SinkSpec};
use trestle_dlq::{DeadLetters, Fate, Letter, Rules, SUBSCRIPTION, Target};

use super::selection::{Letters, Selection};
use crate::{
    clusters,
    commands::{
        Exit, Output, answer,
        asking::Failure,
        progress::Progress,
        reading::{End, endpoint},
    },
    config::{Endpoint, Table},
    pipeline::Placement,
};

/// Behind the name of a dead-letter topic.
const QUARANTINE: &str = "-quarantine";
/// Letters of one window at most; after a kill, so many may come twice.
const WINDOW: u64 = 100;

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Replay {
    #[command(flatten)]
    pub selection: Selection,
    /// CLUSTER/TOPIC to deliver to, instead of the target of each letter's route
    #[arg(long)]
    pub to: Option<String>,
    /// Do it, instead of saying what would be done
    #[arg(long)]
    pub yes: bool,
    /// Letters a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Replays of a letter at most; one that is refused so often goes into quarantine
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub most_replays: u32,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

const HELP: &str = "\
Each letter's message is delivered as it was, in the order of the letters, to the last topic of its route; a letter is dealt with
once the target confirmed its message. What the target refuses again is a new letter with one replay more, and after
--most-replays it goes to the topic with `-quarantine` behind the name. Ctrl-C ends after the letters that are on their way; called
again, it goes on where it was. After a kill, up to 100 letters may be delivered twice.

Exit codes: 0 every letter was delivered, or this is what would be done, 1 some were not, 2 the command line or the table is wrong

Examples:
  trestle dlq replay trestle.yaml --route orders                      what would be done
  trestle dlq replay trestle.yaml --route orders --cause too_large --yes
  trestle dlq replay trestle.yaml --topic staging/persistent://public/dlq-pulsar-bridge/old --to billing/orders --yes";

/// What became of how many.
#[derive(Default)]
struct Counts {
    delivered: u64,
    known: u64,
    returned: u64,
    quarantined: u64,
    /// Of routes that the table does not have.
    without_target: u64,
}

impl Replay {
    pub async fn run(&self, table: &Table) -> Result<Exit, Failure> {
        let to = self.to.as_ref().map(|to| endpoint(table, to, End::To)).transpose().map_err(Failure::Wrong)?;
        match self.yes {
            true => self.replay(table, to.as_ref()).await,
            false => self.plan(table, to.as_ref()).await,
        }
    }

    /// Where a letter's message goes, and whether it keeps its partition's number there.
    fn target(&self, table: &Table, to: Option<&Endpoint>, letter: &Letter) -> Option<(Endpoint, bool)> {
        if let Some(to) = to {
            return Some((to.clone(), false));
        }
        let hop = table.routes.get(&letter.route)?.hops.last()?;
        Some((hop.to.clone(), hop.placement == Placement::Same))
    }

    async fn plan(&self, table: &Table, to: Option<&Endpoint>) -> Result<Exit, Failure> {
        let mut groups: BTreeMap<[String; 3], u64> = BTreeMap::new();
        for topic in self.selection.topics(table)? {
            let Some(mut letters) = self.selection.open(&topic, table.memory.largest_message).await? else { continue };
            while let Some(letter) = letters.next().await? {
                if self.selection.takes(&letter) {
                    let target = self.target(table, to, &letter).map(|(to, _)| to.to_string());
                    let target =
                        target.unwrap_or_else(|| "nowhere: the table has no such route; name it with --to".into());
                    *groups.entry([letter.route, letter.cause, target]).or_default() += 1;
                }
            }
        }
        match self.output {
            Output::Json => {
                let group = |([route, cause, to], count): (&[String; 3], &u64)| json!({ "route": route, "cause": cause, "to": to, "count": count });
                answer(&format!("{:#}\n", json!({ "would": groups.iter().map(group).collect::<Vec<_>>() })));
            }
            Output::Text if groups.is_empty() => answer("no letters\n"),
            Output::Text => {
                for ([route, cause, to], count) in &groups {
                    answer(&format!("would deliver {count} letters of route {route}, cause {cause}, to {to}\n"));
                }
                answer("nothing is done without --yes\n");
            }
        }
        Ok(Exit::Fine)
    }

    async fn replay(&self, table: &Table, to: Option<&Endpoint>) -> Result<Exit, Failure> {
        let mut counts = Counts::default();
        let mut stop = std::pin::pin!(signal::ctrl_c());
        let mut stopped = false;
        for topic in self.selection.topics(table)? {
            let Some(mut letters) = self.selection.open(&topic, table.memory.largest_message).await? else { continue };
            let mut out = Delivery::new(self, table, to, &topic)?;
            let mut window: Vec<Letter> = Vec::new();
            while !stopped {
                let letter = tokio::select! {
                    letter = letters.next() => letter?,
                    _ = &mut stop => { stopped = true; None }
                };
                let end = letter.is_none();
                match letter {
                    Some(letter) if self.selection.takes(&letter) => window.push(letter),
                    Some(letter) => letters.leave(&letter),
                    None => {}
                }
                if end || window.len() as u64 == WINDOW.min(self.rate) {
                    out.deliver(std::mem::take(&mut window), &mut letters, &mut counts).await?;
                }
                if end {
                    break;
                }
            }
            out.close().await;
        }
        Ok(counts.say(self.output, stopped))
    }

    fn sink_spec(&self, endpoint: &Endpoint, hop: &'static str) -> SinkSpec {
        SinkSpec {
            topic: endpoint.topic.clone(),
            route: "dlq".into(),
            hop,
            fenced: false,
            split_large: hop == "dead-letter",
            send_timeout: self.selection.patience.0,
            guarantee: endpoint.cluster.guarantee,
            options: endpoint.options.clone(),
        }
    }
}

/// Delivers the letters of one topic.
struct Delivery<'a> {
    replay: &'a Replay,
    table: &'a Table,
    to: Option<&'a Endpoint>,
    letters: Endpoint,
    connector: Arc<dyn Connector>,
    /// By where they go.
    targets: BTreeMap<String, Target>,
    began: Instant,
    done: u64,
    progress: Progress,
}

impl<'a> Delivery<'a> {
    fn new(replay: &'a Replay, table: &'a Table, to: Option<&'a Endpoint>, topic: &Endpoint) -> Result<Self, String> {
        Ok(Delivery {
            replay,
            table,
            to,
            letters: topic.clone(),
            connector: clusters::connect(&topic.cluster).map_err(|error| error.problem)?,
            targets: BTreeMap::new(),
            began: Instant::now(),
            done: 0,
            progress: Progress::new(format!("replaying {topic}"), None),
        })
    }

    /// Delivers a window and notes that it is dealt with.
    async fn deliver(&mut self, window: Vec<Letter>, letters: &mut Letters, counts: &mut Counts) -> Result<(), String> {
        let mut groups: BTreeMap<String, (Endpoint, bool, Vec<Letter>)> = BTreeMap::new();
        for letter in window {
            match self.replay.target(self.table, self.to, &letter) {
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
            self.progress.at(self.done, self.done);
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
            patience: self.replay.selection.patience.0,
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
async fn open(connector: &Arc<dyn Connector>, replay: &Replay, at: Endpoint) -> Result<DeadLetters, Fault> {
    let durable = Some(Durable { subscription: SUBSCRIPTION.into() });
    connector.ensure(&at.topic, Ensure { partitions: 1, durable }).await?;
    Ok(DeadLetters::new(connector.sink(replay.sink_spec(&at, "dead-letter")).await?))
}

impl Counts {
    fn count(&mut self, fate: &Fate) {
        match fate {
            Fate::Delivered => self.delivered += 1,
            Fate::Known => self.known += 1,
            Fate::Returned(_) => self.returned += 1,
            Fate::Quarantined(_) => self.quarantined += 1,
        }
    }

    fn say(&self, output: Output, stopped: bool) -> Exit {
        let Counts { delivered, known, returned, quarantined, without_target } = self;
        match output {
            Output::Json => answer(&format!(
                "{:#}\n",
                json!({
                    "delivered": delivered, "known": known, "returned": returned, "quarantined": quarantined,
                    "without_target": without_target, "stopped": stopped,
                })
            )),
            Output::Text => {
                answer(&format!("{delivered} letters delivered\n"));
                for (count, what) in [
                    (known, "were copies of letters that were delivered"),
                    (returned, "were refused again, and are new letters with one replay more"),
                    (quarantined, "were refused too often, and are in quarantine"),
                    (without_target, "stay: the table does not have their routes; name the target with --to"),
                ] {
                    if *count > 0 {
                        answer(&format!("{count} {what}\n"));
                    }
                }
                if stopped {
                    answer("stopped: call it again and it goes on\n");
                }
            }
        }
        let all = !stopped && returned + quarantined + without_target == 0;
        if all { Exit::Fine } else { Exit::Failed }
    }
}
