//! `trestle check --connect` by the real program on real brokers: it finds what is wrong, and changes nothing.

use std::{
    fs,
    process::Output,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use trestle_integration::{Brokers, bridge_binary, create_kafka_topic, free_port};

/// The limit of a cluster is 10 s; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(30);

struct Case {
    brokers: &'static Brokers,
    /// Of its topics and its namespace.
    name: String,
    source: String,
    servers: String,
}

impl Case {
    async fn new(name: &str) -> Result<Case> {
        let brokers = Brokers::shared().await?;
        let source = format!("{name}-in");
        let settings = [("retention.ms", "-1"), ("retention.bytes", "-1")];
        create_kafka_topic(&brokers.kafka.servers, &source, 3, &settings).await?;
        brokers.pulsar.rest("PUT", &format!("namespaces/public/{name}"), "").await?;
        Ok(Case { brokers, name: name.to_owned(), source, servers: brokers.kafka.servers.clone() })
    }

    fn table(&self) -> String {
        let Case { brokers, name, source, servers } = self;
        let (pulsar, rocketmq) = (&brokers.pulsar, &brokers.rocketmq);
        format!(
            "clusters:
  main: {{ type: kafka, servers: \"{servers}\" }}
  staging: {{ type: pulsar, url: \"{}\", admin: \"{}\" }}
  billing: {{ type: rocketmq, namesrv: \"{}\" }}
routes:
  {name}:
    from: {{ cluster: main, topic: {source} }}
    via: {{ cluster: staging, topic: \"persistent://public/{name}/staged\" }}
    to: {{ cluster: billing, topic: {name}-out }}
    dead_letter: {{ cluster: staging, topic: \"persistent://public/{name}/dead\" }}
",
            pulsar.url, pulsar.admin, rocketmq.namesrv
        )
    }

    /// Exit code and the JSON answer.
    async fn check(&self) -> Result<(Option<i32>, Value)> {
        let begin = Instant::now();
        let output = self.run(&["--output", "json"]).await?;
        ensure!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
        let answer = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
        Ok((output.status.code(), answer))
    }

    async fn run(&self, more: &[&str]) -> Result<Output> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("trestle-check-{}-{nth}.yaml", std::process::id()));
        fs::write(&file, self.table())?;
        let output = Command::new(bridge_binary()?).arg("check").arg(&file).arg("--connect").args(more).output().await;
        fs::remove_file(&file)?;
        Ok(output?)
    }
}

/// Line, column and text of each.
fn told(answer: &Value, what: &str) -> Vec<(u64, u64, String)> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let all = answer[what].as_array().into_iter().flatten();
    all.map(|m| (number(&m["line"]), number(&m["column"]), m["problem"].as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[tokio::test]
async fn what_is_fine_is_said_and_nothing_is_changed() -> Result<()> {
    let case = Case::new("check-fine").await?;
    let (exit, answer) = case.check().await?;
    ensure!(exit == Some(0) && answer["ok"] == true && told(&answer, "mistakes").is_empty(), "{exit:?} {answer:#}");
    let clusters = answer["clusters"].as_array().context("no clusters")?;
    ensure!(clusters.len() == 3 && clusters.iter().all(|c| c["reachable"] == true && c["brokers"] == 1), "{answer:#}");
    let version = |name: &str| clusters.iter().find(|c| c["cluster"] == name).map(|c| c["version"].clone());
    ensure!(version("staging").is_some_and(|v| v.as_str().is_some_and(|v| v.contains('.'))), "{answer:#}");
    ensure!(version("billing").is_some_and(|v| v.as_str().is_some_and(|v| v.contains('.'))), "{answer:#}");
    let made = answer["to_be_made"].as_array().context("nothing to be made")?;
    let partitions = |topic: &str| made.iter().find(|m| m["topic"] == topic).map(|m| m["partitions"].clone());
    ensure!(partitions("persistent://public/check-fine/staged") == Some(3.into()), "{answer:#}");
    ensure!(partitions("persistent://public/check-fine/dead") == Some(1.into()), "{answer:#}");
    ensure!(partitions("check-fine-out") == Some(3.into()), "{answer:#}");
    // Not one of them was made by asking.
    let topics = case.brokers.pulsar.rest("GET", "persistent/public/check-fine", "").await?;
    let partitioned = case.brokers.pulsar.rest("GET", "persistent/public/check-fine/partitioned", "").await?;
    ensure!(topics == "[]" && partitioned == "[]", "{topics} {partitioned}");
    let (_, again) = case.check().await?;
    ensure!(again["to_be_made"] == answer["to_be_made"], "{again:#}");
    let text = case.run(&[]).await?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    ensure!(
        text.contains("answers") && text.contains("will be made on billing: check-fine-out, 3 partitions"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_source_that_is_missing_is_told_and_not_made() -> Result<()> {
    let mut case = Case::new("check-missing").await?;
    case.source = "check-missing-nowhere".into();
    for _ in 0..2 {
        // The harness's broker makes topics that clients ask for in the usual way.
        let (exit, answer) = case.check().await?;
        let mistakes = told(&answer, "mistakes");
        ensure!(exit == Some(1) && answer["ok"] == false && mistakes.len() == 1, "{exit:?} {answer:#}");
        let (line, column, problem) = &mistakes[0];
        ensure!(
            (*line, *column) == (7, 35) && problem.contains("there is no topic main/check-missing-nowhere"),
            "{mistakes:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_namespace_that_drops_messages_is_an_error_where_they_are_staged_and_dead_lettered() -> Result<()> {
    let case = Case::new("check-ttl").await?;
    case.brokers.pulsar.rest("POST", "namespaces/public/check-ttl/messageTTL", "60").await?;
    let (exit, answer) = case.check().await?;
    let mistakes = told(&answer, "mistakes");
    ensure!(exit == Some(1) && mistakes.len() == 2, "{exit:?} {answer:#}");
    ensure!(mistakes.iter().map(|(line, ..)| *line).eq([8, 10]), "{mistakes:?}");
    ensure!(mistakes.iter().all(|(.., problem)| problem.contains("TTL drops messages after 60 s")), "{mistakes:?}");
    // The same of a topic that is there.
    case.brokers.pulsar.create_topic("public/check-ttl/staged", 3).await?;
    let (exit, answer) = case.check().await?;
    ensure!(exit == Some(1) && told(&answer, "mistakes").len() == 2, "{exit:?} {answer:#}");
    Ok(())
}

#[tokio::test]
async fn a_compacted_source_and_one_that_forgets_are_warned_of() -> Result<()> {
    let mut case = Case::new("check-compacted").await?;
    case.source = "check-compacted-forgets".into();
    let settings = [("cleanup.policy", "compact,delete"), ("retention.ms", "7200000")];
    create_kafka_topic(&case.brokers.kafka.servers, &case.source, 3, &settings).await?;
    let (exit, answer) = case.check().await?;
    let warnings = told(&answer, "warnings");
    ensure!(exit == Some(0) && told(&answer, "mistakes").is_empty(), "{exit:?} {answer:#}");
    let here = |word: &str| warnings.iter().any(|(line, _, problem)| *line == 7 && problem.contains(word));
    ensure!(here("cleanup.policy has compact") && here("vanish after 2 hours"), "{warnings:?}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_port_is_told_with_the_address_and_what_the_system_said() -> Result<()> {
    let mut case = Case::new("check-port").await?;
    case.servers = format!("127.0.0.1:{}", free_port());
    let (exit, answer) = case.check().await?;
    let mistakes = told(&answer, "mistakes");
    ensure!(exit == Some(1) && mistakes.len() == 1, "{exit:?} {answer:#}");
    let (line, column, problem) = &mistakes[0];
    ensure!((*line, *column) == (2, 3), "{mistakes:?}");
    ensure!(problem.contains(&case.servers) && problem.contains("Connection refused"), "{problem}");
    Ok(())
}
