//! The command line, nothing else.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use trestle::commands::{self, Exit, Output, completions::Shell, dlq::Dlq, plan::Against, verify::Verify};

/// The allocator of choice for long runs with messages of all sizes: less memory held, and less time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Carries messages between Kafka, Pulsar and RocketMQ: loses nothing, keeps order, and says what it is doing.
#[derive(Parser)]
#[command(name = "trestle", version, arg_required_else_help = true, after_help = GENERAL)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const GENERAL: &str = "\
Exit codes:
  0  fine
  1  it failed while running, or what it asked said no
  2  the command line or the route table is wrong

Examples:
  trestle check trestle.yaml              everything that is wrong with a table, or what it comes to
  trestle check trestle.yaml --connect    the same, and whether the clusters agree
  trestle explain trestle.yaml orders     what route orders does to a message
  trestle plan new.yaml --with trestle.yaml
                                          what a reload to new.yaml would change
  trestle run trestle.yaml                carry messages until SIGTERM or SIGINT
  trestle verify compare trestle.yaml main/orders billing/orders --window 1h
                                          whether all of one topic is in another, unchanged and in order
  trestle dlq ls trestle.yaml             dead letters that nobody has dealt with
  trestle COMMAND --help                  more about a command";

#[derive(Subcommand)]
enum Command {
    /// Run the routes of a table until SIGTERM or SIGINT
    #[command(after_help = RUN)]
    Run {
        /// The route table, YAML or JSON
        file: PathBuf,
    },
    /// Say everything that is wrong with a table, or what it comes to
    #[command(after_help = CHECK)]
    Check {
        /// The route table, YAML or JSON
        file: PathBuf,
        /// How to say it: `json` writes everything to standard output
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// Ask the clusters as well whether they are there and keep what they are given; nothing is changed on them
        #[arg(long)]
        connect: bool,
    },
    /// Say what each route does to a message, what it promises, and what would make that stronger
    #[command(after_help = EXPLAIN)]
    Explain {
        /// The route table, YAML or JSON
        file: PathBuf,
        /// This route alone
        route: Option<String>,
        /// How to say it
        #[arg(long, value_enum, default_value_t)]
        output: Output,
        /// Look at the real topics as well: partitions, largest messages, retention; nothing is changed on them
        #[arg(long)]
        connect: bool,
    },
    /// Say what a reload would change, route by route
    #[command(after_help = PLAN, group(clap::ArgGroup::new("against").required(true)))]
    Plan {
        /// The new route table
        new: PathBuf,
        /// The route table that runs, or ran
        #[arg(long, value_name = "OLD", group = "against")]
        with: Option<PathBuf>,
        /// The instance that runs: HOST:PORT of its admin server
        #[arg(long, value_name = "URL", group = "against", value_parser = commands::client::address)]
        admin: Option<String>,
        /// How to say it
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the JSON Schema of the route table
    #[command(after_help = SCHEMA)]
    Schema,
    /// Watch a running Trestle: its routes, their rates, how far behind they are, and what they wait for
    #[command(after_help = TOP)]
    Top {
        /// Where its admin server is: `admin.listen` of its table
        #[arg(default_value = "127.0.0.1:9464", value_parser = commands::client::address)]
        address: String,
        /// How often to ask, at least 100ms
        #[arg(long, default_value = "1s", value_parser = every)]
        every: std::time::Duration,
        /// Print one look at it as lines, and end
        #[arg(long)]
        once: bool,
    },
    /// Ask a running Trestle whether it is alive, for a container's health check
    #[command(after_help = HEALTH)]
    Health {
        /// Where its admin pages are: `admin.listen` of its table
        #[arg(default_value = "127.0.0.1:9464", value_parser = commands::health::address)]
        address: String,
    },
    /// Prove that everything arrives: with numbered messages, or by comparing live topics
    #[command(subcommand)]
    Verify(Verify),
    /// List, look at, count, replay and give up dead letters
    #[command(subcommand)]
    Dlq(Dlq),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS)]
    Completions { shell: Shell },
    /// Print the version
    Version,
}

const RUN: &str = "\
The first signal drains: what is in flight is delivered and committed. A second one ends at once and loses nothing.
SIGHUP, or a table that has changed, reloads: routes that mean the same are not touched; a wrong table changes nothing.
The admin pages /livez, /readyz, /metrics and the API under /api/v1 are served on `admin.listen` of the table.
TRESTLE_LOG chooses what is logged, as in TRESTLE_LOG=debug or TRESTLE_LOG=error,trestle=info.

Exit codes: 0 drained, 1 it failed while running, 2 the table is wrong

Examples:
  trestle run trestle.yaml
  KAFKA_PASSWORD=... trestle run trestle.yaml    fills in ${KAFKA_PASSWORD}; ${file:/run/secrets/kafka} is read from the file";

const CHECK: &str = "\
Every mistake is told at once, with its line and column, what was expected, and the nearest name that is known.
Mistakes go to standard error, and what a right table comes to to standard output.

