//! YAML text to a tree in which every key and value knows its place. JSON is YAML.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Range};

use super::mistake::Mistake;

/// Levels of nesting at most; every walk over the tree recurses no deeper.
pub const MAX_DEPTH: usize = 64;

/// Where something stands: line and column count from 1, columns and width in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub line: usize,
    pub column: usize,
    pub width: usize,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// A scalar; only a plain one (without quotes) may be a number, a boolean or null.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Entries),
    /// A value that could not be had; that was reported already.
    Unknown,
}

/// A mapping in the order in which it is written, each key once.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    pub list: Vec<(Key, Node)>,
    /// Where each key stands in `list`. A table may have ten thousand routes.
    index: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub name: String,
    pub span: Span,
}

/// What could be read, and whether that is all.
pub struct Document {
    /// Up to the first error of syntax; whatever was open there ends there.
    pub root: Option<Node>,
    pub mistakes: Vec<Mistake>,
    /// Where reading ended too soon: what is missing in `root` may stand in the rest.
    pub syntax: Option<Syntax>,
}

/// An error of syntax.
#[derive(Clone, Debug)]
pub struct Syntax {
    pub line: usize,
    /// Lines that may have caused it, the likeliest first: a bracket that is never closed is noticed much later.
    pub blamed: Vec<usize>,
}

pub fn read(text: &str) -> Document {
    let mut loader = Loader::default();
    let mut parser = Parser::new_from_str(text);
    let mut last = 1;
    let syntax = loop {
        match parser.next_event() {
            None => break None,
            Some(Ok((event, range))) => {
                last = range.start.line();
                if let Err(stop) = loader.take(event, range) {
                    let line = stop.line;
                    loader.mistakes.push(*stop);
                    break Some(Syntax { line, blamed: vec![line] });
                }
            }
            Some(Err(error)) => {
                let at = Span { line: error.marker().line(), column: error.marker().col() + 1, width: 1 };
                loader.mistakes.push(Mistake::at(at, format!("this is not YAML: {}", error.info())));
                let blamed = loader.bracket(text).into_iter().chain([at.line, last]).collect();
                break Some(Syntax { line: at.line, blamed });
            }
        }
    };
    while !loader.open.is_empty() {
        loader.close();
    }
    Document { root: loader.root, mistakes: loader.mistakes, syntax }
}

impl Node {
    pub fn get(&self, name: &str) -> Option<(&Key, &Node)> {
        match &self.kind {
            Kind::Map(entries) => entries.get(name),
            _ => None,
        }
    }

    /// Where to point for this path: at a scalar itself, at the key of anything larger, and at the nearest thing above
    /// when it is not written at all.
    pub fn locate(&self, path: &[&str]) -> Span {
        self.find(path, |key, node| if matches!(node.kind, Kind::Text { .. }) { node.span } else { key.span })
    }

    /// As [`Node::locate`], but at the key of a scalar as well.
    pub fn locate_key(&self, path: &[&str]) -> Span {
        self.find(path, |key, _| key.span)
    }

    /// Whether what stands there could not be had, which was told where that was found.
    pub fn is_unknown(&self, path: &[&str]) -> bool {
        let mut node = self;
        for name in path {
            let Some((_, next)) = node.get(name) else { return false };
            node = next;
        }
        matches!(node.kind, Kind::Unknown)
    }

    fn find(&self, path: &[&str], place: impl Fn(&Key, &Node) -> Span) -> Span {
        let (mut node, mut span) = (self, Span { line: 1, column: 1, width: 1 });
        for name in path {
            let item = if let Kind::List(items) = &node.kind {
                name.parse().ok().and_then(|at: usize| items.get(at))
            } else {
                None
            };
            (span, node) = match (node.get(name), item) {
                (Some((key, next)), _) => (place(key, next), next),
                (None, Some(item)) => (item.span, item),
                (None, None) => break,
            };
        }
        span
    }
}

impl Entries {
    fn get(&self, name: &str) -> Option<(&Key, &Node)> {
        self.list.get(*self.index.get(name)?).map(|(key, node)| (key, node))
    }

    fn push(&mut self, key: Key, node: Node) {
        self.index.insert(key.name.clone(), self.list.len());
        self.list.push((key, node));
    }
}

#[derive(Default)]
struct Loader {
    open: Vec<Open>,
    root: Option<Node>,
    mistakes: Vec<Mistake>,
}

/// A list or mapping that is being read.
struct Open {
    node: Node,
    key: Option<Key>,
}

impl Loader {
    /// The line of the outermost bracket that is open.
    fn bracket(&self, text: &str) -> Option<usize> {
        let is_bracket = |span: &Span| {
            let line = text.lines().nth(span.line - 1).unwrap_or_default();
            matches!(line.chars().nth(span.column - 1), Some('{' | '['))
        };
        self.open.iter().map(|open| open.node.span).find(is_bracket).map(|span| span.line)
    }

