//! `trestle verify read`: judges what arrived of the messages of `verify send`.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::time::Instant;
use trestle_core::ReadFrom;

use super::{
    arrivals::Arrivals,
    numbered::Run,
    report::{Report, Wrong},
};
use crate::{
    commands::{
        Output,
        asking::Failure,
        progress::Progress,
        reading::{End, Reading, dead_letters, endpoint},
    },
    config::{Table, Time},
};

/// After the last message has come, so long for repeats.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Read {
    /// The route table, YAML or JSON
    pub file: PathBuf,
    /// The topic that the messages should be in: CLUSTER/TOPIC, or a route of the table, which stands for the topic that
    /// it writes
    pub to: String,
    /// The run, as `verify send` printed it
    #[arg(long)]
    pub run: Run,
    /// CLUSTER/TOPIC with dead letters, besides those of the table's routes to the topic
    #[arg(long)]
    pub dead_letters: Vec<String>,
    /// What is told and is nothing wrong
    #[arg(long, value_enum, value_delimiter = ',')]
    pub allow: Vec<Wrong>,
    /// Places that are listed of each kind of finding
    #[arg(long, default_value_t = 10)]
    pub show: usize,
    /// Ends when no message of the run has come for so long
    #[arg(long, value_parser = Time::parse, default_value = "30s")]
    pub patience: Time,
    /// How far the clocks of this machine and of the brokers may differ
    #[arg(long, value_parser = Time::parse, default_value = "10s")]
    pub skew: Time,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

const HELP: &str = "\
The topic is read without a group; messages that are not of the run are left aside. Every message is compared with what was
sent, byte by byte: key, value, headers and time. Order is arrivalsd for each key.

Exit codes: 0 nothing is wrong, 1 something is, or the topic could not be read, 2 the command line or the table is wrong

Examples:
  trestle verify read trestle.yaml orders-test --run 1700000000000-0123abcd
  trestle verify read trestle.yaml billing/test --run 1700000000000-0123abcd --allow repeated --output json";

impl Read {
    pub async fn run(&self, table: &Table) -> Result<Report, Failure> {
        let to = endpoint(table, &self.to, End::To).map_err(Failure::Wrong)?;
        let mut letters = dead_letters(table, None, &to);
        for text in &self.dead_letters {
            letters.push(endpoint(table, text, End::From).map_err(Failure::Wrong)?);
        }
        let from = ReadFrom::Time(self.run.began.saturating_sub(self.skew.0.as_millis() as i64));
        let (largest, patience) = (table.memory.largest_message, self.patience.0);
        let Some(mut reading) = Reading::open(&to, from, true, largest, patience).await? else {
            return Err(Failure::Failed(format!("{to}: there is no such topic")));
        };
        let mut arrivals = Arrivals::new(self.run, self.show);
        let mut progress = Progress::new(format!("reading {to}"), None);
        let mut last = Instant::now();
        loop {
            let end = last + if arrivals.is_complete() { QUIET.min(patience) } else { patience };
            let Ok(read) = tokio::time::timeout_at(end, reading.next()).await else { break };
            let Some((excerpt, before)) = read? else { break };
            for (message, ordinal) in excerpt.messages.iter().zip(before..) {
                if arrivals.see(excerpt.partition, ordinal, message) {
                    last = Instant::now();
                }
            }
            let Some((seen, count)) = arrivals.seen() else { continue };
            if !progress.has_end() {
                progress = Progress::new(format!("reading {to}"), Some(count));
            }
            progress.at(seen, seen);
        }
        drop(progress);
        let notes = reading.disturbed().into_iter().collect();
        for letters in &letters {
            let Some(mut reading) = Reading::open(letters, from, false, largest, patience).await? else { continue };
            while let Some((excerpt, _)) = reading.next_in_time().await? {
                excerpt.messages.iter().for_each(|letter| arrivals.bury(letter));
            }
        }
        if arrivals.seen().is_none() {
            return Err(Failure::Failed(format!("{to}: no message of run {} came within {patience:?}", self.run)));
        }
        Ok(arrivals.report(format!("{to}, run {}", self.run), notes))
    }
}
