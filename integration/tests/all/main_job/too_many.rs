//! A fault that is in no message: the target refuses all of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;
use trestle_integration::{
    Brokers,
    oracle::{Load, Row, Shape},
    until,
};

use super::rig::{Job, SOON, Site, at_rest, says, short_or_soak};

/// Fits into Pulsar, and not into RocketMQ with its 4 MiB.
const POISON_BYTES: usize = (4 << 20) + 65_536;
/// The first message that every broker takes.
const FIRST_GOOD: u64 = 12;
/// Dead letters that the route may make in a day.
const MOST: usize = 3;

#[tokio::test]
async fn a_run_of_poison_stops_the_route_at_its_limit_and_all_the_rest_arrives_once_it_is_raised() -> Result<()> {
    let shared = Brokers::shared().await?;
    let shape = |number| if number < FIRST_GOOD { Shape::Large(POISON_BYTES) } else { Shape::Plain };
    let load = Load { shape, ..Load::new("", short_or_soak(400, 40_000)) };
    let mut job = Job::prepare(Site::of(&shared.kafka, &shared.pulsar, &shared.rocketmq), "too-many", load).await?;
    job.table = format!("defaults: {{ dead_letter: {{ most: {MOST}, within: 1d }} }}");
    let mut bridge = job.ready().await?;
    let mut target = job.target().await?;
    let ledger = job.write(500)?.finish().await?;
    says(&bridge, &[&job.name, "/deliver", "dead letters", "more than 3", "start again"]).await?;
    let stopped = || async {
        let metrics = bridge.metrics().await?;
        Ok((metrics.hop("deliver", "dead_letters_stopped") == 1).then_some(()))
    };
    until("a metric says that the route is stopped", SOON, stopped).await?;
    let letters = || async { Ok((job.dead().await?.len() == MOST).then_some(())) };
    until("the limit's letters are there", SOON, letters).await.with_context(|| bridge.about())?;
    // It would take a moment to write all of them.
    sleep(short_or_soak(Duration::from_secs(5), Duration::from_secs(120))).await;
    let dead = job.dead().await?.len();
    ensure!(dead == MOST, "{dead} dead letters, and {MOST} were allowed");
    let errors = bridge.log_lines("too many dead letters")?;
    ensure!(errors.len() == 1, "said {} times: {errors:?}", errors.len());
    // Staging does not care.
    at_rest(&bridge, "stage", job.load.count).await?;
    let code = bridge.terminate(SOON).await?;
    ensure!(code == Some(0), "a drain of the stopped route ended with {code:?}; {}", bridge.about());
    bridge.fine();

    job.table = "defaults: { dead_letter: { most: off } }".into();
    let mut bridge = job.ready().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.iter().copied().eq(0..FIRST_GOOD), "{verdict}");
    let dead = job.dead().await?.len();
    // A letter that was written behind a message that waited is written again, as after a crash.
    let most = FIRST_GOOD as usize + MOST;
    ensure!((FIRST_GOOD as usize..=most).contains(&dead), "{dead} dead letters for {FIRST_GOOD} messages");
    bridge.ready(SOON).await?;
    let fault = format!("{FIRST_GOOD} poison messages, {MOST} dead letters allowed");
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}
