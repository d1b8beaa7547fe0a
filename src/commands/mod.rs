//! One file a command. Each takes what the command line says and answers with how it went.

mod asking;
pub mod check;
pub mod client;
pub mod completions;
pub mod dlq;
pub mod explain;
pub mod health;
pub mod plan;
mod progress;
mod reading;
pub mod run;
pub mod schema;
pub mod top;
pub mod verify;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::ValueEnum;

pub use crate::letters::date;

/// How a command ended; the numbers are a contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Fine = 0,
    /// It failed while running, or what it asked said no.
    Failed = 1,
    /// The command line or the route table is wrong.
    Wrong = 2,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// How a command says what it found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Writes a command's answer to standard output. A reader that went away is no error.
pub fn answer(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Rows as lines, every cell below the one above it.
fn columns<const CELLS: usize>(rows: &[[String; CELLS]]) -> String {
    let mut widths = [0; CELLS];
    for row in rows {
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
    }
    let line = |row: &[String; CELLS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}
