//! `trestle dlq`: dead letters, listed, looked at, counted, replayed and given up.

mod ls;
mod purge;
mod replay;
mod selection;
mod show;
mod stats;

use clap::Subcommand;

use super::{Exit, asking::ask};

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

pub fn dlq(command: Dlq) -> Exit {
    let file = match &command {
        Dlq::Ls(ls) => &ls.selection.file,
        Dlq::Show(show) => &show.selection.file,
        Dlq::Stats(stats) => &stats.selection.file,
        Dlq::Replay(replay) => &replay.selection.file,
        Dlq::Purge(purge) => &purge.selection.file,
    };
    ask(file, async |table| match &command {
        Dlq::Ls(ls) => ls.run(table).await,
        Dlq::Show(show) => show.run(table).await,
        Dlq::Stats(stats) => stats.run(table).await,
        Dlq::Replay(replay) => replay.run(table).await,
        Dlq::Purge(purge) => purge.run(table).await,
    })
}
