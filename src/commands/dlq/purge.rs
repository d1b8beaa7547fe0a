//! `trestle dlq purge`.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::selection::Selection;
use crate::{
    commands::{Exit, answer, asking::Failure},
    config::Table,
};

/// Letters that are given up at a time.
const WINDOW: usize = 100;

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
        let count = self.each(table, false).await?;
        if !self.yes && !asked(count) {
            return Err(Failure::Failed("nothing is given up".into()));
        }
        let given_up = self.each(table, true).await?;
        answer(&format!("{given_up} letters are given up\n"));
        Ok(Exit::Fine)
    }

    /// Counts the letters, and gives them up if it is meant.
    async fn each(&self, table: &Table, meant: bool) -> Result<u64, Failure> {
        let mut count = 0;
        for topic in self.selection.topics(table)? {
            let Some(mut letters) = self.selection.open(&topic, table.memory.largest_message).await? else { continue };
            let mut window = Vec::new();
            loop {
                let letter = letters.next().await?;
                let end = letter.is_none();
                match letter {
                    Some(letter) if self.selection.takes(&letter) => {
                        count += 1;
                        window.push(letter);
                    }
                    Some(letter) => letters.leave(&letter),
                    None => {}
                }
                if meant && (end || window.len() == WINDOW) {
                    letters.handled(&window).await?;
                }
                if end || window.len() == WINDOW {
                    window.clear();
                }
                if end {
                    break;
                }
            }
        }
        Ok(count)
    }
}

fn asked(count: u64) -> bool {
    eprint!("give {count} letters up? They are not delivered. [y/N] ");
    let _ = io::stderr().flush();
    let mut said = String::new();
    io::stdin().lock().read_line(&mut said).is_ok() && matches!(said.trim(), "y" | "Y" | "yes")
}
