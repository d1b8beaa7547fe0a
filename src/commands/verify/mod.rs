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

use super::{Exit, asking::ask};

#[derive(Subcommand)]
pub enum Verify {
    /// Write numbered messages to a topic, for `verify read`
    Send(send::Send),
    /// Read what `verify send` wrote, at the other end of a route, and judge it
    Read(read::Read),
    /// Compare what two live topics hold, without touching anybody's group
    Compare(compare::Compare),
}

pub fn verify(command: Verify) -> Exit {
    let file = match &command {
        Verify::Send(send) => &send.file,
        Verify::Read(read) => &read.file,
        Verify::Compare(compare) => &compare.file,
    };
    ask(file, async |table| match &command {
        Verify::Send(send) => Ok(send.run(table).await?.say(send.output, &[])),
        Verify::Read(read) => Ok(read.run(table).await?.say(read.output, &read.allow)),
        Verify::Compare(compare) => Ok(compare.run(table).await?.say(compare.output, &compare.allow)),
    })
}
