//! A rate that is kept up, and how late each message arrives.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use trestle_integration::Bridge;

use crate::{
    clients::{self, Client, Task},
    counts::Place,
    process::Usage,
    shape::Shape,
    site::{Site, Way},
};

/// How long a bridge may take until its route flows.
const READY: Duration = Duration::from_secs(60);

/// What one rate came to.
#[derive(Clone, Debug, Serialize)]
pub struct Steady {
    /// A pair of protocols, or one protocol: its own client there and back, with no bridge.
    pub what: String,
    pub messages_per_second: u64,
    #[serde(flatten)]
    pub late: Late,
    /// Of the bridge.
    pub cpu_seconds_per_million: Option<f64>,
}

/// Milliseconds from the moment before a message was sent to the one when it was handed out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Late {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub highest: f64,
}

impl Late {
    /// Of measurements in microseconds.
    pub fn of(mut micros: Vec<u64>) -> Late {
        micros.sort_unstable();
        let at = |share: f64| {
            let place = ((micros.len() as f64 * share) as usize).min(micros.len().saturating_sub(1));
            micros.get(place).map_or(f64::NAN, |micros| *micros as f64 / 1e3)
        };
        Late { p50: at(0.5), p99: at(0.99), p999: at(0.999), highest: at(1.0) }
    }
}

/// Of one cluster's own client, through one of its topics.
pub async fn alone(place: &Place, shape: Shape, rate: u64, time: Duration) -> Result<Steady> {
    place.create(shape.partitions).await?;
    let late = through(place, place, shape, rate, time).await?;
    let what = place.protocol().to_owned();
    Ok(Steady { what, messages_per_second: rate, late, cpu_seconds_per_million: None })
}

/// Of a bridge.
pub async fn bridged(
    site: &Site,
    what: String,
    way: &Way,
    shape: Shape,
    rate: u64,
    time: Duration,
    program: &Path,
) -> Result<Steady> {
    way.from.create(shape.partitions).await?;
    way.to.create(shape.partitions).await?;
    let mut bridge = Bridge::start_program(program, &way.table(site), &[]).await?;
    bridge.ready(READY).await?;
    let before = Usage::of(bridge.id()?)?;
    let late = through(&way.from, &way.to, shape, rate, time).await.with_context(|| bridge.about())?;
    let used = Usage::of(bridge.id()?)?.cpu_seconds - before.cpu_seconds;
    bridge.fine();
    let cpu_seconds_per_million = Some(used / (rate as f64 * time.as_secs_f64()) * 1e6);
    Ok(Steady { what, messages_per_second: rate, late, cpu_seconds_per_million })
}

async fn through(from: &Place, to: &Place, shape: Shape, rate: u64, time: Duration) -> Result<Late> {
    let shape = Shape { messages: (rate as f64 * time.as_secs_f64()) as u64, ..shape };
    let receive = clients::start(&Task { client: Client::Receive, place: to.clone(), shape }, true).await?;
    let send = clients::start(&Task { client: Client::Send(rate), place: from.clone(), shape }, false).await?;
    send.answer::<()>().await?;
    receive.answer().await
}
