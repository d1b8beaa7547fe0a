//! Commands that ask the clusters of a table: the table, the runtime, and how they fail.

use std::path::Path;

use tokio::runtime::Builder;

use super::{Exit, check};
use crate::{config::Table, discovery::look_once};

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
    let mut table = match check::load(file) {
        Ok(table) => table,
        Err(exit) => return exit,
    };
    let (exit, problem) = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Err(error) => (Exit::Failed, format!("the runtime does not start: {error}")),
        Ok(runtime) => {
            if !table.patterns.is_empty() {
                let found = runtime.block_on(look_once(&table));
                table = match found.map(|found| check::load_found(file, &found)) {
                    Ok(Ok(table)) => table,
                    Ok(Err(exit)) => return exit,
                    Err(problem) => {
                        eprintln!("error: {problem}");
                        return Exit::Failed;
                    }
                };
            }
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
