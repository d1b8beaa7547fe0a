//! `trestle dlq show`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use trestle_dlq::Letter;

use super::selection::Selection;
use crate::{
    commands::{Exit, Output, answer, asking::Failure, date},
    config::Table,
    letters::{as_json, find, hex, readable},
};

#[derive(Args)]
#[command(after_help = HELP)]
pub struct Show {
    #[command(flatten)]
    pub selection: Selection,
    /// How to print bodies
    #[arg(long, value_enum, default_value_t)]
    pub body: Body,
    /// Letters at most
    #[arg(long, default_value_t = 1)]
    pub limit: usize,
    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Body {
    /// JSON where it is, else text where it is, else hex
    #[default]
    Auto,
    /// What is no UTF-8 is escaped
    Text,
    /// Indented
    Json,
    Hex,
    None,
}

const HELP: &str = "\
Exit codes: 0 shown, 1 there is no such letter, or it could not be read, 2 the command line or the table is wrong

Examples:
  trestle dlq show trestle.yaml --id 0123456789abcdef0123456789abcdef
  trestle dlq show trestle.yaml --route orders --body hex --limit 10";

impl Show {
    pub async fn run(&self, table: &Table) -> Result<Exit, Failure> {
        let found = find(&self.selection.pick(table)?, self.limit).await?;
        let shown: Vec<String> = found
            .iter()
            .map(|(topic, letter)| match self.output {
                Output::Json => self.json(topic, letter).to_string(),
                Output::Text => self.text(topic, letter),
            })
            .collect();
        match (shown.is_empty(), self.output) {
            (true, _) => {
                return Err(Failure::Failed("there is no such letter; `trestle dlq ls` lists what there is".into()));
            }
            (false, Output::Json) => answer(&format!("[{}]\n", shown.join(",\n "))),
            (false, Output::Text) => answer(&shown.join("\n")),
        }
        Ok(Exit::Fine)
    }

    fn text(&self, topic: &str, letter: &Letter) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| text += &format!("{name:13} {value}\n");
        let time = |millis: Option<i64>| millis.map_or("-".into(), date);
        let positions: Vec<_> = letter.positions.iter().map(ToString::to_string).collect();
        line("id", letter.id.clone());
        line("letter", format!("{topic} partition {} at {}", letter.partition, positions.join(", ")));
        line("route, hop", format!("{}, {}", letter.route, letter.hop));
        line("from, to", format!("{}, {}", letter.origin, letter.target));
        line("source", letter.source.clone());
        line("cause", letter.cause.clone());
        line("error", letter.error.clone());
        line("attempts", letter.attempts.to_string());
        line("first failed", time(letter.first_failed));
        line("last failed", time(letter.last_failed));
        line("replays", letter.replays.to_string());
        line("time", time(letter.message.time));
        line("key", letter.message.key.as_deref().map_or("- (none)".into(), readable));
        for header in letter.message.headers.iter() {
            let value = header.value.as_deref().map_or("- (null)".into(), readable);
            line("header", format!("{}: {value}", readable(&header.name)));
        }
        match &letter.message.value {
            None => line("body", "- (null)".into()),
            Some(value) => {
                line("body", format!("{} bytes", value.len()));
                text += &self.body(value);
            }
        }
        text
    }

    fn json(&self, topic: &str, letter: &Letter) -> Value {
        let value = letter.message.value.as_deref();
        let mut json = as_json(topic, letter, value.map(<[u8]>::len));
        let header =
            |header: &trestle_core::Header| json!([readable(&header.name), header.value.as_deref().map(readable)]);
        json["time"] = json!(letter.message.time);
        json["headers"] = letter.message.headers.iter().map(header).collect();
        json["body"] = json!(value.map(|value| self.body(value)));
        json
    }

    fn body(&self, value: &[u8]) -> String {
        let parsed = || serde_json::from_slice::<Value>(value).ok().map(|json| format!("{json:#}\n"));
        let text = || std::str::from_utf8(value).ok().map(|text| format!("{text}\n"));
        match self.body {
            Body::Auto => parsed().or_else(text).unwrap_or_else(|| hex(value)),
            Body::Text => text().unwrap_or_else(|| format!("{}\n", readable(value))),
            Body::Json => parsed().unwrap_or_else(|| "it is no JSON; --body text or hex prints it\n".into()),
            Body::Hex => hex(value),
            Body::None => String::new(),
        }
    }
}
