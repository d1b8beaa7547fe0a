//! What is wrong with a table, where, and what was expected instead.

use serde::Serialize;

use super::{
    blot,
    yaml::{Node, Span},
};

/// One thing that is wrong. Line and column count from 1, columns and width in characters.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Mistake {
    pub severity: Severity,
    pub line: usize,
    pub column: usize,
    pub width: usize,
    /// A JSON pointer to the value, as far as it is there.
    pub path: String,
    pub problem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The known name that is closest to what was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// The line itself, secrets blotted out.
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    /// The table is taken as it is; a person should look at it.
    Warning,
}

impl Mistake {
    pub fn at(span: Span, problem: impl Into<String>) -> Self {
        Mistake {
            severity: Severity::Error,
            line: span.line,
            column: span.column,
            width: span.width,
            path: String::new(),
            problem: problem.into(),
            expected: None,
            nearest: None,
            text: String::new(),
        }
    }

    /// Points at what stands at this path of the table, or nearest above it.
    pub fn on(root: &Node, path: &[&str], problem: impl Into<String>) -> Self {
        Mistake::at(root.locate(path), problem).path(path)
    }

    pub fn expected(mut self, what: impl Into<String>) -> Self {
        self.expected = Some(what.into());
        self
    }

    /// Says which names there are, and which of them is closest to what was written.
    pub fn one_of<'a>(mut self, written: &str, known: impl Iterator<Item = &'a str> + Clone) -> Self {
        self.expected = list(known.clone());
        self.nearest = nearest(written, known).map(str::to_owned);
        self
    }

    /// As [`Mistake::one_of`], where a list of them all would bury the one that was meant.
    pub fn near<'a>(mut self, written: &str, known: impl Iterator<Item = &'a str> + Clone) -> Self {
        match known.clone().nth(LISTED) {
            None => self.one_of(written, known),
            Some(_) => {
                self.nearest = nearest(written, known).map(str::to_owned);
                self
            }
        }
    }

    pub fn path<S: AsRef<str>>(mut self, path: &[S]) -> Self {
        self.path = path.iter().map(|p| format!("/{}", p.as_ref().replace('~', "~0").replace('/', "~1"))).collect();
        self
    }

    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

/// Names that a message lists; more would bury it.
const LISTED: usize = 16;
/// Known names that are compared with a wrong one, so that many mistakes against many names stay cheap.
const COMPARED: usize = 1_000;

fn list<'a>(mut known: impl Iterator<Item = &'a str>) -> Option<String> {
    let first: Vec<_> = known.by_ref().take(LISTED).collect();
    let more = if known.next().is_some() { ", ..." } else { "" };
    match first.as_slice() {
        [] => None,
        [one] => Some(format!("{one}{more}")),
        _ => Some(format!("one of {}{more}", first.join(", "))),
    }
}

/// The known name that a person most likely meant.
fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).max(1);
    let folded = written.to_lowercase();
    let near = known.take(COMPARED).filter(|name| name.len().abs_diff(written.len()) <= allowed.max(2));
    let distances = near.map(|name| (strsim::osa_distance(&folded, &name.to_lowercase()), name));
    distances.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Sorts by place, and shows each mistake the line it stands in.
pub fn complete(mistakes: &mut Vec<Mistake>, source: &str) {
    mistakes.sort_by(|a, b| (a.line, a.column, &a.problem).cmp(&(b.line, b.column, &b.problem)));
    mistakes.dedup();
    let mut lines = source.lines().enumerate();
    let (mut number, mut line) = (0, Vec::new());
    for mistake in mistakes {
        if mistake.line > number
            && let Some((index, text)) = lines.by_ref().find(|(index, _)| index + 1 >= mistake.line)
        {
            number = index + 1;
            line = blot::blot(text).chars().collect();
        }
        if number == mistake.line {
            mistake.text = window(&line, mistake.column);
        }
    }
}

/// Characters of a line that a mistake carries. A whole table may stand in one line.
const SHOWN: usize = 160;

/// The line from its beginning when the column is in sight there, else the part around the column, which then begins at a
/// multiple of half the width.
fn window(line: &[char], column: usize) -> String {
    line.iter().skip(window_start(column)).take(SHOWN).map(|c| if c.is_control() { ' ' } else { *c }).collect()
}

/// Characters left out before [`Mistake::text`].
pub fn window_start(column: usize) -> usize {
    (column.saturating_sub(SHOWN / 4) / (SHOWN / 2)) * (SHOWN / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_could_have_been_meant() {
        let known = ["kafka", "pulsar", "rocketmq"];
        assert_eq!(nearest("kafak", known.into_iter()), Some("kafka"));
        assert_eq!(nearest("RocketMQ", known.into_iter()), Some("rocketmq"));
        assert_eq!(nearest("nats", known.into_iter()), None);
    }

    #[test]
    fn a_table_in_one_long_line_is_shown_around_the_mistake() {
        let source = format!("{}here{}", "x".repeat(1_000_000), "y".repeat(1_000_000));
        let mut mistakes = vec![Mistake::at(Span { line: 1, column: 1_000_001, width: 4 }, "wrong")];
        complete(&mut mistakes, &source);
        let text: Vec<char> = mistakes[0].text.chars().collect();
        let at = 1_000_000 - window_start(1_000_001);
        assert_eq!(text[at..at + 4].iter().collect::<String>(), "here");
        assert!(text.len() <= SHOWN);
    }
}
