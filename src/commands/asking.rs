//! Commands that ask the clusters of a table: the table, the runtime, the patience, and how they fail.

use std::{path::Path, time::Duration};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep, timeout},
};
use trestle_core::{Fault, FaultKind, Why};

use super::{Exit, check};
use crate::config::Table;

/// Between two attempts to reach a cluster.
const PAUSE: Duration = Duration::from_millis(500);

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

/// Reads the table and asks; says what is in the way of an answer.
pub fn ask(file: &Path, question: impl AsyncFnOnce(&Table) -> Result<Exit, Failure>) -> Exit {
    let table = match check::load(file) {
        Ok(table) => table,
        Err(exit) => return exit,
    };
    let (exit, problem) = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Err(error) => (Exit::Failed, format!("the runtime does not start: {error}")),
        Ok(runtime) => {
            let answered = runtime.block_on(question(&table));
            // Clients of clusters that do not answer may not end either.
            runtime.shutdown_background();
            match answered {
                Ok(exit) => return exit,
                Err(Failure::Failed(problem)) => (Exit::Failed, problem),
                Err(Failure::Wrong(problem)) => (Exit::Wrong, problem),
            }
        }
    };
    eprintln!("error: {problem}");
    exit
}

/// Opens something of a topic, for as long as `patience` lasts. `None`: there is no such topic.
pub async fn open<T>(
    what: &impl std::fmt::Display,
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, Fault>,
) -> Result<Option<T>, String> {
    let end = Instant::now() + patience;
    loop {
        match timeout(patience, attempt()).await {
            Ok(Ok(opened)) => return Ok(Some(opened)),
            Ok(Err(Fault { kind: FaultKind::Unavailable(Why::UnknownTopic), .. })) => return Ok(None),
            Ok(Err(fault)) if is_passing(&fault) && Instant::now() < end => sleep(PAUSE).await,
            Ok(Err(fault)) => return Err(format!("{what}: {fault}")),
            Err(_) => return Err(format!("{what}: nothing is heard of it for {patience:?}")),
        }
    }
}

/// Clients mend themselves; what a person has to mend is an error.
pub fn is_passing(fault: &Fault) -> bool {
    !matches!(fault.kind, FaultKind::Unavailable(why) if why.needs_a_person())
}
