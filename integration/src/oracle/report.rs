use std::{env, fs::OpenOptions, io::Write, time::Duration};

use anyhow::{Context, Result};

use super::{verdict::Verdict, writer::Ledger};
use crate::Bridge;

/// One row of the table in which `integration/test --soak` ends.
pub struct Row<'a> {
    /// In words, with how often it happened.
    pub fault: String,
    pub ledger: &'a Ledger,
    pub verdict: &'a Verdict,
    /// From the fault's end to the next new message, the longest.
    pub recovered: Option<Duration>,
    /// The one whose memory counts.
    pub bridge: &'a Bridge,
}

impl Row<'_> {
    /// Appends the row to the file that `$TRESTLE_ROWS` names; nothing without it.
    pub fn record(&self) -> Result<()> {
        let Some(path) = env::var_os("TRESTLE_ROWS") else { return Ok(()) };
        let Verdict { lost, repeated, reordered, scattered, .. } = self.verdict;
        let recovered = self.recovered.map_or("-".into(), |time| format!("{:.1}", time.as_secs_f64()));
        let row = [
            self.fault.clone(),
            self.ledger.confirmed.len().to_string(),
            lost.len().to_string(),
            repeated.len().to_string(),
            (reordered.len() + scattered.len()).to_string(),
            recovered,
            (self.bridge.memory()?.peak >> 20).to_string(),
        ];
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        // One write, because several tests end at once.
        file.write_all(format!("{}\n", row.join("\t")).as_bytes()).context("writing the row of a test")
    }
}
