//! `trestle verify`: whether everything arrives as it was and in its order, judged on a user's own clusters.

mod arrivals;
mod compare;
mod findings;
mod judge;
mod numbered;
mod numbers;
mod pairs;
mod read;
mod record;
mod report;
mod send;
mod sorting;

use clap::Subcommand;
use tokio::runtime::Builder;

use super::{Exit, check};

#[derive(Subcommand)]
pub enum Verify {
    /// Write numbered messages to a topic, for `verify read`
    Send(send::Send),
    /// Read what `verify send` wrote, at the other end of a route, and judge it
    Read(read::Read),
    /// Compare what two live topics hold, without touching anybody's group
    Compare(compare::Compare),
}

/// Why there is no judgement.
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

pub fn verify(command: Verify) -> Exit {
    let file = match &command {
        Verify::Send(send) => &send.file,
        Verify::Read(read) => &read.file,
        Verify::Compare(compare) => &compare.file,
    };
    let table = match check::load(file) {
        Ok(table) => table,
        Err(exit) => return exit,
    };
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}")),
    };
    let judged = runtime.block_on(async {
        match &command {
            Verify::Send(send) => Ok(send.run(&table).await?.say(send.output, &[])),
            Verify::Read(read) => Ok(read.run(&table).await?.say(read.output, &read.allow)),
            Verify::Compare(compare) => Ok(compare.run(&table).await?.say(compare.output, &compare.allow)),
        }
    });
    // Clients of clusters that do not answer may not end either.
    runtime.shutdown_background();
    match judged {
        Ok(exit) => exit,
        Err(Failure::Failed(problem)) => failed(&problem),
        Err(Failure::Wrong(problem)) => {
            eprintln!("error: {problem}");
            Exit::Wrong
        }
    }
}

fn failed(problem: &str) -> Exit {
    eprintln!("error: {problem}");
    Exit::Failed
}
