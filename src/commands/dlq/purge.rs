//! `trestle dlq purge`.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::selection::Selection;
use crate::{
    commands::{Exit, answer, asking::Failure},
    config::Table,
    letters::give_up,
};

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Purge {
    #[command(flatten)]
    pub selection: Selection,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

const HELP: &str = "\
Letters that are given up are listed and replayed no more. It says how many they are and asks first; without a terminal it
needs --yes.

Exit codes: 0 given up, 1 it failed, or the answer was no, 2 the command line or the table is wrong

Examples:
  trestle dlq purge trestle.yaml --route orders --cause too_large --until 24h
  trestle dlq purge trestle.yaml --id 0123456789abcdef0123456789abcdef --yes";

impl Purge {
    pub async fn run(&self, table: &Table) -> Result<Exit, Failure> {
        if !self.yes && !io::stdin().is_terminal() {
            return Err(Failure::Wrong("nobody can be asked without a terminal: --yes gives the letters up".into()));
        }
        let pick = self.selection.pick(table)?;
        let count = give_up(&pick, false, || false).await?.letters;
        if !self.yes && !asked(count) {
            return Err(Failure::Failed("nothing is given up".into()));
        }
        let given_up = give_up(&pick, true, || false).await?.letters;
        answer(&format!("{given_up} letters are given up\n"));
        Ok(Exit::Fine)
    }
}

fn asked(count: u64) -> bool {
    eprint!("give {count} letters up? They are not delivered. [y/N] ");
    let _ = io::stderr().flush();
    let mut said = String::new();
    io::stdin().lock().read_line(&mut said).is_ok() && matches!(said.trim(), "y" | "Y" | "yes")
}
