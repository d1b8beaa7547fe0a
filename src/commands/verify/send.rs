//! `trestle verify send`: writes numbered messages.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use futures::future::try_join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use trestle_core::{Fault, FaultKind, Lane, LaneKey, Message, Outcome, PartitionId, Sink, SinkSpec, Slice, Tracker};

use super::{
    compare::now,
    numbered::{MOST, MOST_KEYS, Numbered, Run},
    report::Report,
};
use crate::{
    clusters,
    commands::{
        Output,
        asking::Failure,
        progress::Progress,
        reading::{End, endpoint},
    },
    config::{Endpoint, Size, Table, Time},
};

/// Messages of one round: as many as are due, and no more.
const ROUND: u64 = 1_000;
/// Between two rounds, and before a send is tried again.
const PAUSE: Duration = Duration::from_millis(10);
const RETRY: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Send {
    /// The route table, YAML or JSON
    pub file: PathBuf,
    /// The topic to write: CLUSTER/TOPIC, or a route of the table, which stands for the topic that it reads
    pub to: String,
    /// How many messages
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=MOST))]
    pub count: u64,
    /// Messages a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Bytes of a value
    #[arg(long, value_parser = Size::parse, default_value = "1KiB")]
    pub size: Size,
    /// How many keys they share; 0 sends none, and then their order is not judged
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=MOST_KEYS))]
    pub keys: u64,
    /// How long a cluster may take nothing
    #[arg(long, value_parser = Time::parse, default_value = "30s")]
    pub patience: Time,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

const HELP: &str = "\
Use a topic for tests: the messages stay in it. Each is confirmed by the broker before it counts as written.

Exit codes: 0 every message was written, 1 it failed, 2 the command line or the table is wrong

Examples:
  trestle verify send trestle.yaml orders-test                 the topic that route orders-test reads
  trestle verify send trestle.yaml main/test --count 1000000 --rate 20000 --size 200B
  trestle verify read trestle.yaml orders-test --run RUN       what it printed; then judges what arrived";

impl Send {
    pub async fn run(&self, table: &Table) -> Result<Report, Failure> {
        let to = endpoint(table, &self.to, End::From).map_err(Failure::Wrong)?;
        if self.size.0 as usize > table.memory.largest_message {
            return Err(Failure::Wrong(format!("--size {} is over `memory.largest_message` of the table", self.size)));
        }
        let mut writer = Writer::open(&to, self.patience.0).await?;
        let run = Run::new(now());
        let progress = Progress::new(format!("writing {to}, run {run}"), Some(self.count));
        let (begin, mut sent) = (Instant::now(), 0);
        while sent < self.count {
            let due = (begin.elapsed().as_secs_f64() * self.rate as f64) as u64;
            let round = due.min(self.count).saturating_sub(sent).min(ROUND);
            if round == 0 {
                sleep(PAUSE).await;
                continue;
            }
            let of = |number| Numbered {
                run,
                number,
                count: self.count,
                keys: self.keys,
                size: self.size.0 as usize,
                time: now(),
            };
            writer.write((sent..sent + round).map(|number| of(number).message())).await?;
            sent += round;
            progress.at(sent, sent);
        }
        writer.close().await;
        let mut notes =
            vec![format!("judge it with: trestle verify read {} CLUSTER/TOPIC --run {run}", self.file.display())];
        if writer.doubtful > 0 {
            notes.push(format!(
                "{} messages were written again because it was not known whether they were stored: they may be there twice",
                writer.doubtful
            ));
        }
        let facts = vec![
            ("run", json!(run.to_string())),
            ("written", json!(sent)),
            ("perhaps_twice", json!(writer.doubtful)),
            ("seconds", json!((begin.elapsed().as_secs_f64() * 1e3).round() / 1e3)),
        ];
        Ok(Report { about: format!("wrote {to}"), facts, kinds: Vec::new(), notes })
    }
}

