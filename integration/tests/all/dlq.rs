//! `trestle dlq` by the real program on real brokers: letters are written by a bridge, looked at, and replayed.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
};
use serde_json::Value;
use tokio::process::Command;
use trestle_integration::{Bridge, Brokers, RocketMq, Settings, bridge_binary, create_kafka_topic, until};

const SOON: Duration = Duration::from_secs(60);
/// What the target topic takes at first.
const NARROW: &str = "2000";
/// Letters of a window, which a kill may repeat.
const WINDOW: u64 = 100;

struct Case {
    brokers: &'static Brokers,
    name: String,
    file: PathBuf,
}

/// An answer that was asked for as JSON, and how the command ended.
struct Told {
    exit: Option<i32>,
    json: Value,
    text: String,
}

impl Case {
    /// A route from Kafka to a Kafka topic that takes no large messages. `letters`: where dead letters go.
    async fn new(what: &str, letters: impl Fn(&str) -> String) -> Result<Case> {
        let brokers = Brokers::shared().await?;
        Case::with(what, letters, &brokers.rocketmq).await
    }

    async fn with(what: &str, letters: impl Fn(&str) -> String, rocketmq: &RocketMq) -> Result<Case> {
        let brokers = Brokers::shared().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let name = format!("{what}-{now}");
        let servers = &brokers.kafka.servers;
        create_kafka_topic(servers, &format!("{name}-in"), 2, &[]).await?;
        create_kafka_topic(servers, &format!("{name}-out"), 2, &[("max.message.bytes", NARROW)]).await?;
        let pulsar = &brokers.pulsar;
        let table = format!(
            "clusters:
  main: {{ type: kafka, servers: \"{servers}\" }}
  staging: {{ type: pulsar, url: \"{}\", admin: \"{}\" }}
  billing: {{ type: rocketmq, namesrv: \"{}\" }}
routes:
  {name}:
    from: {{ cluster: main, topic: {name}-in }}
    to: {{ cluster: main, topic: {name}-out }}
    dead_letter: {{ {} }}
",
            pulsar.url,
            pulsar.admin,
            rocketmq.namesrv,
            letters(&name)
        );
        let file = std::env::temp_dir().join(format!("trestle-{name}.yaml"));
        fs::write(&file, &table)?;
        Ok(Case { brokers, name, file })
    }

    fn command(&self, command: &[&str], arguments: &[&str]) -> Result<Command> {
        let mut trestle = Command::new(bridge_binary()?);
        trestle.args(command).arg(&self.file).args(arguments).kill_on_drop(true);
        Ok(trestle)
    }

    async fn ask(&self, command: &[&str], arguments: &[&str]) -> Result<Told> {
        let mut asked = self.command(command, arguments)?;
        asked.args(["--output", "json"]);
        let Output { status, stdout, stderr } = tokio::time::timeout(2 * SOON, asked.output()).await??;
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        Ok(Told { exit: status.code(), json: serde_json::from_slice(&stdout).unwrap_or_default(), text })
    }

    /// Writes numbered messages to the source; gives the run.
    async fn send(&self, count: u64, size: &str) -> Result<String> {
        let topic = format!("main/{}-in", self.name);
        let (count, rate) = (count.to_string(), "100000");
        let told = self.ask(&["verify", "send"], &[&topic, "--count", &count, "--size", size, "--rate", rate]).await?;
        Ok(told.json["run"].as_str().with_context(|| told.text.clone())?.to_owned())
    }

    async fn read(&self, run: &str) -> Result<Told> {
        let topic = format!("main/{}-out", self.name);
        self.ask(&["verify", "read"], &[&topic, "--run", run, "--patience", "10s"]).await
    }

    async fn letters(&self) -> Result<u64> {
        let told = self.ask(&["dlq", "ls"], &["--limit", "1"]).await?;
        told.json["count"].as_u64().with_context(|| told.text.clone())
    }

    async fn until_letters(&self, count: u64) -> Result<()> {
        until(&format!("there are {count} letters"), SOON, || async {
            let there = self.letters().await?;
            ensure!(there == count, "there are {there}");
            Ok(Some(()))
        })
        .await
    }

    /// The target takes everything from here on.
    async fn widen(&self) -> Result<()> {
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers.kafka.servers).create()?;
        let topic = format!("{}-out", self.name);
        let wider = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "1000000");
        for result in admin.alter_configs([&wider], &AdminOptions::new()).await? {
            result.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
        }
        Ok(())
    }

    async fn bridge(&self) -> Result<Bridge> {
        let mut bridge = Bridge::start(&fs::read_to_string(&self.file)?).await?;
        bridge.ready(SOON).await?;
        Ok(bridge)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

#[tokio::test]
async fn a_thousand_letters_are_listed_and_after_the_repair_replayed_with_a_kill_in_between() -> Result<()> {
    const POISON: u64 = 1_000;
    let letters =
        |name: &str| format!("cluster: staging, topic: \"persistent://public/dlq-pulsar-bridge/{name}\", most: off");
    let case = Case::new("buried", letters).await?;
    let bridge = case.bridge().await?;
    let good = case.send(500, "100B").await?;
    let bad = case.send(POISON, "3KiB").await?;
    case.until_letters(POISON).await.with_context(|| bridge.about())?;
    let read = case.read(&good).await?;
    ensure!(read.exit == Some(0) && read.json["arrived"] == 500, "{}", read.text);

    let page = case.ask(&["dlq", "ls"], &["--limit", "10", "--skip", "20", "--cause", "too_large"]).await?;
    let listed = page.json["letters"].as_array().context("no letters")?;
    ensure!(listed.len() == 10 && page.json["more"] == POISON - 30, "{}", page.text);
    let none = case.ask(&["dlq", "ls"], &["--cause", "timeout"]).await?;
    ensure!(none.exit == Some(0) && none.json["count"] == 0, "{}", none.text);
    let id = listed[0]["id"].as_str().context("no id")?;
    let shown = case.ask(&["dlq", "show"], &["--id", id, "--body", "hex"]).await?;
    ensure!(shown.json[0]["cause"] == "too_large" && shown.json[0]["bytes"] == 3072, "{}", shown.text);
    let stats = case.ask(&["dlq", "stats"], &[]).await?;
    ensure!(stats.json["letters"] == POISON && stats.json["by_hour"][0]["cause"] == "too_large", "{}", stats.text);
    let plan = case.ask(&["dlq", "replay"], &[]).await?;
    ensure!(plan.json["would"][0]["count"] == POISON && case.letters().await? == POISON, "{}", plan.text);

    // Before the repair, a letter comes back with one replay more.
    let last = case.ask(&["dlq", "ls"], &["--skip", "999"]).await?;
    let id = last.json["letters"][0]["id"].as_str().context("no id")?;
    let early = case.ask(&["dlq", "replay"], &["--id", id, "--yes"]).await?;
    ensure!(early.exit == Some(1) && early.json["returned"] == 1, "{}", early.text);
    let again = case.ask(&["dlq", "ls"], &["--id", id]).await?;
    ensure!(again.json["count"] == 1 && again.json["letters"][0]["replays"] == 1, "{}", again.text);

    case.widen().await?;
    let mut killed = case.command(&["dlq", "replay"], &["--yes", "--rate", "300"])?;
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    until("some letters are replayed", SOON, || async { Ok((case.letters().await? < POISON - 200).then_some(())) })
        .await?;
    killed.kill().await?;
    let left = case.letters().await?;
    ensure!(left > 0, "it was over before it was killed");
    let rest = case.ask(&["dlq", "replay"], &["--yes", "--rate", "10000"]).await?;
    ensure!(rest.exit == Some(0) && rest.json["delivered"].as_u64() >= Some(left), "{left} left: {}", rest.text);
    ensure!(case.letters().await? == 0, "letters are left");

    let read = case.read(&bad).await?;
    let count = |kind: &str| read.json[kind]["count"].as_u64();
    ensure!(read.json["arrived"] == POISON && count("missing") == Some(0), "{}", read.text);
    ensure!(count("changed") == Some(0) && count("reordered") == Some(0), "{}", read.text);
    ensure!(count("repeated") <= Some(WINDOW), "{}", read.text);
    bridge.fine();
    Ok(())
}

#[tokio::test]
async fn letters_are_kept_replayed_and_purged_on_every_protocol() -> Result<()> {
    let pulsar = |name: &str| format!("cluster: staging, topic: \"persistent://public/dlq-pulsar-bridge/{name}\"");
    let kafka = |name: &str| format!("cluster: main, topic: {name}-dead");
    let rocketmq = |name: &str| format!("cluster: billing, topic: {name}-dead");
    type Letters<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&str, Letters<'_>); 3] = [("on-pulsar", &pulsar), ("on-kafka", &kafka), ("on-rocketmq", &rocketmq)];
    // As a cluster has to be that is to keep dead letters.
    let keeps = RocketMq::start_with(Settings::default().conf("fileReservedTime=8760")).await?;
    for (what, letters) in cases {
        let case = Case::with(what, letters, &keeps).await?;
        let bridge = case.bridge().await?;
        let bad = case.send(30, "3KiB").await?;
        case.until_letters(30).await.with_context(|| format!("{what}: {}", bridge.about()))?;
        // Some in the middle are given up, so that marks have holes.
        let page = case.ask(&["dlq", "ls"], &["--skip", "10", "--limit", "3"]).await?;
        for letter in page.json["letters"].as_array().context("no letters")? {
            let id = letter["id"].as_str().context("no id")?;
            let purged = case.command(&["dlq", "purge"], &["--id", id, "--yes"])?.output().await?;
            ensure!(purged.status.code() == Some(0), "{what}: {purged:?}");
        }
        ensure!(case.letters().await? == 27, "{what}: {} letters", case.letters().await?);
        let refused = case.command(&["dlq", "purge"], &[])?.stdin(Stdio::null()).output().await?;
        ensure!(refused.status.code() == Some(2) && case.letters().await? == 27, "{what}: {refused:?}");
        case.widen().await?;
        let replayed = case.ask(&["dlq", "replay"], &["--yes"]).await?;
        ensure!(replayed.exit == Some(0) && replayed.json["delivered"] == 27, "{what}: {}", replayed.text);
        ensure!(case.letters().await? == 0, "{what}: letters are left");
        let read = case.read(&bad).await?;
        let count = |kind: &str| read.json[kind]["count"].as_u64();
        // What was given up is still among the dead letters.
        ensure!(read.json["arrived"] == 27 && read.json["dead_lettered"] == 3, "{what}: {}", read.text);
        ensure!((count("missing"), count("repeated")) == (Some(0), Some(0)), "{what}: {}", read.text);
        ensure!((count("changed"), count("reordered")) == (Some(0), Some(0)), "{what}: {}", read.text);
        bridge.fine();
    }
    Ok(())
}

/// The letters of a case's route, over HTTP.
struct Http<'a>(&'a Case, &'a Bridge);

impl Http<'_> {
    async fn ask(&self, method: &str, rest: &str, body: &str) -> Result<(u16, Value)> {
        let path = format!("/api/v1/routes/{}/dead-letters{rest}", self.0.name);
        let (status, body) = self.1.ask(method, &path, body).await?;
        Ok((status, serde_json::from_str(&body).with_context(|| format!("{method} {path}: {body}"))?))
    }

    async fn fine(&self, method: &str, rest: &str, body: &str) -> Result<Value> {
        let (status, json) = self.ask(method, rest, body).await?;
        ensure!(status == 200, "{method} {rest} {body}: {status} {json}");
        Ok(json)
    }
}

#[tokio::test]
async fn letters_are_listed_shown_replayed_and_purged_over_http() -> Result<()> {
    let letters = |name: &str| format!("cluster: staging, topic: \"persistent://public/dlq-pulsar-bridge/{name}\"");
    let case = Case::new("over-http", letters).await?;
    let bridge = case.bridge().await?;
    let bad = case.send(30, "3KiB").await?;
    case.until_letters(30).await.with_context(|| bridge.about())?;
    let http = Http(&case, &bridge);

    // Page by page, while letters in front of the next page are given up.
    let first = http.fine("GET", "?limit=10&cause=too_large", "").await?;
    ensure!(first["count"] == 30 && first["more"] == 20, "{first}");
    let id = |page: &Value, nth: usize| page["letters"][nth]["id"].as_str().map(str::to_owned).context("no id");
    let (given_up, kept) = (id(&first, 3)?, id(&first, 4)?);
    let selection = format!(r#"{{ "selection": {{ "id": "{given_up}" }}"#);
    let would = http.fine("POST", "/purge", &format!("{selection} }}")).await?;
    ensure!(would["dry_run"] == true && would["letters"] == 1 && case.letters().await? == 30, "{would}");
    let purged = http.fine("POST", "/purge", &format!(r#"{selection}, "confirm": true }}"#)).await?;
    ensure!(purged["dry_run"] == false && purged["letters"] == 1 && purged["stopped"] == false, "{purged}");
    ensure!(case.letters().await? == 29, "purged more or less than one");
    let next = first["next"].as_str().context("no next page")?;
    let second = http.fine("GET", &format!("?limit=20&next={next}"), "").await?;
    ensure!(second["count"] == 20 && second["next"].is_null(), "{second}");
    let mut listed: Vec<String> = (0..10).map(|nth| id(&first, nth)).collect::<Result<_>>()?;
    listed.extend((0..20).map(|nth| id(&second, nth)).collect::<Result<Vec<_>>>()?);
    listed.sort();
    listed.dedup();
    ensure!(listed.len() == 30, "a letter is on two pages: {listed:?}");
    let none = http.fine("GET", "?cause=timeout", "").await?;
    ensure!(none["count"] == 0 && none["letters"] == serde_json::json!([]), "{none}");

    let shown = http.fine("GET", &format!("/{kept}?body=hex"), "").await?;
    let body = shown["body"].as_str().context("no body")?;
    ensure!(shown["bytes"] == 3072 && body.len() == 2 * 3072 && shown["cause"] == "too_large", "{shown}");
    ensure!(shown["headers"].as_array().is_some_and(|headers| !headers.is_empty()), "{shown}");
    let (status, gone) = http.ask("GET", &format!("/{given_up}"), "").await?;
    ensure!(status == 404 && gone["detail"].as_str().is_some_and(|why| why.contains(&given_up)), "{status} {gone}");
    let stats = http.fine("GET", "/stats", "").await?;
    ensure!(stats["letters"] == 29 && stats["by_hour"][0]["cause"] == "too_large", "{stats}");

    // Before the repair, a letter comes back with one replay more.
    let one = format!(r#"{{ "selection": {{ "id": "{kept}" }}, "confirm": true }}"#);
    let early = http.fine("POST", "/replay", &one).await?;
    ensure!(early["returned"] == 1 && early["delivered"] == 0, "{early}");
    ensure!(http.fine("GET", &format!("/{kept}"), "").await?["replays"] == 1, "not counted");
    case.widen().await?;
    let plan = http.fine("POST", "/replay", "{}").await?;
    ensure!(plan["letters"] == 29 && plan["would"][0]["to"] == format!("main/{}-out", case.name), "{plan}");
    ensure!(case.letters().await? == 29, "a plan has done something");
    // Slowly enough to be asked a second time meanwhile.
    let slowly = r#"{ "confirm": true, "rate": 10 }"#;
    let second = async {
        until("a replay is under way", SOON, || async {
            Ok((bridge.log_lines("are being replayed over HTTP")?.len() == 2).then_some(()))
        })
        .await?;
        http.ask("POST", "/purge", r#"{ "confirm": true }"#).await
    };
    let (replayed, second) = tokio::join!(http.fine("POST", "/replay", slowly), second);
    let (replayed, (status, refused)) = (replayed?, second?);
    ensure!(status == 409, "{status} {refused}");
    ensure!(replayed["delivered"] == 29 && replayed["stopped"] == false, "{replayed}");
    ensure!(case.letters().await? == 0, "letters are left");
    let read = case.read(&bad).await?;
    let count = |kind: &str| read.json[kind]["count"].as_u64();
    ensure!(read.json["arrived"] == 29 && read.json["dead_lettered"] == 1, "{}", read.text);
    ensure!((count("repeated"), count("changed")) == (Some(0), Some(0)), "{}", read.text);

    for (line, says) in [("were purged over HTTP", "\"letters\":1"), ("were replayed over HTTP", "\"delivered\":29")] {
        let said = bridge.log_lines(line)?;
        let told = |words: &str| said.iter().any(|line| line.contains(words) && line.contains("\"peer\":\"127.0.0.1:"));
        ensure!(told(says) && told(&case.name), "{said:#?}");
    }
    bridge.fine();
    Ok(())
}
