//! Notes how late messages are.

use anyhow::{Context, Result, bail};
use tokio::time::timeout;
use trestle_core::{Connector, Event};

use super::{READY, Task, now, source_spec};
use crate::{STALL, steady::Late};

/// Share of the messages at the front that is not counted: what runs for the first time is slower.
const WARM_UP: f64 = 0.2;

#[expect(clippy::print_stdout, reason = "the answer to the process that started this one")]
pub async fn receive(connector: &dyn Connector, task: &Task) -> Result<Late> {
    let (mut source, control) = connector.source(source_spec(task)).await?;
    let (mut left, mut micros) = (task.shape.messages, Vec::with_capacity(task.shape.messages as usize));
    let mut assigned = 0;
    while left > 0 {
        let next = timeout(STALL, source.next()).await.with_context(|| format!("{left} did not come"))?;
        match next {
            Ok(Event::Assigned(trackers)) => {
                for tracker in &trackers {
                    control.start(tracker.partition(), None);
                    control.credit(tracker.partition(), u64::MAX / 2);
                }
                assigned += trackers.len();
                if assigned == task.shape.partitions as usize {
                    println!("{READY}");
                }
            }
            Ok(Event::Batch(batch)) => {
                let now = now();
                for message in &batch.messages {
                    let sent = message.value.as_ref().and_then(|value| value.first_chunk::<8>());
                    micros.push(now.saturating_sub(u64::from_be_bytes(*sent.context("a message without its time")?)));
                }
                left = left.saturating_sub(batch.messages.len() as u64);
                batch.ack.settle(0..batch.messages.len() as u32);
            }
            Ok(Event::Revoked { .. }) => {}
            Ok(Event::Gap { .. } | Event::Held { .. }) => bail!("a gap, or an open transaction"),
            Err(fault) => eprintln!("{fault}"),
        }
    }
    control.close().await;
    Ok(Late::of(micros.split_off((micros.len() as f64 * WARM_UP) as usize)))
}
