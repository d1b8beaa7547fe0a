//! Several bridges share the work.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;
use trestle_integration::{
    oracle::{Load, Row},
    until,
};

use super::rig::{Job, PARTITIONS, SOON, Site, short_or_soak, written};

/// Messages a second.
const RATE: u64 = 1_000;

#[tokio::test]
async fn a_replica_joins_and_leaves_under_load() -> Result<()> {
    let count = short_or_soak(15_000, 200_000);
    let job = Job::prepare(Site::shared().await?, "replicas", Load::new("", count)).await?;
    let first = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(RATE)?;
    written(&writer, count / 5).await?;
    let mut second = job.ready().await?;
    let shared = || async { Ok((job.members().await?.len() == 2).then_some(())) };
    until("both are members", SOON, shared).await?;
    written(&writer, count / 5 * 3).await?;
    let code = second.terminate(Duration::from_secs(35)).await?;
    ensure!(code == Some(0), "exit code {code:?}; {}", second.about());
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    println!("{verdict}");
    // Kafka waits with the handover until what is in flight is settled and committed: nothing is staged twice.
    let mut staged = 0;
    for partition in 0..PARTITIONS {
        staged += job.site.log().read(&format!("{}-partition-{partition}", job.staging())).await?.len();
    }
    ensure!(staged == ledger.confirmed.len(), "{staged} staged of {}", ledger.confirmed.len());
    // Pulsar waits for one second: what is not settled by then is delivered twice, and a second's messages are too many.
    ensure!((verdict.repeated.len() as u64) < RATE, "{verdict}");
    let fault = "a second instance joins and leaves".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &first }.record()?;
    first.fine();
    second.fine();
    Ok(())
}

#[tokio::test]
async fn the_partitions_of_one_of_three_replicas_that_is_killed_move_and_nothing_is_lost() -> Result<()> {
    let count = short_or_soak(20_000, 200_000);
    let job = Job::prepare(Site::shared().await?, "three", Load::new("", count)).await?;
    let first = job.ready().await?;
    let (mut second, third) = (job.ready().await?, job.ready().await?);
    let mut target = job.target().await?;
    let writer = job.write(RATE)?;
    let all_share = || async {
        let members = job.members().await?;
        let mut staged = Vec::new();
        for replica in [&first, &second, &third] {
            staged.push(replica.metrics().await?.hop("stage", "messages_delivered_total"));
        }
        ensure!(members.len() == 3 && !staged.contains(&0), "{} members, {staged:?} staged", members.len());
        Ok(Some(members))
    };
    let before = until("all three share the work", SOON, all_share).await?;
    written(&writer, count / 3).await?;
    let (at, killed) = (writer.reached(), Instant::now());
    second.kill().await?;
    let moved = || async {
        let now = job.members().await?;
        ensure!(now.len() == 2 && now.iter().all(|member| before.contains(member)), "members: {now:?}");
        Ok(Some(()))
    };
    until("the killed one is no member any more", SOON, moved).await?;
    // All of them: some of what was written meanwhile is in the partitions that moved.
    let arrived = tokio::sync::Mutex::new(&mut target);
    until("what was written up to the kill is in the target", SOON, || async {
        let mut target = arrived.lock().await;
        target.read_on(&job.load).await?;
        Ok((target.numbers().range(..=at).count() as u64 > at).then_some(()))
    })
    .await?;
    let recovered = killed.elapsed();
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    let fault = "one of three instances killed".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: Some(recovered), bridge: &first }.record()?;
    first.fine();
    second.fine();
    third.fine();
    Ok(())
}

#[tokio::test]
async fn a_replica_frozen_past_its_session_and_continued_loses_and_reorders_nothing() -> Result<()> {
    let count = short_or_soak(20_000, 100_000);
    let job = Job::prepare(Site::shared().await?, "zombie", Load::new("", count)).await?;
    let first = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(700)?;
    written(&writer, count / 5).await?;
    let old = job.members().await?;
    first.freeze().await?;
    let second = job.start().await?;
    let taken_over = || async {
        let now = job.members().await?;
        Ok((!now.is_empty() && now.iter().all(|member| !old.contains(member))).then_some(()))
    };
    until("the second alone is a member", SOON, taken_over).await?;
    // Long enough for the second to stage what the first had read.
    sleep(Duration::from_secs(short_or_soak(5, 60))).await;
    first.thaw().await?;
    let ledger = writer.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    println!("{verdict}");
    verdict.sound()?;
    ensure!(verdict.dead.is_empty(), "{verdict}");
    let fault = "frozen past its session, a second instance takes over".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &first }.record()?;
    first.fine();
    second.fine();
    Ok(())
}
