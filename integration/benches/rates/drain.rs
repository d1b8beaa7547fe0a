//! A backlog, carried as fast as it goes.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};
use trestle_integration::Bridge;

use crate::{
    STALL,
    process::Usage,
    shape::{Row, Shape},
    site::{Site, Way},
    table::Run,
};

/// Between two looks at a target's count.
const LOOK: Duration = Duration::from_millis(50);

/// Carries the backlog with a bridge of its own, until the target's broker has counted all of it. Rate and CPU are taken from
/// the last look that sees nothing at the first place that the route writes to the look that sees the last message at the target;
/// memory over the whole life.
pub async fn drain(site: &Site, row: Row, way: &Way, shape: Shape, program: &Path) -> Result<Run> {
    way.to.create(shape.partitions).await?;
    let started = Instant::now();
    let bridge = Bridge::start_program(program, &way.table(site), &[]).await?;
    let first = way.via.as_ref().unwrap_or(&way.to);
    let (mut begin, mut before, mut begun) = (started, Usage::of(bridge.id()?)?, false);
    let (mut seen, mut moved) = (0, started);
    while seen < shape.messages {
        if moved.elapsed() > STALL {
            bail!("{seen} of {} arrived, and no more for {STALL:?}; {}", shape.messages, bridge.about());
        }
        sleep(LOOK).await;
        let (now, usage) = (Instant::now(), Usage::of(bridge.id()?)?);
        // A place that the bridge itself makes is not there from the beginning.
        begun |= first.count(shape.partitions).await.is_ok_and(|count| count > 0);
        if !begun {
            (begin, before) = (now, usage);
            continue;
        }
        let count = way.to.count(shape.partitions).await.with_context(|| bridge.about())?;
        if count > seen {
            (seen, moved) = (count, now);
        }
    }
    let run = Run::between(row, shape, seen, begin.elapsed(), &before, &Usage::of(bridge.id()?)?);
    bridge.fine();
    Ok(Run { start_seconds: Some((begin - started).as_secs_f64()), ..run })
}
