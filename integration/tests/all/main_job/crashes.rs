//! The bridge itself dies, or a part of it.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;
use trestle_integration::{
    Bridge,
    oracle::{Load, Row, commit_breaks},
    until,
};

use super::rig::{Job, PARTITIONS, SOON, Site, short_or_soak};

const LIFE: Duration = Duration::from_secs(3);
const SIGABRT: i32 = 6;

#[tokio::test]
async fn killed_every_three_seconds_it_loses_changes_invents_and_reorders_nothing() -> Result<()> {
    let (count, kills) = short_or_soak((20_000, 6), (200_000, 60));
    let job = Job::prepare(Site::shared().await?, "killed", Load::new("", count)).await?;
    let mut lives = vec![job.ready().await?];
    let mut target = job.target().await?;
    let commits = job.commits()?;
    let writer = job.write(1_000)?;
    for _ in 0..kills {
        // The fault itself: a life of fixed length.
        sleep(LIFE).await;
        lives.last_mut().context("none was started")?.kill().await?;
        lives.push(job.start().await?);
    }
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    let samples = commits.stop().await?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "a kill made dead letters: {verdict}");
    // What was in flight or settled above an unsettled message, of four partitions, each time; and the last 200 ms.
    ensure!(verdict.repeated.len() as u64 <= kills * 40_000, "{verdict}");
    let staging = job.site.log().staged(&job.staging(), PARTITIONS, &ledger).await?;
    let breaks = commit_breaks(&samples, &ledger, &staging, &verdict.dead);
    ensure!(breaks.is_empty(), "COMMIT: {breaks:#?}");
    let bridge = lives.last().context("none was started")?;
    Row { fault: format!("killed {kills} times"), ledger: &ledger, verdict: &verdict, recovered: None, bridge }
        .record()?;
    lives.into_iter().for_each(Bridge::fine);
    Ok(())
}

/// Each place is passed ten times first; messages are written until then.
#[tokio::test]
async fn a_crash_between_a_send_and_its_acknowledgement_loses_nothing() -> Result<()> {
    for place in ["stage.stored", "stage.settled", "deliver.stored", "deliver.settled"] {
        let job = Job::prepare(Site::shared().await?, &place.replace('.', "-"), Load::new("", 100_000)).await?;
        let mut first = job.start_to_crash(&format!("{place}=10*off->return")).await?;
        first.ready(SOON).await?;
        let mut target = job.target().await?;
        let writer = job.write(1_500)?;
        let status = first.ended(SOON).await.context("is the program built with the feature `failpoints`?")?;
        ensure!(status.signal() == Some(SIGABRT), "{place}: {status}; {}", first.about());
        writer.stop();
        let second = job.start().await?;
        let ledger = writer.finish().await?;
        let verdict = job.judged(&mut target, &ledger).await?;
        println!("{place}: {verdict}");
        verdict.sound()?;
        ensure!(verdict.dead.is_empty(), "{place}: {verdict}");
        let fault = format!("crashed at {place}");
        Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &second }.record()?;
        first.fine();
        second.fine();
    }
    Ok(())
}

/// Each hop's lanes panic once, between a send and its acknowledgement.
#[tokio::test]
async fn a_lane_that_panics_is_told_and_started_again_and_nothing_is_lost() -> Result<()> {
    let job = Job::prepare(Site::shared().await?, "panics", Load::new("", 100_000)).await?;
    let panics = "10*off->1*panic->off";
    let mut bridge = job.start_to_crash(&format!("stage.stored={panics};deliver.stored={panics}")).await?;
    bridge.ready(SOON).await?;
    let mut target = job.target().await?;
    let writer = job.write(1_500)?;
    until("both hops were started again", SOON, || async {
        let metrics = bridge.metrics().await?;
        let labels = |hop| [("hop", hop), ("part", "lane"), ("cause", "panicked")];
        let restarts = ["stage", "deliver"].map(|hop| metrics.sum("trestle_restarts_total", &labels(hop)));
        ensure!(restarts == [1.0, 1.0], "{restarts:?}");
        Ok(Some(()))
    })
    .await
    .with_context(|| bridge.about())?;
    let recovered = job.flows_again(&writer, &mut target, "what panicked").await.with_context(|| bridge.about())?;
    writer.stop();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await.with_context(|| bridge.about())?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    bridge.ready(SOON).await?;
    let fault = "a lane of each hop panics".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &bridge }.record()?;
    bridge.fine();
    Ok(())
}
