//! `${NAME}` and `${file:/path}`, filled in for any value; and keeping what is secret out of every message.

use std::{io, path::Path};

use super::{
    inputs::Inputs,
    mistake::Mistake,
    yaml::{Kind, Node, Span},
};

/// Bytes of a file that is filled in.
const MAX_FILE: u64 = 1 << 20;
/// Shorter values are not blotted out of messages: it would make them unreadable and hide nothing.
const MIN_SECRET: usize = 3;
/// A key that holds one of these holds a secret.
pub const SECRET_WORDS: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "private", "key.pem"];

/// What is told of a secret without telling it: what a token of `tokens` may do.
const TOLD: &str = "scopes";

/// Where the values of `${NAME}` come from.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Values that no message may show.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The text with every secret in it blotted out.
    pub fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    fn keep(&mut self, value: &str) {
        if value.len() >= MIN_SECRET {
            self.0.push(value.to_owned());
        }
    }
}

/// Whether the value under this key is a secret, or belongs to one: `within`.
pub fn is_secret(key: &str, within: bool) -> bool {
    let name = key.to_lowercase();
    key != TOLD && (within || SECRET_WORDS.iter().any(|word| name.contains(word)))
}

/// Fills in every value of the tree. What cannot be had becomes [`Kind::Unknown`], with a mistake.
pub fn fill(
    root: &mut Node,
    source: &str,
    environment: Environment<'_>,
    inputs: &mut Inputs,
    mistakes: &mut Vec<Mistake>,
) -> Secrets {
    let lines = if source.contains("${") { source.lines().collect() } else { Vec::new() };
    let mut filler = Filler { lines, environment, inputs, mistakes, secrets: Secrets::default() };
    filler.node(root, false);
    // The longest first: one value may hold another.
    filler.secrets.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    filler.secrets.0.dedup();
    filler.secrets
}

struct Filler<'a> {
    lines: Vec<&'a str>,
    environment: Environment<'a>,
    inputs: &'a mut Inputs,
    mistakes: &'a mut Vec<Mistake>,
    secrets: Secrets,
}

impl Filler<'_> {
    fn node(&mut self, node: &mut Node, secret: bool) {
        match &mut node.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| self.node(item, secret)),
            Kind::Map(entries) => {
                entries.list.iter_mut().for_each(|(key, value)| self.node(value, is_secret(&key.name, secret)));
            }
            Kind::Text { text, .. } if text.contains("${") => match self.text(text, node.span) {
                Some(filled) => *text = filled,
                None => node.kind = Kind::Unknown,
            },
            Kind::Text { text, .. } if secret => self.secrets.keep(text),
            Kind::Text { .. } | Kind::Unknown => {}
        }
    }

    fn text(&mut self, text: &str, span: Span) -> Option<String> {
        let (mut filled, mut rest, mut whole) = (String::new(), text, true);
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(literal) = before.strip_suffix('$') {
                filled.push_str(literal);
                filled.push_str("${");
                rest = &from[2..];
                continue;
            }
            filled.push_str(before);
            let Some(end) = from.find('}') else {
                let mistake = Mistake::at(self.place(from, span), "`${` is never closed");
                self.mistakes
                    .push(mistake.expected("`${NAME}` or `${file:/path}`; `$${` stands for the text `${` itself"));
                return None;
            };
            let (reference, after) = from.split_at(end + 1);
            match self.value(&reference[2..end]) {
                Ok(value) => {
                    self.secrets.keep(&value);
                    filled.push_str(&value);
                }
                Err((problem, expected)) => {
                    self.mistakes.push(Mistake::at(self.place(reference, span), problem).expected(expected));
                    whole = false;
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        whole.then_some(filled)
    }

    fn value(&mut self, reference: &str) -> Result<String, (String, &'static str)> {
        if let Some(path) = reference.strip_prefix("file:") {
            let text = read(path, self.inputs)
                .map_err(|e| (format!("cannot read {path}: {e}"), "a file of text that can be read"))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            return Ok(text.strip_suffix('\r').unwrap_or(text).to_owned());
        }
        let mut letters = reference.chars();
        let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let problem = format!("`{reference}` is not the name of an environment variable");
            return Err((problem, "`${NAME}` or `${file:/path}`; `$${` stands for the text `${` itself"));
        }
        (self.environment)(reference)
            .ok_or_else(|| (format!("the environment variable {reference} is not set"), "it in the environment"))
    }

    /// Where a reference stands: found in the line, because escapes before it may have moved it.
    fn place(&self, reference: &str, span: Span) -> Span {
        let line = self.lines.get(span.line.saturating_sub(1)).copied().unwrap_or_default();
        let start = line.char_indices().nth(span.column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
        match line[start..].find(reference) {
            Some(at) => {
                let column = line[..start + at].chars().count() + 1;
                Span { line: span.line, column, width: reference.chars().count() }
            }
            None => span,
        }
    }
}

fn read(path: &str, inputs: &mut Inputs) -> io::Result<String> {
    let bytes = inputs.read(Path::new(path), MAX_FILE)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::{super::yaml, *};

    fn filled(text: &str) -> (Node, Vec<Mistake>, Secrets) {
        let mut root = yaml::read(text).root.unwrap();
        let mut mistakes = Vec::new();
        let environment = |name: &str| (name == "NAME").then(|| "value".to_owned());
        let secrets = fill(&mut root, text, &environment, &mut Inputs::default(), &mut mistakes);
        (root, mistakes, secrets)
    }

    fn text(root: &Node, name: &str) -> String {
        match &root.get(name).unwrap().1.kind {
            Kind::Text { text, .. } => text.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn references_are_filled_in_wherever_they_stand() {
        let file = std::env::temp_dir().join(format!("trestle-secrets-{}", std::process::id()));
        std::fs::write(&file, "from a file\n").unwrap();
        let (root, mistakes, _) = filled(&format!(
            "a: x-${{NAME}}-${{NAME}}\nb: ${{file:{}}}\nc: \"$${{NAME}}\"\nd: [\"${{NAME}}\"]\n",
            file.display()
        ));
        std::fs::remove_file(file).unwrap();
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(text(&root, "a"), "x-value-value");
        assert_eq!(text(&root, "b"), "from a file");
        assert_eq!(text(&root, "c"), "${NAME}");
    }

    #[test]
    fn what_is_missing_is_said_where_it_stands() {
        let (_, mistakes, _) =
            filled("a: \"x ${NAME} ${MISSING}\"\nb: ${file:/nowhere/at/all}\nc: ${not a name}\nd: ${open\n");
        let places: Vec<_> = mistakes.iter().map(|m| (m.line, m.column, m.width)).collect();
        assert_eq!(places, [(1, 15, 10), (2, 4, 23), (3, 4, 13), (4, 4, 6)]);
    }

    #[test]
    fn no_message_shows_a_secret() {
        let (_, _, secrets) = filled("a: ${NAME}\nsasl: { password: hunter2 }\nb: shown\n");
        assert_eq!(secrets.scrub("value, hunter2 and shown"), "***, *** and shown");
    }
}
