//! The limit: what reading the source alone and writing the target alone cost, with the bridge's own clients and settings and
//! nothing in between. Each in a process of its own, so that its CPU and memory can be told.

use std::{collections::BTreeMap, env, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesOrdered};
use serde::{Deserialize, Serialize};
use tokio::{
    process::Command,
    time::{Instant, timeout},
};
use trestle_core::{
    Connector, Event, Guarantee, LaneKey, Message, Outcome, PartitionId, Position, Sink, SinkSpec, Slice, SourceSpec,
    Start, Tracker,
};

use crate::{
    STALL, Wanted,
    counts::Place,
    fill::key,
    process::Usage,
    table::{Row, Run},
};

/// What one client alone does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Client {
    Read,
    Write,
}

#[derive(Serialize, Deserialize)]
struct Task {
    client: Client,
    place: Place,
    messages: u64,
    size: usize,
    partitions: u32,
}

/// From the first message to the last.
#[derive(Serialize, Deserialize)]
struct Took {
    messages: u64,
    seconds: f64,
    before: Usage,
    after: Usage,
}

/// Runs a client in a process of its own.
pub async fn alone(row: Row, client: Client, place: &Place, wanted: &Wanted) -> Result<Run> {
    if matches!(client, Client::Write) {
        place.create(wanted.partitions).await?;
    }
    let Wanted { messages, size, partitions, .. } = *wanted;
    let task = serde_json::to_string(&Task { client, place: place.clone(), messages, size, partitions })?;
    let child =
        Command::new(env::current_exe()?).args(["client", &task]).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = child.await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{client:?} {} failed: {said}", place.protocol());
    let took: Took = serde_json::from_slice(&output.stdout)?;
    let time = Duration::from_secs_f64(took.seconds);
    Ok(Run::between(row, took.messages, time, &took.before, &took.after, size))
}

/// What [`alone`] starts.
#[expect(clippy::print_stdout, reason = "the answer to the process that started this one")]
pub async fn measure(words: &[String]) -> Result<()> {
    let task: Task = serde_json::from_str(words.first().context("no task")?)?;
    let connector = task.place.connector()?;
    let took = match task.client {
        Client::Read => read(&*connector, &task).await?,
        Client::Write => write(&*connector, &task).await?,
    };
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

async fn read(connector: &dyn Connector, task: &Task) -> Result<Took> {
    let spec = SourceSpec {
        topic: task.place.topic().into(),
        group: format!("alone-{}", std::process::id()),
        start: Start::Earliest,
        route: "alone".into(),
        // What a bridge with the default memory gives one source.
        buffer_bytes: 32 << 20,
        largest_message: 5 << 20,
        commit_interval: Duration::from_millis(200),
        options: BTreeMap::new(),
    };
    let (mut source, control) = connector.source(spec).await?;
    let (mut first, mut come) = (None, 0);
    loop {
        let next = timeout(STALL, source.next()).await.with_context(|| format!("{come} came, and no more"))?;
        match next {
            Ok(Event::Assigned(trackers)) => {
                for tracker in trackers {
                    control.start(tracker.partition(), None);
                    control.credit(tracker.partition(), u64::MAX / 2);
                }
            }
            Ok(Event::Batch(batch)) => {
                let messages = batch.messages.len() as u64;
                batch.ack.settle(0..messages as u32);
                come += messages;
                let now = (Instant::now(), come, Usage::of(std::process::id())?);
                let (begin, before, usage) = first.get_or_insert_with(|| now.clone());
                if come >= task.messages {
                    let took = Took {
                        messages: come - *before,
                        seconds: (now.0 - *begin).as_secs_f64(),
                        before: usage.clone(),
                        after: now.2,
                    };
                    control.close().await;
                    return Ok(took);
                }
            }
            Ok(Event::Revoked { .. }) => {}
            Ok(Event::Gap { .. } | Event::Held { .. }) => bail!("a gap, or an open transaction"),
            Err(fault) => eprintln!("{fault}"),
        }
    }
}

async fn write(connector: &dyn Connector, task: &Task) -> Result<Took> {
    let spec = SinkSpec {
        topic: task.place.topic().into(),
        route: "alone".into(),
        hop: "stage",
        fenced: false,
        split_large: false,
        send_timeout: Duration::from_secs(30),
        guarantee: Guarantee::Replicated,
        options: BTreeMap::new(),
    };
    let sink = connector.sink(spec).await?;
    let (begin, before) = (Instant::now(), Usage::of(std::process::id())?);
    let lanes = (0..sink.partitions()).map(|partition| fill_lane(&sink, partition, task));
    futures::future::try_join_all(lanes).await?;
    let after = Usage::of(std::process::id())?;
    Ok(Took { messages: task.messages, seconds: begin.elapsed().as_secs_f64(), before, after })
}

/// Its share of the messages, with as many units in flight as the lane takes.
async fn fill_lane(sink: &Arc<dyn Sink>, partition: u32, task: &Task) -> Result<()> {
    let mut lane = sink.lane(LaneKey { target: PartitionId(partition), source: None }).await?;
    let unit = sink.limits().unit_messages.min(sink.limits().unit_bytes / (task.size + 200)).max(1) as u64;
    let partitions = u64::from(sink.partitions());
    let share = task.messages / partitions + u64::from(u64::from(partition) < task.messages % partitions);
    let tracker = Tracker::new(PartitionId(partition), || {});
    let value = Bytes::from(vec![b'v'; task.size]);
    let (mut next, mut in_flight) = (0, FuturesOrdered::new());
    loop {
        while next < share && in_flight.len() < lane.window() {
            let end = share.min(next + unit);
            let messages = (next..end).map(|number| message(number, &value)).collect();
            let batch = tracker.admit(messages).context("nothing new")?;
            let slice = Slice::whole(Arc::new(batch));
            let sent = lane.send(vec![slice.clone()]);
            in_flight.push_back(async move { (slice, sent.await) });
            next = end;
        }
        match in_flight.next().await {
            Some((slice, sent)) => {
                ensure!(
                    sent.runs.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stored)),
                    "not stored: {sent:?}"
                );
                // Else the tracker would have it sent again.
                slice.settle();
            }
            None => return Ok(()),
        }
    }
}

fn message(number: u64, value: &Bytes) -> Message {
    Message {
        key: Some(key(number).into()),
        value: Some(value.clone()),
        time: Some(1_700_000_000_000),
        ..Message::at(Position::Offset(number))
    }
}
