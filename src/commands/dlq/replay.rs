//! `trestle dlq replay`.

use std::future::pending;

use clap::Args;
use serde_json::json;
use tokio::signal;

use super::selection::Selection;
use crate::{
    commands::{
        Exit, Output, answer,
        asking::Failure,
        progress::Progress,
        reading::{End, endpoint},
    },
    config::Table,
    letters::{self, Counts, Plan},
};

/// Where letters go whose route the table does not have.
const NOWHERE: &str = "nowhere: the table has no such route; name it with --to";

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

impl Replay {
    pub async fn run(&self, table: &Table) -> Result<Exit, Failure> {
        let to = self.to.as_ref().map(|to| endpoint(table, to, End::To)).transpose().map_err(Failure::Wrong)?;
        let pick = self.selection.pick(table)?;
        let replay = letters::Replay { pick, to, rate: self.rate, most_replays: self.most_replays };
        if !self.yes {
            say_plan(&replay.plan().await?, self.output);
            return Ok(Exit::Fine);
        }
        // A system without the signal has no way to end it early.
        let stop = async {
            if signal::ctrl_c().await.is_err() {
                pending().await
            }
        };
        let progress = Progress::new("replaying".into(), None);
        let counts = replay.run(stop, |done| progress.at(done, done)).await?;
        drop(progress);
        say(&counts, self.output);
        Ok(if counts.is_all() { Exit::Fine } else { Exit::Failed })
    }
}

fn say_plan(plan: &Plan, output: Output) {
    match output {
        Output::Json => {
            let group = |((route, cause, to), count): (&(String, String, Option<String>), &u64)| json!({ "route": route, "cause": cause, "to": to.as_deref().unwrap_or(NOWHERE), "count": count });
            answer(&format!("{:#}\n", json!({ "would": plan.iter().map(group).collect::<Vec<_>>() })));
        }
        Output::Text if plan.is_empty() => answer("no letters\n"),
        Output::Text => {
            for ((route, cause, to), count) in plan {
                let to = to.as_deref().unwrap_or(NOWHERE);
                answer(&format!("would deliver {count} letters of route {route}, cause {cause}, to {to}\n"));
            }
            answer("nothing is done without --yes\n");
        }
    }
}

fn say(counts: &Counts, output: Output) {
    let Counts { delivered, known, returned, quarantined, without_target, stopped } = counts;
    match output {
        Output::Json => answer(&format!("{:#}\n", json!(counts))),
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
            if *stopped {
                answer("stopped: call it again and it goes on\n");
            }
        }
    }
}
