//! The metrics page of a running bridge: named as Prometheus asks, and as README says.

use std::{collections::BTreeSet, env, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    time::{Duration, timeout},
};
use trestle_integration::{
    Bridge, Brokers,
    exposition::{Family, catalogue, problems},
    oracle::{Load, Shape},
    until,
};

use crate::main_job::rig::{Job, SOON, Site, at_rest, says};

const COUNT: u64 = 400;
/// Fits into Pulsar, and not into RocketMQ with its 4 MiB.
const POISON_BYTES: usize = (4 << 20) + 65_536;
/// They show up with their first event, which this test has none of.
const WITHOUT_EVENT: &[&str] = &["trestle_retries_total", "trestle_restarts_total"];

#[tokio::test]
async fn the_metrics_page_keeps_to_prometheus_rules_and_to_readme() -> Result<()> {
    let shared = Brokers::shared().await?;
    let shape = |number| if number == 8 { Shape::Large(POISON_BYTES) } else { Shape::Plain };
    let load = Load { shape, ..Load::new("", COUNT) };
    let mut job = Job::prepare(Site::of(&shared.kafka, &shared.pulsar, &shared.rocketmq), "metrics", load).await?;
    job.extra.route = "transform: [ { drop: { key: true, regex: \".*7\" } } ]".into();
    let bridge = job.ready().await?;
    // A gate that has to close.
    shared.rocketmq.delete_topic(&job.name).await?;
    job.write(1_000)?.finish().await?;
    says(&bridge, &["/deliver", "TOPIC_NOT_EXIST"]).await?;
    shared.rocketmq.create_topic(&job.name, 4).await?;
    at_rest(&bridge, "stage", COUNT).await?;
    let all_shown = || async {
        let metrics = bridge.metrics().await?;
        let left_out = metrics.hop("stage", "messages_filtered_total");
        let (dead, delivered) = (
            metrics.hop("deliver", "messages_dead_lettered_total"),
            metrics.hop("deliver", "messages_delivered_total"),
        );
        ensure!(left_out > 0 && dead == 1, "{left_out} filtered, {dead} dead-lettered");
        Ok((delivered + dead + left_out == COUNT).then_some(()))
    };
    until("everything went its way", SOON, all_shown).await.with_context(|| bridge.about())?;
    bridge.rewrite("routes: nonsense")?;
    bridge.hang_up().await?;
    let refused = || async {
        Ok((bridge.metrics().await?.sum("trestle_config_reload_failures_total", &[]) == 1.0).then_some(()))
    };
    until("the table is refused", SOON, refused).await?;

    for change in ["pause", "resume"] {
        let (status, body) = bridge.ask("POST", &format!("/api/v1/routes/{}/{change}", job.name), "").await?;
        ensure!(status == 200, "{change}: {status}: {body}");
    }

    // Lags are asked for now and then.
    let with_lags = || async {
        let (status, page) = bridge.ask("GET", "/metrics", "").await?;
        ensure!(status == 200, "{status}: {page}");
        Ok(page.contains("trestle_lag_messages{").then_some(page))
    };
    let page = until("lags are on the page", SOON, with_lags).await?;
    let found = problems(&page);
    ensure!(found.is_empty(), "{found:#?}\n{page}");
    as_readme_says(&page)?;
    promtool(&bridge, &page).await?;
    bridge.fine();
    Ok(())
}

fn as_readme_says(page: &str) -> Result<()> {
    let mut described = catalogue();
    for Family { name, kind, series, .. } in Family::all(page) {
        let promised = described.remove(&name).with_context(|| format!("{name} is not in README's table"))?;
        ensure!(kind.as_deref() == Some(&*promised.kind), "{name} is a {kind:?}, and README says {}", promised.kind);
        for one in series {
            let labels: BTreeSet<String> = one.labels.into_keys().filter(|label| label != "le").collect();
            ensure!(labels == promised.labels, "{name} has {labels:?}, and README says {:?}", promised.labels);
        }
    }
    described.retain(|name, _| !WITHOUT_EVENT.contains(&name.as_str()));
    ensure!(described.is_empty(), "README has what is not on the page: {:?}\n{page}", described.keys());
    Ok(())
}

/// Prometheus' own lint, where `integration/test` has it.
async fn promtool(bridge: &Bridge, page: &str) -> Result<()> {
    let Some(promtool) = env::var_os("TRESTLE_PROMTOOL") else { return Ok(()) };
    let pipes = |command: &mut Command| {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
    };
    let mut child = pipes(Command::new(promtool).args(["check", "metrics"]))?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(page.as_bytes()).await?;
    drop(input);
    let ended = timeout(Duration::from_secs(30), child.wait_with_output()).await??;
    ensure!(
        ended.status.success(),
        "promtool: {}{}; {}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
        bridge.about()
    );
    Ok(())
}
