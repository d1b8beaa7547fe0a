//! `trestle dlq stats`.

use clap::Args;
use serde_json::{Value, json};

use super::selection::Selection;
use crate::{
    commands::{Exit, Output, answer, asking::Failure, columns, date},
    config::Table,
    letters::by_hour,
};

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Stats {
    #[command(flatten)]
    pub selection: Selection,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

const HELP: &str = "\
Counts letters by the hour (UTC) in which they failed last, their route and their cause.

Exit codes: 0 counted, 1 the letters could not be read, 2 the command line or the table is wrong

Examples:
  trestle dlq stats trestle.yaml
  trestle dlq stats trestle.yaml --since 24h --output json";

impl Stats {
    pub async fn run(&self, table: &Table) -> Result<Exit, Failure> {
        let counts = by_hour(&self.selection.pick(table)?).await?;
        let total: u64 = counts.values().sum();
        match self.output {
            Output::Json => {
                let row = |((hour, route, cause), count): (&(i64, String, String), &u64)| json!({ "hour": date(*hour), "route": route, "cause": cause, "count": count });
                let rows: Vec<Value> = counts.iter().map(row).collect();
                answer(&format!("{:#}\n", json!({ "letters": total, "by_hour": rows })));
            }
            Output::Text => {
                let heading = ["hour", "route", "cause", "letters"].map(str::to_owned);
                let row = |((hour, route, cause), count): (&(i64, String, String), &u64)| {
                    [date(*hour)[..13].replace('T', " ") + ":00", route.clone(), cause.clone(), count.to_string()]
                };
                answer(&columns(&std::iter::once(heading).chain(counts.iter().map(row)).collect::<Vec<_>>()));
                answer(&format!("{total} letters\n"));
            }
        }
        Ok(Exit::Fine)
    }
}