    fn take(&mut self, event: Event<'_>, range: Range) -> Result<(), Box<Mistake>> {
        let span = span(range);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let mistake = Mistake::at(span, "a second document begins here");
                return Err(mistake.expected("one document in a file").into());
            }
            Event::Scalar(text, style, _, tag) => {
                let mut plain = style == ScalarStyle::Plain;
                match tag {
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => plain = false,
                    Some(tag) => self.mistakes.push(Mistake::at(span, format!("the tag `{tag}` is not read here"))),
                    None => {}
                }
                self.add(Node { span, kind: Kind::Text { text: text.into_owned(), plain } });
            }
            Event::SequenceStart(..) => self.open(Node { span, kind: Kind::List(Vec::new()) })?,
            Event::MappingStart(..) => self.open(Node { span, kind: Kind::Map(Entries::default()) })?,
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(_) => {
                self.mistakes.push(Mistake::at(span, "aliases are not read here").expected("the value itself"));
                self.add(Node { span, kind: Kind::Unknown });
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, node: Node) -> Result<(), Box<Mistake>> {
        if self.open.len() == MAX_DEPTH {
            return Err(Mistake::at(node.span, format!("nested deeper than {MAX_DEPTH} levels")).into());
        }
        self.open.push(Open { node, key: None });
        Ok(())
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.pop() else { return };
        if let (Some(key), Kind::Map(entries)) = (open.key.take(), &mut open.node.kind)
            && entries.get(&key.name).is_none()
        {
            // Only at an error of syntax: the value never came.
            let span = key.span;
            entries.push(key, Node { span, kind: Kind::Unknown });
        }
        self.add(open.node);
    }

    fn add(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        let entries = match &mut open.node.kind {
            Kind::List(items) => return items.push(node),
            Kind::Map(entries) => entries,
            // Nothing else is ever opened.
            Kind::Text { .. } | Kind::Unknown => return,
        };
        let Some(key) = open.key.take() else {
            let name = match node.kind {
                Kind::Text { text, .. } => text,
                _ => {
                    self.mistakes.push(Mistake::at(node.span, "a key must be a text"));
                    String::new()
                }
            };
            open.key = Some(Key { name, span: node.span });
            return;
        };
        if let Some((first, _)) = entries.get(&key.name) {
            let problem = format!("`{}` stands here twice: first on line {}", key.name, first.span.line);
            self.mistakes.push(Mistake::at(key.span, problem));
            return;
        }
        entries.push(key, node);
    }
}

fn span(range: Range) -> Span {
    let (start, end) = (range.start, range.end);
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()).max(1) } else { 1 };
    Span { line: start.line().max(1), column: start.col() + 1, width }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize, width: usize) -> Span {
        Span { line, column, width }
    }

    #[test]
    fn everything_knows_its_place() {
        let text = "a:\n  bä: { c: \"x y\", d: 12 } # note\n  e:\n    - one\n";
        let root = read(text).root.unwrap();
        assert_eq!(root.locate(&["a"]), at(1, 1, 1));
        assert_eq!(root.locate(&["a", "bä"]), at(2, 3, 2));
        assert_eq!(root.locate(&["a", "bä", "c"]), at(2, 12, 5));
        assert_eq!(root.locate(&["a", "bä", "d"]), at(2, 22, 2));
        assert_eq!(root.locate(&["a", "bä", "missing"]), at(2, 3, 2));
    }

    #[test]
    fn what_stands_before_an_error_of_syntax_is_still_read() {
        let document = read("a: 1\nb: {c: 2, d: ]\n");
        assert!(document.syntax.is_some());
        assert_eq!(document.mistakes.len(), 1);
        assert_eq!(document.mistakes[0].line, 2);
        let root = document.root.unwrap();
        assert_eq!(root.locate(&["b", "c"]), at(2, 8, 1));
    }

    #[test]
    fn duplicate_keys_aliases_and_second_documents_are_mistakes() {
        for (text, line, column) in [("a: 1\na: 2\n", 2, 1), ("a: &x 1\nb: *x\n", 2, 4), ("a: 1\n---\nb: 2\n", 2, 1)] {
            let mistakes = read(text).mistakes;
            assert_eq!(mistakes.iter().map(|m| (m.line, m.column)).collect::<Vec<_>>(), [(line, column)], "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_it_can_hurt() {
        let document = read(&"[".repeat(10_000));
        assert!(document.syntax.is_some() && document.mistakes.len() == 1);
        let document = read(&"- ".repeat(10_000));
        assert!(document.syntax.is_some() && document.mistakes.len() == 1);
    }
}
