//! Messages as large as they may be.

use anyhow::{Result, ensure};
use trestle_integration::oracle::{Load, Row, Shape};

use super::rig::{Job, Site};

const LIMIT: u64 = 256 << 20;

/// With its headers too large for the bridge; taken by Pulsar and too large for RocketMQ; taken by both.
fn shape(number: u64) -> Shape {
    match number % 3 {
        0 => Shape::Large(5 << 20),
        1 => Shape::Large((5 << 20) - 4_096),
        _ => Shape::Large(4_000_000),
    }
}

#[tokio::test]
async fn fifty_messages_of_five_mebibytes_are_all_accounted_for_within_256_mib() -> Result<()> {
    let load = Load { shape, ..Load::new("", 50) };
    let mut job = Job::prepare(Site::shared().await?, "large", load).await?;
    job.table = "memory: { limit: 256MiB }".into();
    let bridge = job.ready().await?;
    let mut target = job.target().await?;
    let ledger = job.write(20)?.finish().await?;
    let verdict = job.judged(&mut target, &ledger).await?;
    verdict.sound()?;
    let fits = (0..50).filter(|number| number % 3 == 2).count();
    ensure!(verdict.delivered == fits, "{fits} fit, and {verdict}");
    let memory = bridge.memory()?;
    ensure!(memory.peak < LIMIT, "{} MiB at its highest", memory.peak >> 20);
    let fault = "messages of 5 MiB in 256 MiB".into();
    Row { fault, ledger: &ledger, verdict: &verdict, recovered: None, bridge: &bridge }.record()?;
    println!("{verdict}; {} MiB at its highest", memory.peak >> 20);
    bridge.fine();
    Ok(())
}
