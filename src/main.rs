//! The command line, nothing else.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use trestle::commands::{self, Exit, Output};

/// The allocator of choice for long runs with messages of all sizes: less memory held, and less time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Carries messages between Kafka, Pulsar and RocketMQ: loses nothing, keeps order, and says what it is doing.
#[derive(Parser)]
#[command(name = "trestle", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the routes of a table until SIGTERM or SIGINT
    Run { file: PathBuf },
    /// Say everything that is wrong with a table, or what it comes to
    Check {
        file: PathBuf,
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    let exit = match Arguments::parse().command {
        Command::Run { file } => commands::check::load(&file).map_or_else(|exit| exit, commands::run::run),
        Command::Check { file, output } => commands::check::check(&file, output),
        Command::Version => {
            commands::answer(concat!("trestle ", env!("CARGO_PKG_VERSION"), "\n"));
            Exit::Fine
        }
    };
    exit.into()
}
