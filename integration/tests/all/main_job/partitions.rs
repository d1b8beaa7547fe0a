//! One partition is in trouble, and the others are not.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use trestle_integration::oracle::{Load, judge};

use super::rig::{Job, SOON, Site, short_or_soak, written};

/// The one that is blocked.
const BLOCKED: i32 = 2;

#[tokio::test]
async fn a_blocked_staging_partition_holds_back_only_itself() -> Result<()> {
    let count = short_or_soak(10_000, 100_000);
    let job = Job::prepare(Site::shared().await?, "blocked", Load::new("", count)).await?;
    let bridge = job.ready().await?;
    let mut target = job.target().await?;
    let writer = job.write(1_000)?;
    written(&writer, count / 5).await?;
    // Ready comes before the group has taken it in.
    job.arrived(&mut target, 1, SOON).await?;
    let members = job.members().await?;
    // A terminated topic takes no message any more, for ever.
    let path = format!("/admin/v2/persistent/public/bridge/{}-partition-{BLOCKED}/terminate", job.name);
    let (status, body) = job.site.pulsar_rest("POST", &path, "").await?;
    ensure!((200..300).contains(&status), "{status}: {body}");
    let ledger = writer.finish().await?;
    let begin = Instant::now();
    let letters = job.all_there(&mut target, &ledger, |partition| partition != BLOCKED).await?;
    // They came as they were written: no backlog had to be worked off. A tenth of the time they were written in, and slack
    // for a busy machine.
    let late = begin.elapsed();
    ensure!(late < Duration::from_secs(count / 10_000 + 30), "the others were {late:?} late");
    ensure!(letters.is_empty(), "{} dead letters", letters.len());
    ensure!(job.members().await? == members, "the group was rebalanced");
    let verdict = judge(&ledger, &target.seen, &letters);
    let held = verdict.lost.iter().all(|number| ledger.confirmed[number].partition == BLOCKED);
    ensure!(held && !verdict.lost.is_empty(), "{verdict}");
    ensure!(verdict.corrupt.is_empty() && verdict.reordered.is_empty() && verdict.phantoms.is_empty(), "{verdict}");
    let (status, body) = bridge.readiness().await?;
    ensure!(status == 503 && body.contains("partition"), "readiness does not say it: {status} {body}");
    println!("{verdict}; the others were {late:?} late");
    bridge.fine();
    Ok(())
}
