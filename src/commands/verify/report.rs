//! What was found, said to people and to programs.

use std::collections::BinaryHeap;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::commands::{Exit, Output, answer};

/// What can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Wrong {
    /// In the first topic, and neither in the second nor among the dead letters
    Missing,
    /// More often in the second topic than in the first
    Repeated,
    /// In front of a message that it was behind
    Reordered,
    /// There, with another key, value, time or other headers
    Changed,
    /// In the second topic alone
    Unexpected,
}

/// How often, and where first.
pub struct Listed<T> {
    pub count: u64,
    shown: usize,
    /// The lowest ones.
    first: BinaryHeap<T>,
}

impl<T: Ord> Listed<T> {
    pub fn new(shown: usize) -> Self {
        Listed { count: 0, shown, first: BinaryHeap::new() }
    }

    pub fn count(&mut self, more: u64) {
        self.count += more;
    }

    pub fn list(&mut self, item: T) {
        self.first.push(item);
        if self.first.len() > self.shown {
            self.first.pop();
        }
    }

    /// How many are listed at most.
    pub fn shown(&self) -> usize {
        self.shown
    }

    /// The lowest ones, in order.
    pub fn first(&self) -> Vec<&T> {
        let mut first: Vec<_> = self.first.iter().collect();
        first.sort_unstable();
        first
    }
}

/// Something that can be said of a message.
pub trait Finding: Ord {
    fn text(&self) -> String;
    fn json(&self) -> Value;
}

/// One thing that can be wrong, and what was found of it.
pub struct Kind {
    wrong: Wrong,
    count: u64,
    first: Vec<(String, Value)>,
}

impl Kind {
    pub fn of<T: Finding>(wrong: Wrong, listed: &Listed<T>) -> Self {
        let first = listed.first().into_iter().map(|finding| (finding.text(), finding.json())).collect();
        Kind { wrong, count: listed.count, first }
    }
}

/// What a command of `verify` has to say.
pub struct Report {
    /// In a sentence.
    pub about: String,
    /// By their names in JSON, in which `_` stands for a blank.
    pub facts: Vec<(&'static str, Value)>,
    pub kinds: Vec<Kind>,
    pub notes: Vec<String>,
}

impl Report {
    /// Whether there is nothing wrong but what is allowed.
    pub fn sound(&self, allowed: &[Wrong]) -> bool {
        self.kinds.iter().all(|kind| kind.count == 0 || allowed.contains(&kind.wrong))
    }

    /// Says it, and how the command ends.
    pub fn say(&self, output: Output, allowed: &[Wrong]) -> Exit {
        match output {
            Output::Json => answer(&format!("{:#}\n", self.json(allowed))),
            Output::Text => answer(&self.text(allowed)),
        }
        if self.sound(allowed) { Exit::Fine } else { Exit::Failed }
    }

    pub fn json(&self, allowed: &[Wrong]) -> Value {
        let mut all = Map::from_iter([("about".to_owned(), json!(self.about))]);
        all.extend(self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        for kind in &self.kinds {
            let first: Vec<_> = kind.first.iter().map(|(_, value)| value).collect();
            all.insert(kind.name(), json!({ "count": kind.count, "first": first }));
        }
        all.insert("notes".into(), json!(self.notes));
        all.insert("sound".into(), json!(self.sound(allowed)));
        Value::Object(all)
    }

    fn text(&self, allowed: &[Wrong]) -> String {
        let facts = self.facts.iter().map(|(name, value)| (name.replace('_', " "), plain(value)));
        let counts = self.kinds.iter().map(|kind| (kind.name(), kind.count.to_string()));
        let rows: Vec<_> = facts.chain(counts).collect();
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut text = format!("{}\n", self.about);
        for (index, (name, value)) in rows.iter().enumerate() {
            text += &format!("  {name:width$}  {value}\n");
            let kind = index.checked_sub(self.facts.len()).and_then(|index| self.kinds.get(index));
            for (finding, _) in kind.into_iter().flat_map(|kind| &kind.first) {
                text += &format!("  {:width$}    {finding}\n", "");
            }
            if let Some(more) = kind.map(|kind| kind.count - kind.first.len() as u64).filter(|more| *more > 0) {
                text += &format!("  {:width$}    and {more} more\n", "");
            }
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        match self.kinds.is_empty() {
            true => text,
            false if self.sound(allowed) => text + "sound\n",
            false => text + "NOT SOUND\n",
        }
    }
}

impl Kind {
    fn name(&self) -> String {
        self.wrong.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        value => value.to_string(),
    }
}
