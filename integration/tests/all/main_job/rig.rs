//! What the tests of the main job have in common: a route of the test's own, and the wait for its messages.

use std::{
    collections::BTreeSet,
    env,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use tokio::{task::spawn_blocking, time::sleep};
pub use trestle_integration::short_or_soak;
use trestle_integration::{
    Bridge, Brokers, Kafka, Pulsar, RocketMq, create_kafka_topic, http,
    oracle::{Commits, Ledger, Load, PulsarLog, Seen, Target, Verdict, Writer, judge},
    until,
};

pub const PARTITIONS: i32 = 4;
/// Long enough for a start on a busy machine; a fault's end is followed by flow within 30 s on a quiet one.
pub const SOON: Duration = Duration::from_secs(60);
/// Without a new message for so long, the flow counts as stuck.
const STALL: Duration = Duration::from_secs(60);

/// Where the brokers are.
#[derive(Clone, Debug)]
pub struct Site {
    pub kafka: String,
    pub pulsar: String,
    pub pulsar_admin: String,
    pub namesrv: String,
}

impl Site {
    /// The shared brokers, or those named by `$TRESTLE_SITE`: KAFKA,PULSAR,PULSAR ADMIN,NAMESRV.
    pub async fn shared() -> Result<Site> {
        if let Ok(site) = env::var("TRESTLE_SITE") {
            let parts: Vec<String> = site.split(',').map(str::to_owned).collect();
            let [kafka, pulsar, pulsar_admin, namesrv] =
                parts.try_into().ok().context("TRESTLE_SITE has no four parts")?;
            return Ok(Site { kafka, pulsar, pulsar_admin, namesrv });
        }
        let brokers = Brokers::shared().await?;
        Ok(Site::of(&brokers.kafka, &brokers.pulsar, &brokers.rocketmq))
    }

    pub fn of(kafka: &Kafka, pulsar: &Pulsar, rocketmq: &RocketMq) -> Site {
        Site {
            kafka: kafka.servers.clone(),
            pulsar: pulsar.url.clone(),
            pulsar_admin: pulsar.admin.clone(),
            namesrv: rocketmq.namesrv.clone(),
        }
    }

    /// A request to Pulsar's REST interface; gives status and body.
    pub async fn pulsar_rest(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        http::request(method, self.pulsar_admin.trim_start_matches("http://"), path, body).await
    }

    pub fn log(&self) -> PulsarLog {
        PulsarLog::new(&self.pulsar, &self.pulsar_admin)
    }
}

/// A route whose names no other test uses.
pub struct Job {
    pub site: Site,
    pub name: String,
    pub load: Load,
    /// Further top-level lines of the route table.
    pub table: String,
    /// Of the Kafka consumer, beyond the short session.
    pub options: Vec<(&'static str, &'static str)>,
    pub extra: Extra,
    /// Of the staging topic.
    pub namespace: String,
    /// Without staging.
    pub direct: bool,
    /// The cluster of the dead letters, where it is not that of the staging topic: URL and REST address.
    pub letters_at: Option<(String, String)>,
}

/// Further fields in the route table, each with a comma before it; of the route itself, each on a line of its own.
#[derive(Default)]
pub struct Extra {
    /// Of the Pulsar cluster.
    pub staging: String,
    /// Of the RocketMQ cluster.
    pub billing: String,
    /// Of the route's `from`.
    pub from: String,
    pub route: String,
}

impl Job {
    /// Makes the source topic; the rest is the bridge's to make.
    pub async fn prepare(site: Site, what: &str, load: Load) -> Result<Job> {
        let job = Job::plan(site, what, load)?;
        create_kafka_topic(&job.site.kafka, &job.name, PARTITIONS, &[]).await?;
        Ok(job)
    }

    /// Makes nothing yet.
    pub fn plan(site: Site, what: &str, load: Load) -> Result<Job> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let name = format!("{what}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let load = Load { run: name.clone(), ..load };
        let options = vec![("session.timeout.ms", "6000")];
        let (extra, namespace) = (Extra::default(), "public/bridge".to_owned());
        Ok(Job { site, name, load, table: String::new(), options, extra, namespace, direct: false, letters_at: None })
    }

    pub fn staging(&self) -> String {
        format!("persistent://{}/{}", self.namespace, self.name)
    }

    pub fn letters(&self) -> String {
        format!("persistent://public/dlq-pulsar-bridge/{}", self.name)
    }

    pub fn group(&self) -> String {
        format!("trestle-{}", self.name)
    }

    pub fn route_table(&self) -> String {
        format!("{}\nroutes:\n{}\n{}", self.clusters(), self.route(), self.table)
    }

    pub fn clusters(&self) -> String {
        let Site { kafka, pulsar, pulsar_admin, namesrv } = &self.site;
        let Extra { staging, billing, .. } = &self.extra;
        let letters = self.letters_at.as_ref().map_or_else(String::new, |(url, admin)| {
            format!("\n  letters: {{ type: pulsar, url: \"{url}\", admin: \"{admin}\" }}")
        });
        format!(
            r#"clusters:
  main: {{ type: kafka, servers: "{kafka}" }}
  staging: {{ type: pulsar, url: "{pulsar}", admin: "{pulsar_admin}"{staging} }}
  billing: {{ type: rocketmq, namesrv: "{namesrv}"{billing} }}{letters}"#
        )
    }

    pub fn route(&self) -> String {
        let (name, Extra { from, route, .. }) = (&self.name, &self.extra);
        let options: Vec<String> = self.options.iter().map(|(name, value)| format!("{name}: \"{value}\"")).collect();
        let options = options.join(", ");
        let via = format!("\n    via: {{ cluster: staging, topic: \"{}\" }}", self.staging());
        let via = if self.direct { "" } else { &via };
        let letters = if self.letters_at.is_some() { "letters" } else { "staging" };
        format!(
            r#"  {name}:
    from: {{ cluster: main, topic: {name}, options: {{ {options} }}{from} }}{via}
    to: {{ cluster: billing, topic: {name} }}
    dead_letter: {{ cluster: {letters} }}
    {route}"#
        )
    }

    pub async fn start(&self) -> Result<Bridge> {
        Bridge::start(&self.route_table()).await
    }

    /// Ends by itself at a place in the program: see `src/pipeline/crash.rs`.
    pub async fn start_to_crash(&self, place: &str) -> Result<Bridge> {
        Bridge::start_with(&self.route_table(), &[("FAILPOINTS", place)]).await
    }

    /// Started, and every hop flows.
    pub async fn ready(&self) -> Result<Bridge> {
        let mut bridge = self.start().await?;
        bridge.ready(SOON).await?;
        Ok(bridge)
    }

    /// `rate`: messages a second.
    pub fn write(&self, rate: u64) -> Result<Writer> {
        Writer::start(&self.site.kafka, &self.name, self.load.clone(), Some(rate))
    }

    /// The topic is there once the bridge was ready for the first time.
    pub async fn target(&self) -> Result<Target> {
        until("the target topic is there", SOON, || async {
            Ok(Some(Target::open(&self.site.namesrv, &self.name).await?))
        })
        .await
    }

    pub fn commits(&self) -> Result<Commits> {
        Commits::start(&self.site.kafka, &self.group(), &self.name, PARTITIONS, self.site.log(), &self.staging())
    }

    /// Dead letters that are there now, with their causes.
    pub async fn dead(&self) -> Result<Vec<(Seen, String)>> {
        let log = match &self.letters_at {
            Some((url, admin)) => PulsarLog::new(url, admin),
            None => self.site.log(),
        };
        log.letters(&self.letters(), &self.load).await
    }

    /// Waits until so many distinct messages are in the target.
    pub async fn arrived(&self, target: &mut Target, count: usize, limit: Duration) -> Result<()> {
        let target = tokio::sync::Mutex::new(target);
        until(&format!("{count} messages are in the target"), limit, || async {
            let mut target = target.lock().await;
            target.read_on(&self.load).await?;
            Ok((target.numbers().len() >= count).then_some(()))
        })
        .await
    }

    /// A message that was confirmed after the fault's end arrives within 30 s on a quiet machine. Call it when the fault ends.
    pub async fn flows_again(&self, writer: &Writer, target: &mut Target, what: &str) -> Result<Duration> {
        let begin = Instant::now();
        let told = || format!("after {what} was back");
        let new = writer.reached();
        let target = tokio::sync::Mutex::new(target);
        until("a message that was written afterwards is in the target", SOON, || async {
            let mut target = target.lock().await;
            target.read_on(&self.load).await?;
            Ok(target.numbers().last().is_some_and(|last| *last > new).then_some(()))
        })
        .await
        .with_context(told)?;
        eprintln!("flow {:.1} s after {what} was back", begin.elapsed().as_secs_f64());
        Ok(begin.elapsed())
    }

    /// Waits until every confirmed message was seen in the target or among the dead letters, and judges.
    pub async fn judged(&self, target: &mut Target, ledger: &Ledger) -> Result<Verdict> {
        let letters = self.all_there(target, ledger, |_| true).await?;
        target.read_on(&self.load).await?;
        Ok(judge(ledger, &target.seen, &letters))
    }

    /// Waits until the confirmed messages that `counts` were seen; gives the dead letters.
    pub async fn all_there(
        &self,
        target: &mut Target,
        ledger: &Ledger,
        counts: impl Fn(i32) -> bool,
    ) -> Result<Vec<Seen>> {
        let wanted: BTreeSet<u64> =
            ledger.confirmed.iter().filter(|(_, at)| counts(at.partition)).map(|(number, _)| *number).collect();
        ensure!(!wanted.is_empty(), "nothing was confirmed");
        let (mut fewest, mut since) = (usize::MAX, Instant::now());
        loop {
            target.read_on(&self.load).await?;
            let there = target.numbers();
            let mut missing: BTreeSet<u64> = wanted.difference(&there).copied().collect();
            // Letters are few, and asked for only when they may be what is missing.
            let mut letters = Vec::new();
            if missing.len() < 200 || since.elapsed() > STALL {
                letters = self.dead().await?.into_iter().map(|(seen, _)| seen).collect();
                missing.retain(|number| letters.iter().all(|letter| letter.number != Some(*number)));
            }
            if missing.is_empty() {
                return Ok(letters);
            }
            if missing.len() < fewest {
                (fewest, since) = (missing.len(), Instant::now());
            }
            if since.elapsed() > STALL {
                let first: Vec<_> = missing.iter().take(5).map(|n| (n, ledger.confirmed.get(n))).collect();
                bail!(
                    "STUCK: {} of {} messages missing for {STALL:?}, the first {first:?}",
                    missing.len(),
                    wanted.len()
                );
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    /// The members of the group, as the broker names them.
    pub async fn members(&self) -> Result<Vec<String>> {
        let (servers, group) = (self.site.kafka.clone(), self.group());
        spawn_blocking(move || {
            let asking: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &servers).create()?;
            let groups = asking.fetch_group_list(Some(&group), Duration::from_secs(10))?;
            let members = groups.groups().iter().flat_map(|group| group.members());
            Ok(members.map(|member| member.id().to_owned()).collect())
        })
        .await?
    }
}

/// Waits until readiness is refused for a reason that has all these words in one line.
pub async fn says(bridge: &Bridge, words: &[&str]) -> Result<()> {
    until(&format!("readiness says {words:?}"), SOON, || async {
        let (status, body) = bridge.readiness().await?;
        let said = body.lines().any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(status == 503 && said, "it says {status}: {body}");
        Ok(Some(()))
    })
    .await
    .with_context(|| bridge.about())
}

/// Waits until a hop's counters say that nothing is left: received = delivered + dead-lettered + filtered.
pub async fn at_rest(bridge: &Bridge, hop: &str, received: u64) -> Result<()> {
    let adds_up = || async {
        let metrics = bridge.metrics().await?;
        let count = |name: &str| metrics.hop(hop, name);
        let settled = count("messages_delivered_total")
            + count("messages_dead_lettered_total")
            + count("messages_filtered_total");
        let (got, in_flight) = (count("messages_received_total"), count("in_flight_messages"));
        ensure!(
            (got, settled, in_flight) == (received, received, 0),
            "hop {hop}: {got} received, {settled} settled, {in_flight} in flight of {received}"
        );
        Ok(Some(()))
    };
    until("the metrics add up", Duration::from_secs(15), adds_up).await
}

/// Waits until the writer got this far.
pub async fn written(writer: &Writer, count: u64) -> Result<()> {
    until(&format!("{count} messages are written"), Duration::from_secs(600), || async {
        Ok((writer.confirmed() >= count).then_some(()))
    })
    .await
}
