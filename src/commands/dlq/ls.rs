//! `trestle dlq ls`.

use clap::Args;
use serde_json::{Value, json};
use trestle_dlq::Letter;

use super::selection::Selection;
use crate::{
    commands::{Exit, Output, answer, asking::Failure, columns, date},
    config::Table,
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
        let (mut page, mut seen, mut foreign) = (Vec::new(), 0, 0);
        for topic in self.selection.topics(table)? {
            let Some(mut letters) = self.selection.open(&topic, table.memory.largest_message).await? else { continue };
            while let Some(letter) = letters.next().await? {
                if !self.selection.takes(&letter) {
                    continue;
                }
                seen += 1;
                if seen > self.skip && page.len() < self.limit as usize {
                    // Bodies are not for lists.
                    let mut letter = letter;
                    let bytes = letter.message.value.take().map(|value| value.len());
                    page.push((topic.to_string(), letter, bytes));
                }
            }
            foreign += letters.foreign();
        }
        let more = seen.saturating_sub(self.skip + page.len() as u64);
        match self.output {
            Output::Json => {
                let letters: Vec<Value> =
                    page.iter().map(|(topic, letter, bytes)| as_json(topic, letter, *bytes)).collect();
                answer(&format!(
                    "{:#}\n",
                    json!({ "letters": letters, "count": seen, "more": more, "foreign": foreign })
                ));
            }
            Output::Text => {
                answer(&text(&page));
                if more > 0 {
                    answer(&format!("{more} more: --skip {}\n", self.skip + page.len() as u64));
                }
                if foreign > 0 {
                    answer(&format!("note: {foreign} messages there are no whole dead letters, and are left alone\n"));
                }
            }
        }
        Ok(Exit::Fine)
    }
}

fn text(page: &[(String, Letter, Option<usize>)]) -> String {
    let heading = ["last failed", "route", "hop", "cause", "target", "source", "key", "bytes", "replays", "id"];
    let row = |(_, letter, bytes): &(String, Letter, Option<usize>)| {
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

/// Bytes as people read them; what is no text is escaped.
pub fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
        }
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// All but its body.
pub fn as_json(topic: &str, letter: &Letter, bytes: Option<usize>) -> Value {
    json!({
        "id": letter.id,
        "topic": topic,
        "partition": letter.partition.0,
        "positions": letter.positions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "route": letter.route,
        "hop": letter.hop,
        "origin": letter.origin,
        "target": letter.target,
        "source": letter.source,
        "cause": letter.cause,
        "error": letter.error,
        "attempts": letter.attempts,
        "first_failed": letter.first_failed,
        "last_failed": letter.last_failed,
        "replays": letter.replays,
        "key": letter.message.key.as_deref().map(readable),
        "bytes": bytes,
    })
}
