//! The real `trestle` program, as a test starts, hurts and watches it.

mod metrics;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

pub use self::metrics::Metrics;
use crate::{free_port, http, wait::until};

/// The `trestle` program of this build: `$TRESTLE_BIN`, else the one beside the test's own folder in the target directory.
/// Cargo names a binary only to tests of its own package, so `integration/test` builds it first.
pub fn bridge_binary() -> Result<PathBuf> {
    let path = match env::var_os("TRESTLE_BIN") {
        Some(path) => PathBuf::from(path),
        None => env::current_exe()?
            .parent()
            .and_then(|deps| deps.parent())
            .context("the test program has no folder")?
            .join("trestle"),
    };
    ensure!(path.is_file(), "{} is not built: run `cargo build --bin trestle` first", path.display());
    Ok(path)
}

/// A running bridge. Killed when dropped; its log stays in the temporary directory unless [`Bridge::fine`] was said.
pub struct Bridge {
    child: Child,
    /// `HOST:PORT`
    admin: String,
    folder: PathBuf,
    fine: bool,
}

/// In its folder.
const TABLE: &str = "trestle.yaml";

/// The table with the address of the admin pages.
fn whole(table: &str, admin: &str) -> String {
    format!("{table}\nadmin: {{ listen: \"{admin}\" }}\n")
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: u64,
    /// Since the start.
    pub peak: u64,
}

impl Bridge {
    /// Starts it with a route table that says everything but where the admin pages are.
    pub async fn start(table: &str) -> Result<Bridge> {
        Bridge::start_with(table, &[]).await
    }

    /// With these variables in its environment.
    pub async fn start_with(table: &str, environment: &[(&str, &str)]) -> Result<Bridge> {
        Bridge::start_program(&bridge_binary()?, table, environment).await
    }

    /// Another build of it.
    pub async fn start_program(program: &Path, table: &str, environment: &[(&str, &str)]) -> Result<Bridge> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("trestle-test-{}-{nth}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let admin = format!("127.0.0.1:{}", free_port());
        let file = folder.join(TABLE);
        fs::write(&file, whole(table, &admin))?;
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(program)
            .arg("run")
            .arg(&file)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Bridge { child, admin, folder, fine: false })
    }

    /// Puts another table into the file that it runs.
    pub fn rewrite(&self, table: &str) -> Result<()> {
        Ok(fs::write(self.folder.join(TABLE), whole(table, &self.admin))?)
    }

    /// SIGHUP: it reads its table again.
    pub async fn hang_up(&self) -> Result<()> {
        self.signal("HUP").await
    }

    /// Waits until every hop flows.
    pub async fn ready(&mut self, limit: Duration) -> Result<()> {
        let admin = self.admin.clone();
        let exited = self.child.try_wait()?;
        if let Some(status) = exited {
            bail!("the bridge ended with {status}; {}", self.about());
        }
        let ask = || async {
            let (status, body) = http::request("GET", &admin, "/readyz", "").await?;
            ensure!(status == 200, "readiness says {status}: {body}");
            Ok(Some(()))
        };
        until("the bridge is ready", limit, ask).await.with_context(|| self.about())
    }

    /// Status and body of `/readyz`.
    pub async fn readiness(&self) -> Result<(u16, String)> {
        http::request("GET", &self.admin, "/readyz", "").await
    }

    /// A request to its admin pages; gives status and body.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        http::request(method, &self.admin, path, body).await
    }

    pub async fn metrics(&self) -> Result<Metrics> {
        let (status, body) = http::request("GET", &self.admin, "/metrics", "").await?;
        ensure!(status == 200, "the metrics page answers {status}");
        Ok(Metrics::parse(&body))
    }

    /// Its process id.
    pub fn id(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("the bridge is gone; {}", self.about()))
    }

    /// `kill -9`; returns once it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits until it ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = timeout(limit, self.child.wait()).await;
        Ok(status.with_context(|| format!("it did not end within {limit:?}; {}", self.about()))??)
    }

    /// SIGTERM; gives the exit code, an error when it takes longer than `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<Option<i32>> {
        self.signal("TERM").await?;
        let status = timeout(limit, self.child.wait()).await;
        let status = status.with_context(|| format!("no exit within {limit:?} of SIGTERM; {}", self.about()))??;
        Ok(status.code())
    }

    /// Freezes it: nothing of it runs, its connections stay open.
    pub async fn freeze(&self) -> Result<()> {
        self.signal("STOP").await
    }

    pub async fn thaw(&self) -> Result<()> {
        self.signal("CONT").await
    }

    async fn signal(&self, name: &str) -> Result<()> {
        let id = self.id()?;
        let status = Command::new("kill").args([format!("-{name}"), id.to_string()]).status().await?;
        ensure!(status.success(), "kill -{name} {id} failed");
        Ok(())
    }

    pub fn memory(&self) -> Result<Memory> {
        let id = self.id()?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            Ok(line.split_whitespace().next().context("no number")?.parse::<u64>()? * 1024)
        };
        Ok(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// Lines of its log that contain `text`.
    pub fn log_lines(&self, text: &str) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.log())?;
        Ok(log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect())
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// For messages: where its log is, and the end of it.
    pub fn about(&self) -> String {
        format!("log {}, its end:\n{}", self.log().display(), tail(&self.log()))
    }

    /// The test is content with it: its log need not be kept.
    pub fn fine(mut self) {
        self.fine = true;
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if self.fine {
            // A log that stays is no harm.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
