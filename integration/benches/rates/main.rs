//! How fast and at what cost the bridge carries a backlog: through the main job and through each hop alone, beside what the
//! clients themselves need to read the source and to write the target. `integration/bench` runs it.

mod clients;
mod counts;
mod fill;
mod process;
mod table;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};
use trestle_integration::{Bridge, Kafka, Pulsar, RocketMq, Settings};

use self::{
    clients::Client,
    counts::Place,
    process::Usage,
    table::{Row, Run},
};

/// Nothing more arrives for so long: the measurement has failed.
const STALL: Duration = Duration::from_secs(60);
/// Between two looks at a target's count.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub struct Wanted {
    messages: u64,
    size: usize,
    partitions: u32,
    rounds: usize,
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    // Cargo adds `--bench` to what was written.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if words.first().is_some_and(|word| word == "client") {
        return runtime.block_on(clients::measure(&words[1..]));
    }
    runtime.block_on(bench(wanted(&words)?))
}

/// The options that `integration/bench --help` describes.
fn wanted(words: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted { messages: 200_000, size: 1_024, partitions: 4, rounds: 3, json: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--messages" => wanted.messages = value.parse()?,
            "--size" => wanted.size = value.parse()?,
            "--partitions" => wanted.partitions = value.parse()?,
            "--rounds" => wanted.rounds = value.parse::<usize>()?.max(1),
            "--json" => wanted.json = Some(value.into()),
            _ => bail!("unknown option {word}"),
        }
    }
    Ok(wanted)
}

struct Site {
    kafka: Kafka,
    pulsar: Pulsar,
    rocketmq: RocketMq,
}

async fn bench(wanted: Wanted) -> Result<()> {
    eprintln!("starting the brokers");
    // RocketMQ's own default; the image of the tests syncs every message.
    let asynchronous = Settings::default().conf("flushDiskType=ASYNC_FLUSH");
    let (kafka, pulsar, rocketmq) =
        tokio::try_join!(Kafka::start(), Pulsar::start(), RocketMq::start_with(asynchronous))?;
    let site = Site { kafka, pulsar, rocketmq };
    // What one hop staged is still there when the next measurement begins to read it.
    site.pulsar.rest("PUT", "namespaces/public/bench", "").await?;
    let forever = r#"{"retentionTimeInMinutes":-1,"retentionSizeInMB":-1}"#;
    site.pulsar.rest("POST", "namespaces/public/bench/retention", forever).await?;
    let source = site.kafka_topic("backlog");
    fill::fill(&source, &wanted).await?;
    let mut runs = Vec::new();
    for round in 0..wanted.rounds {
        eprintln!("round {} of {}", round + 1, wanted.rounds);
        site.round(&wanted, &source, round, &mut runs).await?;
    }
    let rows = table::rows(&runs);
    eprintln!();
    table::print(&wanted, &rows);
    table::save(&wanted, &rows, &runs)
}

impl Site {
    /// Everything once, each beside what it is compared with.
    async fn round(&self, wanted: &Wanted, source: &Place, round: usize, runs: &mut Vec<Run>) -> Result<()> {
        let staged = self.pulsar_topic(&format!("persistent://public/bench/staged-{round}"));
        let delivered = self.rocketmq_topic(&format!("delivered-{round}"));
        let main = self.rocketmq_topic(&format!("main-{round}"));
        let stage = self.route("stage", source, None, &staged);
        // What the first hop staged is the backlog of the second.
        let deliver = self.route("deliver", &staged, None, &delivered);
        let via = self.pulsar_topic(&format!("persistent://public/bench/via-{round}"));
        let main_job = self.route("main", source, Some(&via), &main);
        let written = [
            self.pulsar_topic(&format!("persistent://public/bench/written-{round}")),
            self.rocketmq_topic(&format!("written-{round}")),
        ];
        for (row, client, place) in
            [(Row::ReadKafka, Client::Read, source), (Row::WritePulsar, Client::Write, &written[0])]
        {
            runs.push(clients::alone(row, client, place, wanted).await?);
        }
        runs.push(carried(Row::Stage, &stage, &staged, &staged, wanted).await?);
        for (row, client, place) in
            [(Row::ReadPulsar, Client::Read, &staged), (Row::WriteRocketMq, Client::Write, &written[1])]
        {
            runs.push(clients::alone(row, client, place, wanted).await?);
        }
        runs.push(carried(Row::Deliver, &deliver, &delivered, &delivered, wanted).await?);
        runs.push(carried(Row::MainJob, &main_job, &via, &main, wanted).await?);
        Ok(())
    }

    fn kafka_topic(&self, topic: &str) -> Place {
        Place::Kafka { servers: self.kafka.servers.clone(), topic: topic.into() }
    }

    fn pulsar_topic(&self, topic: &str) -> Place {
        Place::Pulsar { url: self.pulsar.url.clone(), admin: self.pulsar.admin.clone(), topic: topic.into() }
    }

    fn rocketmq_topic(&self, topic: &str) -> Place {
        let (namesrv, broker) = (self.rocketmq.namesrv.clone(), self.rocketmq.address().to_owned());
        Place::RocketMq { namesrv, broker, topic: topic.into() }
    }

    fn route(&self, name: &str, from: &Place, via: Option<&Place>, to: &Place) -> String {
        let end = |place: &Place| format!("{{ cluster: {}, topic: \"{}\" }}", place.protocol(), place.topic());
        let via = via.map_or(String::new(), |via| format!("    via: {}\n", end(via)));
        let name = format!("{name}-{}", to.topic().rsplit('-').next().unwrap_or_default());
        format!(
            r#"clusters:
  kafka: {{ type: kafka, servers: "{}" }}
  pulsar: {{ type: pulsar, url: "{}", admin: "{}" }}
  rocketmq: {{ type: rocketmq, namesrv: "{}" }}
routes:
  {name}:
    from: {}
{via}    to: {}
"#,
            self.kafka.servers,
            self.pulsar.url,
            self.pulsar.admin,
            self.rocketmq.namesrv,
            end(from),
            end(to),
        )
    }
}

/// Carries the backlog with a bridge of its own, until the target's broker has counted all of it. Rate and CPU are taken from
/// the first look that sees a message at the first place that the route writes to the look that sees the last at the target;
/// memory over the whole life.
async fn carried(row: Row, table: &str, first: &Place, target: &Place, wanted: &Wanted) -> Result<Run> {
    target.create(wanted.partitions).await?;
    let bridge = Bridge::start(table).await?;
    let (mut begin, mut seen, mut moved) = (None, 0, Instant::now());
    loop {
        // A place that the bridge itself makes is not there from the beginning.
        if begin.is_none() && first.count(wanted.partitions).await.is_ok_and(|count| count > 0) {
            let already = target.count(wanted.partitions).await?;
            begin = Some((Instant::now(), already, Usage::of(bridge.id()?)?));
        }
        let count = target.count(wanted.partitions).await.with_context(|| bridge.about())?;
        if count > seen {
            (seen, moved) = (count, Instant::now());
        }
        if let Some((begin, already, used)) = begin.as_ref().filter(|_| seen >= wanted.messages) {
            let time = begin.elapsed();
            let run = Run::between(row, seen - already, time, used, &Usage::of(bridge.id()?)?, wanted.size);
            bridge.fine();
            return Ok(run);
        }
        if moved.elapsed() > STALL {
            bail!("{seen} of {} arrived, and no more for {STALL:?}; {}", wanted.messages, bridge.about());
        }
        sleep(LOOK).await;
    }
}
