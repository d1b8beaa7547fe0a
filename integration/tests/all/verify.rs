//! `trestle verify` by the real program on real brokers.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;
use tokio::process::Command;
use trestle_integration::{bridge_binary, create_kafka_topic, delete_kafka_records, oracle::Load};

use crate::main_job::rig::{Job, Site};

/// What the command says, and how it ends.
struct Told {
    exit: Option<i32>,
    json: Value,
    text: String,
}

/// A route table in a file.
struct Table(PathBuf);

impl Table {
    fn of(job: &Job) -> Result<Table> {
        let file = std::env::temp_dir().join(format!("trestle-{}.yaml", job.name));
        fs::write(&file, job.route_table())?;
        Ok(Table(file))
    }

    async fn verify(&self, command: &str, arguments: &[&str]) -> Result<Told> {
        let mut verify = Command::new(bridge_binary()?);
        verify.args(["verify", command]).arg(&self.0).args(arguments).args(["--output", "json"]);
        let output = tokio::time::timeout(Duration::from_secs(120), verify.output()).await??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(Told { exit: output.status.code(), json, text })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Told {
    /// Every kind of finding with what was found of it, where anything was.
    fn wrong(&self) -> Vec<(&str, u64)> {
        let kinds = ["missing", "repeated", "reordered", "changed", "unexpected"];
        let count = |kind| self.json[kind]["count"].as_u64();
        kinds.into_iter().filter_map(|kind| Some((kind, count(kind)?))).filter(|(_, count)| *count > 0).collect()
    }

    /// Partition and position of the first finding.
    fn first(&self, path: &str) -> (Option<u64>, Option<&str>) {
        let place = self.json.pointer(path).unwrap_or(&Value::Null);
        (place["partition"].as_u64(), place["position"].as_str())
    }
}

#[tokio::test]
async fn numbered_messages_through_the_main_job_are_read_as_they_were_sent() -> Result<()> {
    let job = Job::prepare(Site::shared().await?, "verified", Load::new("", 1)).await?;
    let table = Table::of(&job)?;
    let bridge = job.ready().await?;
    let sent = table.verify("send", &[&job.name, "--count", "5000", "--rate", "100000", "--size", "300"]).await?;
    ensure!(sent.exit == Some(0) && sent.json["written"] == 5_000, "{}", sent.text);
    let run = sent.json["run"].as_str().context("no run")?;
    let read = table.verify("read", &[&job.name, "--run", run]).await?;
    ensure!(read.exit == Some(0) && read.wrong().is_empty(), "{}", read.text);
    ensure!(read.json["arrived"] == 5_000 && read.json["sound"] == true, "{}", read.text);
    let compared = table.verify("compare", &[&job.name, &job.name, "--window", "1h", "--settle", "0s"]).await?;
    ensure!(compared.exit == Some(0) && compared.json["matched"] == 5_000, "{}", compared.text);
    // The route's own group and no other.
    let members = job.members().await?;
    ensure!(members.len() == 1, "{members:?}");
    bridge.fine();
    Ok(())
}

#[tokio::test]
async fn what_is_missing_of_a_run_is_told_by_its_numbers() -> Result<()> {
    let job = Job::prepare(Site::shared().await?, "unproven", Load::new("", 1)).await?;
    let table = Table::of(&job)?;
    let topic = format!("main/{}", job.name);
    let sent = table.verify("send", &[&topic, "--count", "400", "--rate", "100000", "--keys", "1"]).await?;
    let run = sent.json["run"].as_str().with_context(|| sent.text.clone())?;
    let whole = table.verify("read", &[&topic, "--run", run]).await?;
    ensure!(whole.exit == Some(0) && whole.json["arrived"] == 400, "{}", whole.text);
    for partition in 0..4 {
        // One of them has all messages.
        let _ = delete_kafka_records(&job.site.kafka, &job.name, partition, 7).await;
    }
    let read = table.verify("read", &[&topic, "--run", run, "--patience", "5s"]).await?;
    ensure!(read.exit == Some(1) && read.wrong() == [("missing", 7)], "{}", read.text);
    ensure!(read.json["missing"]["first"][6]["number"] == 6, "{}", read.text);
    let allowed = table.verify("read", &[&topic, "--run", run, "--patience", "5s", "--allow", "missing"]).await?;
    ensure!(allowed.exit == Some(0) && allowed.json["missing"]["count"] == 7, "{}", allowed.text);
    let unknown = table.verify("read", &[&topic, "--run", "1700000000000-00000000", "--patience", "5s"]).await?;
    ensure!(unknown.exit == Some(1) && unknown.text.contains("no message of run"), "{}", unknown.text);
    Ok(())
}

#[tokio::test]
async fn two_live_topics_with_every_kind_of_message_compare_as_equal() -> Result<()> {
    let job = Job::prepare(Site::shared().await?, "compared", Load::new("", 3_000)).await?;
    let table = Table::of(&job)?;
    let bridge = job.ready().await?;
    let ledger = job.write(3_000)?.finish().await?;
    let mut target = job.target().await?;
    let letters = job.all_there(&mut target, &ledger, |_| true).await?;
    let staging = format!("staging/{}", job.staging());
    let (main, billing) = (format!("main/{}", job.name), format!("billing/{}", job.name));
    for (from, to) in [(&main, &billing), (&main, &staging), (&staging, &billing)] {
        let told = table.verify("compare", &[from, to, "--settle", "0s"]).await?;
        ensure!(told.exit == Some(0) && told.wrong().is_empty(), "{from} {to}: {}", told.text);
        let (matched, dead) = (told.json["matched"].as_u64(), told.json["dead_lettered"].as_u64());
        ensure!(matched.zip(dead).map(|(a, b)| a + b) == Some(3_000), "{from} {to}: {}", told.text);
        ensure!(dead.is_some_and(|dead| dead <= letters.len() as u64), "{}", told.text);
    }
    bridge.fine();
    Ok(())
}

#[tokio::test]
async fn each_kind_of_damage_is_found_with_its_position_and_ends_with_1() -> Result<()> {
    let mut job = Job::prepare(Site::shared().await?, "damaged", Load::new("", 1)).await?;
    let from = format!("main/{}", job.name);
    let whole: Vec<(i64, String)> = (0..2_000).map(|number| (number, format!("value {number}"))).collect();
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64 - 600_000;
    fill(&job.site.kafka, &job.name, began, &whole).await?;
    let position = |at: &'static str| (Some(2), Some(at));
    type Damage = fn(&mut Vec<(i64, String)>);
    let cases: [(&str, Damage, &str, &str); 5] = [
        ("missing", |all| drop(all.remove(1_000)), "/missing/first/0", "1000"),
        ("repeated", |all| all.insert(1_500, all[1_000].clone()), "/repeated/first/0", "1500"),
        ("reordered", |all| all.swap(1_000, 1_001), "/reordered/first/0/to", "1001"),
        ("changed", |all| all[1_000].1.push('!'), "/changed/first/0/to", "1000"),
        ("unexpected", |all| all.insert(1_000, (1_000, "another".into())), "/unexpected/first/0", "1000"),
    ];
    job.table = "memory: { limit: 256MiB }".into();
    let table = Table::of(&job)?;
    for (kind, damage, path, at) in cases {
        let topic = format!("{}-{kind}", job.name);
        create_kafka_topic(&job.site.kafka, &topic, 4, &[]).await?;
        let mut copied = whole.clone();
        damage(&mut copied);
        fill(&job.site.kafka, &topic, began, &copied).await?;
        let to = format!("main/{topic}");
        // So little memory that all of it goes through files.
        let arguments = [&from, to.as_str(), "--window", "1h", "--settle", "0s", "--memory", "10KiB"];
        let told = table.verify("compare", &arguments).await?;
        ensure!(told.exit == Some(1) && told.wrong() == [(kind, 1)], "{kind}: {}", told.text);
        ensure!(told.first(path) == position(at), "{kind}: {}", told.text);
        let allowed = table.verify("compare", &[&arguments[..], &["--allow", kind]].concat()).await?;
        ensure!(allowed.exit == Some(0) && allowed.wrong() == [(kind, 1)], "{kind}: {}", allowed.text);
    }
    let same = table.verify("compare", &[&from, &from, "--settle", "0s"]).await?;
    ensure!(same.exit == Some(0) && same.json["matched"] == 2_000, "{}", same.text);
    for wrong in [["none/x", &from], [&from, "nowhere"]] {
        let told = table.verify("compare", &wrong).await?;
        ensure!(told.exit == Some(2), "{wrong:?}: {}", told.text);
    }
    let missing = table.verify("compare", &[&from, "main/not-there", "--settle", "0s"]).await?;
    ensure!(missing.exit == Some(1) && missing.text.contains("there is no such topic"), "{}", missing.text);
    Ok(())
}

/// Into partition 2, all with one key, a millisecond apart.
async fn fill(servers: &str, topic: &str, began: i64, messages: &[(i64, String)]) -> Result<()> {
    let (servers, topic, messages) = (servers.to_owned(), topic.to_owned(), messages.to_vec());
    let fill = move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create()?;
        for (number, value) in &messages {
            let record = BaseRecord::to(&topic).partition(2).key("key").payload(value).timestamp(began + number);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(Duration::from_secs(30))?;
        Ok(())
    };
    tokio::task::spawn_blocking(fill).await?
}