With --connect the clusters of a right table are asked, side by side and for some 10 s at most: versions, topics and
partitions, rights as far as they show, retention that could drop what is staged or not yet read, largest messages.

Exit codes: 0 the table is right (there may be warnings), 2 it is wrong, 1 the clusters say no, or one does not answer

Examples:
  trestle check trestle.yaml
  trestle check trestle.yaml --connect
  trestle check trestle.yaml --output json | jq '.mistakes[] | \"\\(.line): \\(.problem)\"'";

const EXPLAIN: &str = "\
For each hop: what becomes of key, value, null, headers, time, order, delay and size on the way, where repeats can come
from, and which settings would strengthen the route. Needs no cluster, unless --connect says so.

Exit codes: 0 explained, 2 the table is wrong or has no such route, 1 a cluster did not answer or says no

Examples:
  trestle explain trestle.yaml orders
  trestle explain trestle.yaml orders --connect
  trestle explain trestle.yaml --output json | jq '.routes[] | {route, guarantee}'";

const PLAN: &str = "\
Nothing is changed by asking. Routes that mean the same are untouched, however they are written; of changed ones the
settings are named that differ. With --admin the new table is read here and compared there, without secrets; the token, if
one is needed, is that of the environment variable TRESTLE_TOKEN, with the scope `view`.

Exit codes: 0 planned, 1 the instance did not answer or said no, 2 one of the tables is wrong

Examples:
  trestle plan new.yaml --with trestle.yaml
  TRESTLE_TOKEN=... trestle plan new.yaml --admin http://127.0.0.1:9464
  trestle plan new.yaml --with trestle.yaml --output json | jq '.changed[] | {route, keys}'";

const SCHEMA: &str = "\
Examples:
  trestle schema > trestle.schema.json
  and as the first line of a table, for editors:  # yaml-language-server: $schema=trestle.schema.json";

const TOP: &str = "\
Up and down choose a hop, about which more is told below; q ends. Where standard output is no terminal it is as with --once.
The token, if one is needed, is that of the environment variable TRESTLE_TOKEN, with the scope `view`.

Exit codes: 0 watched, 1 the instance did not answer or said no

Examples:
  trestle top
  TRESTLE_TOKEN=... trestle top 10.0.0.7:9464
  trestle top --once | grep waits";

const HEALTH: &str = "\
Exit codes: 0 /livez answered 200 within 3 s, 1 it did not, and standard error says why

Examples:
  trestle health
  trestle health 10.0.0.7:9464
  HEALTHCHECK CMD [\"/trestle\", \"health\"]    in a Dockerfile";

const COMPLETIONS: &str = "\
Examples:
  trestle completions bash > /etc/bash_completion.d/trestle
  trestle completions zsh > ~/.zfunc/_trestle
  trestle completions fish > ~/.config/fish/completions/trestle.fish";

/// Of `top`.
fn every(text: &str) -> Result<std::time::Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if every < std::time::Duration::from_millis(100) { Err("at least 100ms".into()) } else { Ok(every) }
}

fn main() -> ExitCode {
    let exit = match Arguments::parse().command {
        Command::Run { file } => commands::run::run(&file),
        Command::Check { file, output, connect } => commands::check::check(&file, output, connect),
        Command::Explain { file, route, output, connect } => {
            commands::explain::explain(&file, route.as_deref(), output, connect)
        }
        Command::Plan { new, with, admin, output } => {
            let against = match (&with, &admin) {
                (Some(old), _) => Against::File(old),
                (None, address) => Against::Running(address.as_deref().unwrap_or_default()),
            };
            commands::plan::plan(&new, &against, output)
        }
        Command::Schema => commands::schema::schema(),
        Command::Top { address, every, once } => commands::top::top(&address, every, once),
        Command::Health { address } => commands::health::health(&address),
        Command::Dlq(dlq) => commands::dlq::dlq(dlq),
        Command::Verify(verify) => commands::verify::verify(verify),
        Command::Completions { shell } => commands::completions::completions(shell, Arguments::command()),
        Command::Version => {
            commands::answer(concat!("trestle ", env!("CARGO_PKG_VERSION"), "\n"));
            Exit::Fine
        }
    };
    exit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_says_what_it_does() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        command.build();
        for command in command.get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }

    #[test]
    fn every_command_that_can_fail_names_its_exit_codes() {
        let mut command = Arguments::command();
        let named = |command: &mut clap::Command| {
            let help = command.render_long_help().to_string();
            help.contains("Exit codes: 0 ") && help.contains("Examples:\n")
        };
        for name in ["run", "check", "explain", "plan", "top", "health"] {
            assert!(named(command.find_subcommand_mut(name).unwrap()), "{name}");
        }
        for family in ["verify", "dlq"] {
            for command in command.find_subcommand_mut(family).unwrap().get_subcommands_mut() {
                assert!(named(command), "{family} {}", command.get_name());
            }
        }
        assert!(Arguments::command().render_long_help().to_string().contains("Exit codes:\n  0  fine\n"));
    }
}
