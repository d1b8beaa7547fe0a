//! What is held for longer than its invisibility.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use trestle_core::{Event, Message};

use super::{
    super::rig::*,
    reading::{Filled, join, sorted},
};

/// More than three times as long as it is invisible.
const HELD: Duration = Duration::from_secs(32);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pipeline_holds_is_nobody_elses() -> Result<()> {
    let rocketmq = broker().await?;
    let filled = Filled::make(rocketmq, "held", 2, 300).await?;
    let mut member = join(rocketmq, filled.spec()).await?;
    let mut other = join(rocketmq, filled.spec()).await?;
    let begin = Instant::now();
    let (mut held, mut came) = (Vec::new(), Vec::<Message>::new());
    while begin.elapsed() < HELD {
        for member in [&mut member, &mut other] {
            if let Some(Event::Batch(batch)) = member.next(Duration::from_millis(200)).await? {
                came.extend(batch.messages.iter().cloned());
                held.push(batch);
            }
        }
    }
    ensure!(sorted(&came)? == filled.all(), "{} deliveries of 300", came.len());
    for batch in &held {
        batch.ack.settle(0..batch.messages.len() as u32);
    }
    for member in [&member, &other] {
        member.control.commit(member.held.clone()).await?;
    }
    drop(held);
    let mut again = Vec::new();
    member.drain(Duration::from_secs(12), &mut again).await?;
    other.drain(Duration::from_secs(1), &mut again).await?;
    ensure!(again.is_empty(), "{again:?}");
    for member in [member, other] {
        ensure!(member.faults.is_empty(), "{:?}", member.faults);
        member.control.close().await;
    }
    Ok(())
}
