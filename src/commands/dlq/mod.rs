//! `trestle dlq`: dead letters, listed, looked at, counted, replayed and given up.

mod ls;
mod purge;
mod replay;
mod selection;
mod show;
mod stats;

use clap::Subcommand;
use tokio::runtime::Builder;

use super::{Exit, check};
use crate::config::Table;

#[derive(Subcommand)]
pub enum Dlq {
    /// List letters that nobody has dealt with
    Ls(ls::Ls),
    /// Show letters in full: headers, and the body as text, JSON or hex
    Show(show::Show),
    /// Count letters by cause and hour
    Stats(stats::Stats),
    /// Deliver letters once more
    Replay(replay::Replay),
    /// Give letters up
    Purge(purge::Purge),
}

/// Why there is no answer.
pub enum Failure {
    /// The command line is wrong.
    Wrong(String),
    Failed(String),
}

impl From<String> for Failure {
    fn from(problem: String) -> Self {
        Failure::Failed(problem)
    }
}

pub fn dlq(command: Dlq) -> Exit {
    let file = match &command {
        Dlq::Ls(ls) => &ls.selection.file,
        Dlq::Show(show) => &show.selection.file,
        Dlq::Stats(stats) => &stats.selection.file,
        Dlq::Replay(replay) => &replay.selection.file,
        Dlq::Purge(purge) => &purge.selection.file,
    };
    let table = match check::load(file) {
        Ok(table) => table,
        Err(exit) => return exit,
    };
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}")),
    };
    let answered = runtime.block_on(answered(&command, &table));
    // Clients of clusters that do not answer may not end either.
    runtime.shutdown_background();
    match answered {
        Ok(exit) => exit,
        Err(Failure::Failed(problem)) => failed(&problem),
        Err(Failure::Wrong(problem)) => {
            eprintln!("error: {problem}");
            Exit::Wrong
        }
    }
}

async fn answered(command: &Dlq, table: &Table) -> Result<Exit, Failure> {
    match command {
        Dlq::Ls(ls) => ls.run(table).await,
        Dlq::Show(show) => show.run(table).await,
        Dlq::Stats(stats) => stats.run(table).await,
        Dlq::Replay(replay) => replay.run(table).await,
        Dlq::Purge(purge) => purge.run(table).await,
    }
}

fn failed(problem: &str) -> Exit {
    eprintln!("error: {problem}");
    Exit::Failed
}
