//! What testcontainers does not offer is asked of the `docker` command; and the one runtime that testcontainers lives on.

use std::{future::Future, process::Stdio, sync::LazyLock, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    process::Command,
    runtime::{Builder, Runtime},
    sync::OnceCell,
};

use crate::reaper;

/// No docker command takes longer, or the daemon is stuck.
const LIMIT: Duration = Duration::from_secs(60);

/// Each test has a runtime of its own, but the connection to the daemon and the shared brokers outlive it: a pooled
/// connection whose runtime is gone fails the next test. So all of that runs here.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("harness")
        .enable_all()
        .build()
        .expect("the harness's runtime starts")
});

pub fn detach(task: impl Future<Output = ()> + Send + 'static) {
    RUNTIME.spawn(task);
}

pub async fn on_runtime<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    RUNTIME.spawn(task).await.context("the harness's task ended early")?
}

/// Runs `docker ARGS` and gives what it printed.
pub async fn docker(args: &[&str]) -> Result<String> {
    let command = Command::new("docker").args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let done = tokio::time::timeout(LIMIT, command)
        .await
        .with_context(|| format!("docker {} took longer than {LIMIT:?}", args.join(" ")))?
        .context("the docker command cannot be run")?;
    if !done.status.success() {
        bail!(
            "docker {}: {}{}",
            args.join(" "),
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// One network for all the containers of this process that talk to each other: the daemon has room for about thirty.
pub async fn network() -> Result<String> {
    static NETWORK: OnceCell<String> = OnceCell::const_new();
    let create = || async {
        reaper::arm();
        let name = format!("trestle-test-{}", std::process::id());
        let labels = [reaper::label(), reaper::run_label()].map(|(key, value)| format!("{key}={value}"));
        docker(&["network", "create", "--label", &labels[0], "--label", &labels[1], &name]).await?;
        Ok(name)
    };
    NETWORK.get_or_try_init(create).await.cloned()
}
