//! The bridge's own clients of a cluster with nothing in between, each in a process of its own, so that its CPU and memory can be
//! told: the limit of what a bridge can reach, and the ends of a rate that is kept up.

mod receive;
mod write;

use std::{
    collections::BTreeMap,
    env,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::{Instant, timeout},
};
use trestle_core::{Connector, Event, SourceSpec, Start};

use crate::{
    STALL,
    counts::Place,
    process::Usage,
    shape::{Row, Shape},
    table::Run,
};

/// What one client alone does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Client {
    Read,
    Write,
    /// So many a second.
    Send(u64),
    Receive,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub client: Client,
    pub place: Place,
    pub shape: Shape,
}

/// From the first message to the last.
#[derive(Serialize, Deserialize)]
struct Took {
    messages: u64,
    seconds: f64,
    before: Usage,
    after: Usage,
}

/// A client that runs.
pub struct Started {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// Said by a client that is there for what is sent from now on.
const READY: &str = "ready";

/// Runs a client in a process of its own; `ready`: waits until it is there for what is sent.
pub async fn start(task: &Task, ready: bool) -> Result<Started> {
    let words = ["client", &serde_json::to_string(task)?];
    let mut command = Command::new(env::current_exe()?);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut said = BufReader::new(child.stdout.take().context("no output")?);
    if ready {
        let mut line = String::new();
        timeout(STALL, said.read_line(&mut line)).await.context("a client is not ready")??;
        ensure!(line.trim() == READY, "a client that says {line:?} and is not ready");
    }
    Ok(Started { child, said })
}

impl Started {
    /// What it says in the end.
    pub async fn answer<T: DeserializeOwned>(mut self) -> Result<T> {
        let (mut answer, mut errors) = (String::new(), String::new());
        let mut wrong = self.child.stderr.take().context("no errors")?;
        tokio::try_join!(self.said.read_to_string(&mut answer), wrong.read_to_string(&mut errors))?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "a client failed: {errors}");
        serde_json::from_str(&answer).with_context(|| format!("a client says {answer:?}"))
    }
}

/// What one client alone needs.
pub async fn alone(row: Row, client: Client, place: &Place, shape: Shape) -> Result<Run> {
    if matches!(client, Client::Write) {
        place.create(shape.partitions).await?;
    }
    let took: Took = start(&Task { client, place: place.clone(), shape }, false).await?.answer().await?;
    let time = Duration::from_secs_f64(took.seconds);
    Ok(Run::between(row, shape, took.messages, time, &took.before, &took.after))
}

/// What [`start`] starts.
#[expect(clippy::print_stdout, reason = "the answer to the process that started this one")]
pub async fn measure(words: &[String]) -> Result<()> {
    let task: Task = serde_json::from_str(words.first().context("no task")?)?;
    let connector = task.place.connector()?;
    let answer = match task.client {
        Client::Read => serde_json::to_string(&read(&*connector, &task).await?)?,
        Client::Write => serde_json::to_string(&write::write(&*connector, &task).await?)?,
        Client::Send(rate) => serde_json::to_string(&write::send(&*connector, &task, rate).await?)?,
        Client::Receive => serde_json::to_string(&receive::receive(&*connector, &task).await?)?,
    };
    println!("{answer}");
    Ok(())
}

fn source_spec(task: &Task) -> SourceSpec {
    SourceSpec {
        topic: task.place.topic().into(),
        group: format!("alone-{}", std::process::id()),
        start: Start::Earliest,
        route: "alone".into(),
        // What a bridge with the default memory gives one source.
        buffer_bytes: 32 << 20,
        largest_message: 5 << 20,
        commit_interval: Duration::from_millis(200),
        options: BTreeMap::new(),
    }
}

async fn read(connector: &dyn Connector, task: &Task) -> Result<Took> {
    let (mut source, control) = connector.source(source_spec(task)).await?;
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
                if come >= task.shape.messages {
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

/// Microseconds since 1970, by the clock that all processes here share.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
