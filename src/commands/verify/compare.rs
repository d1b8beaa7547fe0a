//! `trestle verify compare`: whether everything of one topic is in another, as it was and in its order.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep};
use trestle_core::ReadFrom;

use super::{
    judge::{Judge, Window},
    record::{Content, Place, Record, Side},
    report::{Report, Wrong},
};
use crate::{
    commands::{
        Output,
        asking::Failure,
        date,
        progress::Progress,
        reading::{End, Reading, dead_letters, endpoint},
    },
    config::{Endpoint, Size, Table, Time},
};

/// Records between two looks at the terminal.
const SHOW_EVERY: u64 = 1_000;

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Compare {
    /// The route table, YAML or JSON; its routes need not run here
    pub file: PathBuf,
    /// The topic that messages come from: CLUSTER/TOPIC, or a route of the table
    pub from: String,
    /// The topic that they should be in: CLUSTER/TOPIC, or a route of the table
    pub to: String,
    /// How far back to look, by the messages' own times; without it, everything that there is
    #[arg(long, value_parser = Time::parse)]
    pub window: Option<Time>,
    /// How long a message may be on its way: TO is read so much later than FROM
    #[arg(long, value_parser = Time::parse, default_value = "30s")]
    pub settle: Time,
    /// How far the clocks of producers and brokers may differ
    #[arg(long, value_parser = Time::parse, default_value = "10s")]
    pub skew: Time,
    /// CLUSTER/TOPIC with dead letters, besides those of the table's routes from FROM to TO
    #[arg(long)]
    pub dead_letters: Vec<String>,
    /// What is told and is nothing wrong
    #[arg(long, value_enum, value_delimiter = ',')]
    pub allow: Vec<Wrong>,
    /// Places that are listed of each kind of finding
    #[arg(long, default_value_t = 10)]
    pub show: usize,
    /// Memory for what is remembered of the messages; more goes to files in TMPDIR, some 70 bytes a message
    #[arg(long, value_parser = Size::parse, default_value = "256MiB")]
    pub memory: Size,
    /// How long a cluster may say nothing
    #[arg(long, value_parser = Time::parse, default_value = "30s")]
    pub patience: Time,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

const HELP: &str = "\
Both topics are read without their groups: nobody's position is touched, and nothing is left behind. A message is the same
when key, value, headers and time are. Missing, repeated, reordered, changed and unexpected messages are counted, and the
first ones are listed with their partitions and positions. Order is judged between each partition of FROM and each of TO.
Choose a window that both topics still hold: what FROM has deleted is unexpected in TO.

Exit codes: 0 nothing is wrong, 1 something is, or the topics could not be read, 2 the command line or the table is wrong

Examples:
  trestle verify compare trestle.yaml orders orders --window 1h
  trestle verify compare trestle.yaml main/orders billing/orders --window 1h --allow repeated
  trestle verify compare trestle.yaml main/orders billing/orders --output json | jq .missing.count";

impl Compare {
    pub async fn run(&self, table: &Table) -> Result<Report, Failure> {
        let from = endpoint(table, &self.from, End::From).map_err(Failure::Wrong)?;
        let to = endpoint(table, &self.to, End::To).map_err(Failure::Wrong)?;
        let mut letters = dead_letters(table, Some(&from), &to);
        for text in &self.dead_letters {
            letters.push(endpoint(table, text, End::From).map_err(Failure::Wrong)?);
        }
        let largest = table.memory.largest_message;
        let began = Instant::now();
        let (now, skew) = (now(), millis(self.skew.0));
        let window = Window {
            from: self.window.map_or(i64::MIN, |window| now.saturating_sub(millis(window.0))),
            until: now + skew,
            settled: now - skew,
            whole: self.window.is_none(),
        };
        let since = match self.window {
            Some(_) => ReadFrom::Time(window.from.saturating_sub(skew)),
            None => ReadFrom::Earliest,
        };
        let mut judge = Judge::new(window, self.memory.0 as usize, self.show);
        let mut read = async |endpoint: &Endpoint, side, must| {
            let reading = Reading::open(endpoint, since, false, largest, self.patience.0).await?;
            match reading {
                Some(reading) => remember(reading, endpoint, side, &window, &mut judge).await,
                None if must => Err(format!("{endpoint}: there is no such topic")),
                None => Ok(()),
            }
        };
        read(&from, Side::From, true).await?;
        // What was written just before FROM's end was seen may still be on its way.
        sleep(self.settle.0.saturating_sub(began.elapsed())).await;
        read(&to, Side::To, true).await?;
        for letters in &letters {
            read(letters, Side::Letter, false).await?;
        }
        let findings = tokio::task::block_in_place(|| {
            let progress = Progress::new("comparing".into(), Some(judge.records()));
            let mut seen = 0;
            judge.findings(|| {
                seen += 1;
                if seen % SHOW_EVERY == 0 {
                    progress.at(seen, seen);
                }
            })
        });
        let findings = findings.map_err(unkept)?;
        let about = match self.window {
            Some(_) => format!("{to} compared with {from}, messages of {} to {}", date(window.from), date(now)),
            None => format!("{to} compared with {from}, everything"),
        };
        let facts = vec![
            ("from_messages", json!(findings.from_messages)),
            ("to_messages", json!(findings.to_messages)),
            ("matched", json!(findings.matched)),
            ("dead_lettered", json!(findings.dead_lettered)),
            ("outside_the_window", json!(findings.outside)),
            ("not_judged", json!(findings.undated)),
            ("order_not_judged", json!(findings.order_unknown)),
        ];
        let mut notes = Vec::new();
        if findings.at_the_end > 0 {
            let count = findings.at_the_end;
            notes.push(format!(
                "{count} of the missing messages are behind everything of their partition that arrived: perhaps they are still on their way, and a longer --settle finds them"
            ));
        }
        if findings.undated > 0 {
            notes.push(format!(
                "{} messages of {to} are not judged: they have no time, or are too new to tell whether {from} had them when it was read",
                findings.undated
            ));
        }
        Ok(Report { about, facts, kinds: findings.kinds(), notes })
    }
}

async fn remember(
    mut reading: Reading,
    endpoint: &Endpoint,
    side: Side,
    window: &Window,
    judge: &mut Judge,
) -> Result<(), String> {
    let began = now();
    let length = (!window.whole).then(|| (began - window.from).max(1) as u64);
    let progress = Progress::new(format!("reading {endpoint}"), length);
    let mut read = 0;
    while let Some((excerpt, before)) = reading.next_in_time().await? {
        for (message, ordinal) in excerpt.messages.iter().zip(before..) {
            let content = match side {
                Side::Letter if !trestle_dlq::is_dead_letter(message) => continue,
                Side::Letter => Content::of(&trestle_dlq::restore(message)),
                Side::From | Side::To => Content::of(message),
            };
            let at = Place { partition: excerpt.partition.0, ordinal, position: message.position };
            judge.see(Record { content, side, at }).map_err(unkept)?;
        }
        read += excerpt.messages.len() as u64;
        let time = excerpt.messages.last().and_then(|message| message.time).unwrap_or(window.from);
        progress.at(time.clamp(window.from, began).abs_diff(window.from), read);
    }
    Ok(())
}

fn unkept(error: std::io::Error) -> String {
    format!("what is remembered of the messages cannot be kept in {}: {error}", std::env::temp_dir().display())
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis().try_into().unwrap_or(i64::MAX / 4)
}

/// Milliseconds since 1970-01-01T00:00Z.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}
