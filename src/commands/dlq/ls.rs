//! `trestle dlq ls`.

use clap::Args;
use serde_json::{Value, json};

use super::selection::Selection;
use crate::{
    commands::{Exit, Output, answer, asking::Failure, columns, date},
    config::Table,
    letters::{After, Listed, Page, as_json, page, readable},
};

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Ls {
    #[command(flatten)]
    pub selection: Selection,
    /// Letters of a page
    #[arg(long, default_value_t = 50)]
    pub limit: u64,
    /// Letters in front of the page
    #[arg(long, default_value_t = 0)]
    pub skip: u64,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

const HELP: &str = "\
Letters are listed in the order in which they were written, the oldest first. Nothing is changed by looking.

Exit codes: 0 listed, 1 the letters could not be read, 2 the command line or the table is wrong

Examples:
  trestle dlq ls trestle.yaml
  trestle dlq ls trestle.yaml --route orders --cause too_large --since 2h
  trestle dlq ls trestle.yaml --skip 50                                     the second page
  trestle dlq ls trestle.yaml --output json | jq -r '.letters[].id'";

impl Ls {
    pub async fn run(&self, table: &Table) -> Result<Exit, Failure> {
        let pick = self.selection.pick(table)?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let Page { letters, count, more, foreign, .. } = page(&pick, After::default(), self.skip, limit).await?;
        let upto = self.skip + letters.len() as u64;
        match self.output {
            Output::Json => {
                let listed: Vec<Value> = letters.iter().map(|l| as_json(&l.topic, &l.letter, l.bytes)).collect();
                answer(&format!(
                    "{:#}\n",
                    json!({ "letters": listed, "count": count, "more": more, "foreign": foreign })
                ));
            }
            Output::Text => {
                answer(&text(&letters));
                if more > 0 {
                    answer(&format!("{more} more: --skip {upto}\n"));
                }
                if foreign > 0 {
                    answer(&format!("note: {foreign} messages there are no whole dead letters, and are left alone\n"));
                }
            }
        }
        Ok(Exit::Fine)
    }
}

fn text(page: &[Listed]) -> String {
    let heading = ["last failed", "route", "hop", "cause", "target", "source", "key", "bytes", "replays", "id"];
    let row = |Listed { letter, bytes, .. }: &Listed| {
        [
            letter.last_failed.map(date).unwrap_or_default(),
            letter.route.clone(),
            letter.hop.clone(),
            letter.cause.clone(),
            letter.target.clone(),
            letter.source.clone(),
            letter.message.key.as_deref().map(readable).unwrap_or_else(|| "-".into()),
            bytes.map_or("-".into(), |bytes| bytes.to_string()),
            letter.replays.to_string(),
            letter.id.clone(),
        ]
    };
    match page.is_empty() {
        true => "no letters\n".into(),
        false => columns(&std::iter::once(heading.map(str::to_owned)).chain(page.iter().map(row)).collect::<Vec<_>>()),
    }
}
