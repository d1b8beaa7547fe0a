//! What a process has used, as Linux counts it.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Since the process began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// Resident at the highest.
    pub peak_bytes: u64,
    /// Of the threads that are alive now.
    pub context_switches: u64,
}

/// `sysconf(_SC_CLK_TCK)`, the same on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    pub fn of(id: u32) -> Result<Usage> {
        let folder = Path::new("/proc").join(id.to_string());
        let stat = fs::read_to_string(folder.join("stat"))?;
        // The name before it may hold blanks and parentheses; utime and stime are fields 14 and 15 of the whole.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a short stat")?.parse::<u64>()? as f64) };
        let mut context_switches = 0;
        for thread in fs::read_dir(folder.join("task"))? {
            // A thread may end meanwhile.
            let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            context_switches +=
                field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
        }
        let status = fs::read_to_string(folder.join("status"))?;
        let cpu_seconds = (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND;
        Ok(Usage { cpu_seconds, peak_bytes: field(&status, "VmHWM:") * 1024, context_switches })
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
