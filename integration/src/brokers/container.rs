use std::{
    collections::VecDeque,
    fmt, fs,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    core::{Healthcheck, logs::LogFrame},
    runners::AsyncRunner,
};
use tokio::{sync::Semaphore, time::sleep};

use crate::{
    docker::{detach, docker, on_runtime},
    reaper,
    wait::until,
};

/// The slowest broker takes half a minute when all start side by side on two cores.
const START_LIMIT: Duration = Duration::from_secs(180);
/// A starting JVM takes all of a core; with more at a time than cores, what runs beside them stands still.
static STARTS: Semaphore = Semaphore::const_new(2);
const POLL: Duration = Duration::from_millis(500);

/// A running container and what can be done to it. Addresses stay the same over `kill`, `stop` and `start`, because every
/// port has the same fixed number inside and outside. Removed when dropped.
pub struct Container {
    inner: Option<ContainerAsync<GenericImage>>,
    id: String,
    health_script: String,
}

/// An image of ours. Whether it serves is asked by [`Container::healthy`], and not by Docker, whose checks go on for as long as
/// the container runs: those of a dozen brokers cost half a core.
pub(super) fn image(kind: &str) -> GenericImage {
    GenericImage::new(format!("trestle/{kind}"), "local".to_owned())
}

impl Container {
    /// Starts what `request` describes. It is asked again, and must then choose other ports, when another process was quicker.
    pub(super) async fn start_new<F, R, T>(kind: &'static str, request: R) -> Result<(Container, T)>
    where
        R: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(ContainerRequest<GenericImage>, T)>> + Send,
        T: Send + 'static,
    {
        reaper::arm();
        on_runtime(async move {
            let _start = STARTS.acquire().await?;
            for _ in 0..5 {
                let (request, chosen) = request().await?;
                let lines = LastLines::default();
                let request = request
                    .with_labels([reaper::label(), reaper::run_label()])
                    .with_startup_timeout(START_LIMIT)
                    .with_health_check(Healthcheck::none())
                    .with_log_consumer(lines.consumer());
                match request.start().await {
                    Ok(inner) => {
                        let id = inner.id().to_owned();
                        let health_script = format!("/opt/{kind}/health.sh");
                        let container = Container { inner: Some(inner), id, health_script };
                        // A port opens long before the broker can serve.
                        let healthy = container.healthy().await;
                        healthy.with_context(|| format!("{kind} did not start; its last words:\n{lines}"))?;
                        return Ok((container, chosen));
                    }
                    Err(error) if port_taken(&format!("{error:?}")) => continue,
                    Err(error) => {
                        return Err(error)
                            .context(format!("{kind} did not start (are the images built? compose/images/build); its last words:\n{lines}"));
                    }
                }
            }
            bail!("{kind}: five times another process took the port")
        })
        .await
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Freezes every process in it, as SIGSTOP would: connections stay open and silent.
    pub async fn pause(&self) -> Result<()> {
        // The kernel may not get every process of a busy container to stand still in time; then Docker thaws it again.
        for _ in 0..5 {
            if docker(&["pause", &self.id]).await.is_ok() {
                return Ok(());
            }
        }
        docker(&["pause", &self.id]).await.map(drop)
    }

    pub async fn unpause(&self) -> Result<()> {
        docker(&["unpause", &self.id]).await.map(drop)
    }

    /// `kill -9`; returns once it is dead. Its data stays for [`start`](Self::start).
    ///
    /// It is stopped first, so that it dies between two writes and not within one: a bookie that finds half an entry at the end
    /// of its journal serves it as a whole one, and a topic whose only bookie does that is never opened again ("Digest
    /// mismatch"). Real clusters have the entry on other bookies.
    pub async fn kill(&self) -> Result<()> {
        docker(&["kill", "-s", "STOP", &self.id]).await?;
        self.stands_still().await?;
        docker(&["kill", "-s", "KILL", &self.id]).await?;
        // `docker kill` only sends the signal; a start right behind it would find the container running and do nothing.
        docker(&["wait", &self.id]).await.map(drop)
    }

    /// Waits until no thread of its process is inside the kernel any more.
    async fn stands_still(&self) -> Result<()> {
        let process = docker(&["inspect", "-f", "{{.State.Pid}}", &self.id]).await?;
        let threads = || -> Result<bool> {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let stat = fs::read_to_string(thread?.path().join("stat"))?;
                if !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        until("every thread of the broker is stopped", START_LIMIT, || async { Ok(threads()?.then_some(())) }).await
    }

    /// SIGTERM, and `kill -9` after 20 s. RocketMQ takes 10 s.
    pub async fn stop(&self) -> Result<()> {
        docker(&["stop", "-t", "20", &self.id]).await.map(drop)
    }

    /// Starts it again after `kill` or `stop` and waits until it serves.
    pub async fn start(&self) -> Result<()> {
        docker(&["start", &self.id]).await?;
        self.healthy().await
    }

    /// Waits until it serves.
    pub async fn healthy(&self) -> Result<()> {
        let begin = Instant::now();
        while let Err(error) = self.exec(&[&self.health_script]).await {
            ensure!(begin.elapsed() < START_LIMIT, "not healthy after {START_LIMIT:?}: {error:#}");
            let running = docker(&["inspect", "-f", "{{.State.Running}}", &self.id]).await?;
            ensure!(running == "true", "it ended instead of getting healthy");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Runs a command in it and gives what it printed; an error when it fails.
    pub async fn exec(&self, command: &[&str]) -> Result<String> {
        docker(&[&["exec", &self.id], command].concat()).await
    }
}

impl Drop for Container {
    /// In the background: `drop` cannot wait. What is left when the process ends, the reaper removes.
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            detach(async move { inner.rm().await.unwrap_or_default() });
        }
    }
}

/// What a container said before it failed to start: testcontainers removes such a one at once, and its log with it.
#[derive(Clone, Default)]
struct LastLines(Arc<Mutex<VecDeque<String>>>);

const KEPT_LINES: usize = 50;

impl LastLines {
    fn consumer(&self) -> impl Fn(&LogFrame) + Send + Sync + 'static {
        let lines = self.0.clone();
        move |frame| {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(String::from_utf8_lossy(frame.bytes()).into_owned());
        }
    }
}

impl fmt::Display for LastLines {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(out, "  {}", line.trim_end()))
    }
}

fn port_taken(error: &str) -> bool {
    error.contains("already allocated") || error.contains("address already in use")
}