/// Writes a topic, each message confirmed.
struct Writer {
    sink: Arc<dyn Sink>,
    lanes: Vec<Box<dyn Lane>>,
    patience: Duration,
    /// Messages that were sent a second time because nobody knew whether they were stored.
    doubtful: u64,
    /// Of messages without keys: goes around.
    turn: usize,
}

impl Writer {
    async fn open(to: &Endpoint, patience: Duration) -> Result<Self, String> {
        let connector = clusters::connect(&to.cluster).map_err(|error| error.problem)?;
        let spec = SinkSpec {
            topic: to.topic.clone(),
            route: "verify".into(),
            hop: "deliver",
            fenced: false,
            split_large: false,
            send_timeout: patience,
            guarantee: to.cluster.guarantee,
            options: to.options.clone(),
        };
        let told = |fault: Fault| format!("{to}: {fault}");
        let late = |_| format!("{to}: nothing is heard of it for {patience:?}");
        let sink = timeout(patience, connector.sink(spec)).await.map_err(late)?.map_err(told)?;
        let mut lanes = Vec::new();
        for partition in 0..sink.partitions() {
            let key = LaneKey { target: PartitionId(partition), source: None };
            lanes.push(timeout(patience, sink.lane(key)).await.map_err(late)?.map_err(told)?);
        }
        Ok(Writer { sink, lanes, patience, doubtful: 0, turn: 0 })
    }

    /// Returns when each is confirmed.
    async fn write(&mut self, messages: impl Iterator<Item = Message>) -> Result<(), String> {
        let mut shares: Vec<Vec<Message>> = vec![Vec::new(); self.lanes.len()];
        for message in messages {
            let place = match &message.key {
                Some(key) => self.sink.place(key).0 as usize,
                None => {
                    self.turn += 1;
                    self.turn % shares.len()
                }
            };
            shares[place].push(message);
        }
        let limits = self.sink.limits();
        let sends = self.lanes.iter_mut().zip(shares).map(async |(lane, share)| {
            let mut doubtful = 0;
            let mut rest = share.as_slice();
            while !rest.is_empty() {
                let mut bytes = 0;
                let fits = rest.iter().take(limits.unit_messages).take_while(|message| {
                    bytes += message.size();
                    bytes <= limits.unit_bytes
                });
                let (unit, behind) = rest.split_at(fits.count().max(1));
                doubtful += write(lane.as_mut(), unit, self.patience).await?;
                rest = behind;
            }
            Ok::<_, String>(doubtful)
        });
        self.doubtful += try_join_all(sends).await?.into_iter().sum::<u64>();
        Ok(())
    }

    async fn close(&mut self) {
        for lane in self.lanes.drain(..) {
            lane.close().await;
        }
    }
}

/// Sends as often as it takes; gives the messages of which it was not known whether they were stored.
async fn write(lane: &mut dyn Lane, mut unit: &[Message], patience: Duration) -> Result<u64, String> {
    let (mut doubtful, mut end) = (0, Instant::now() + patience);
    while !unit.is_empty() {
        let tracker = Tracker::new(PartitionId(0), || {});
        let batch = tracker.admit(unit.to_vec()).ok_or("the messages were not admitted")?;
        let sent = lane.send(vec![Slice::whole(Arc::new(batch))]).await;
        let mut fault = None;
        for (messages, outcome) in sent.runs {
            match outcome {
                Outcome::Stored if fault.is_none() => {
                    unit = &unit[messages..];
                    end = Instant::now() + patience;
                }
                Outcome::Refused(Fault { kind: FaultKind::Rejected(_), detail, .. }) => return Err(detail),
                Outcome::Unknown(why) => {
                    doubtful += messages as u64;
                    fault = fault.or(Some(why));
                }
                Outcome::Refused(why) => fault = fault.or(Some(why)),
                Outcome::Stored | Outcome::NotSent => {}
            }
        }
        match fault {
            Some(fault) if Instant::now() > end => return Err(fault.to_string()),
            Some(_) => sleep(RETRY).await,
            None => {}
        }
    }
    Ok(doubtful)
}
