//! Another table while messages flow.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trestle_integration::{
    Bridge,
    oracle::{Load, Row},
    until,
};

use super::rig::{Job, SOON, Site, short_or_soak, written};

/// Messages that flow on the untouched route between two tables.
const BETWEEN: u64 = 1_000;

async fn generation(bridge: &Bridge, wanted: f64) -> Result<()> {
    until(&format!("generation {wanted} of the table runs"), SOON, || async {
        let generation = bridge.metrics().await?.sum("trestle_config_generation", &[]);
        ensure!(generation == wanted, "it is generation {generation}");
        Ok(Some(()))
    })
    .await
    .with_context(|| bridge.about())
}

async fn failures(bridge: &Bridge) -> Result<f64> {
    Ok(bridge.metrics().await?.sum("trestle_config_reload_failures_total", &[]))
}

#[tokio::test]
async fn tables_follow_each_other_under_load_and_an_untouched_route_does_not_notice() -> Result<()> {
    let steady = Job::prepare(Site::shared().await?, "steady", Load::new("", 1_000_000)).await?;
    let mut other = Job::prepare(Site::shared().await?, "other", Load::new("", 1_000_000)).await?;
    let mut bridge = steady.ready().await?;
    let writer = steady.write(short_or_soak(500, 1_000))?;
    let mut target = steady.target().await?;
    let both = |other: &Job| format!("{}\n{}", steady.route_table(), other.route());
    let flows = |times: u64| written(&writer, writer.confirmed() + times * short_or_soak(BETWEEN, 20 * BETWEEN));

    // Added: noticed without being told.
    bridge.rewrite(&both(&other))?;
    generation(&bridge, 2.0).await?;
    bridge.ready(SOON).await?;
    let others = other.write(200)?;
    let mut other_target = other.target().await?;
    other.arrived(&mut other_target, 200, SOON).await?;

    // Changed, told by a signal, while messages are on their way.
    other.extra.route = "send_timeout: 4s".into();
    bridge.rewrite(&both(&other))?;
    bridge.hang_up().await?;
    generation(&bridge, 3.0).await?;
    bridge.ready(SOON).await?;
    other.flows_again(&others, &mut other_target, "the changed route").await.with_context(|| bridge.about())?;

    // Broken, in one route: neither is touched.
    bridge.rewrite(&both(&other).replacen("cluster: billing", "cluster: biling", 1))?;
    until("the broken table was read", SOON, || async { Ok((failures(&bridge).await? == 1.0).then_some(())) }).await?;
    flows(3).await?;
    let wrong = bridge.log_lines("there is no cluster `biling`")?;
    ensure!(wrong.len() == 1 && wrong[0].contains("\"line\":") && wrong[0].contains("\"column\":"), "{wrong:#?}");
    ensure!(failures(&bridge).await? == 1.0, "the same mistake was counted again");
    generation(&bridge, 3.0).await?;
    others.stop();
    let others = others.finish().await?;
    let of_other = other.judged(&mut other_target, &others).await.with_context(|| bridge.about())?;
    of_other.sound()?;
    ensure!(of_other.repeated.is_empty() && of_other.dead.is_empty(), "the changed route: {of_other}");

    // Removed.
    bridge.rewrite(&steady.route_table())?;
    generation(&bridge, 4.0).await?;
    let metrics = bridge.metrics().await?;
    ensure!(metrics.sum("trestle_messages_received_total", &[("route", &other.name)]) == 0.0, "it is still counted");
    ensure!(
        metrics.sum("trestle_messages_received_total", &[("route", &steady.name)]) > 0.0,
        "the steady route is not"
    );
    until("the removed route has drained", SOON, || async {
        let drained = bridge.log_lines("\"drained\"")?;
        Ok((drained.iter().filter(|line| line.contains(&other.name)).count() == 4).then_some(()))
    })
    .await
    .with_context(|| bridge.about())?;
    let (status, body) = bridge.readiness().await?;
    ensure!(status == 200, "{body}");

    flows(1).await?;
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = steady.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.repeated.is_empty() && verdict.dead.is_empty(), "{verdict}");
    let started = bridge.log_lines("\"ready\"")?;
    let starts = |job: &Job| started.iter().filter(|line| line.contains(&job.name)).count();
    ensure!((starts(&steady), starts(&other)) == (2, 4), "hops that were started: {started:#?}");
    for (names, generation) in [(("added", &other), 2), (("changed", &other), 3), (("removed", &other), 4)] {
        let applied = bridge.log_lines(&format!("\"generation\":{generation},"))?;
        let said = format!("\"{}\":\"{}\"", names.0, names.1.name);
        ensure!(applied.len() == 1 && applied[0].contains(&said), "{said}: {applied:#?}");
    }
    let fault = "tables that add, change, break and remove another route".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &bridge }.record()?;
    let code = bridge.terminate(Duration::from_secs(35)).await?;
    ensure!(code == Some(0), "exit code {code:?}; {}", bridge.about());
    bridge.fine();
    Ok(())
}
