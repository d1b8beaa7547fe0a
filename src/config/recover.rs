//! Reads on behind an error of syntax: the entry that holds it is left out, and the rest is read as if it were not wrong.

use super::{
    mistake::Mistake,
    yaml::{self, Document, Kind, Node},
};

/// Entries that are left out at most; each costs one more reading of the table.
const MAX_CUTS: usize = 16;

/// What could be read of a table.
pub struct Readings {
    /// The table with every broken entry left out: there, but [`Kind::Unknown`].
    pub rest: Document,
    /// What stands before each error, broken entry included.
    pub before: Vec<Node>,
    pub mistakes: Vec<Mistake>,
}

pub fn read(text: &str) -> Readings {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut cuts, mut before, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = yaml::read(text);
    while let Some(error) = rest.syntax.clone().filter(|_| cuts.len() < MAX_CUTS) {
        let Some((cut, next)) = error.blamed.iter().find_map(|line| without(&lines, *line, error.line)) else { break };
        before.extend(rest.root.take());
        mistakes.append(&mut rest.mistakes);
        (lines, rest) = next;
        cuts.push(cut);
    }
    mistakes.append(&mut rest.mistakes);
    if let Some(root) = &mut rest.root {
        forget(root, &cuts);
    }
    Readings { rest, before, mistakes }
}

/// The line of the entry's key, the lines without the rest of it, and what is read then: only if that reaches further than
/// the error on line `reached`.
fn without(lines: &[String], blamed: usize, reached: usize) -> Option<(usize, (Vec<String>, Document))> {
    let (first, last) = entry(lines, blamed)?;
    let mut lines = lines.to_vec();
    let key = lines[first].split_inclusive(':').next()?.to_owned();
    // A table in one line of JSON has no such entries.
    if !key.ends_with(':') || key.trim_start().starts_with(['{', '[', '-']) {
        return None;
    }
    lines[first..=last].iter_mut().for_each(String::clear);
    lines[first] = key;
    let read = yaml::read(&lines.join("\n"));
    let further = read.syntax.as_ref().is_none_or(|error| error.line > reached.max(last + 1));
    further.then_some((first + 1, (lines, read)))
}

/// First and last line, from 0, of the entry of `clusters`, `routes` or the like that holds the line `at`, which counts from 1.
fn entry(lines: &[String], at: usize) -> Option<(usize, usize)> {
    let at = at.min(lines.len()).checked_sub(1)?;
    let section = (0..=at).rev().find(|line| indent(&lines[*line]) == Some(0))?;
    let deeper = |line: &usize| indent(&lines[*line]).is_some_and(|indent| (1..usize::MAX).contains(&indent));
    // What the first line below the section's is indented by is the indentation of its entries.
    let (first, depth) = match (section + 1..=at).find(deeper) {
        Some(child) => {
            let depth = indent(&lines[child])?;
            ((child..=at).rev().find(|line| indent(&lines[*line]) == Some(depth))?, depth)
        }
        None => (section, 0),
    };
    let end = (first + 1..lines.len()).find(|line| indent(&lines[*line]).is_some_and(|indent| indent <= depth));
    Some((first, end.unwrap_or(lines.len()) - 1))
}

/// Blanks before the text; nothing for a line that has none. A tab, which is no blank to YAML, belongs to what is above.
fn indent(line: &str) -> Option<usize> {
    let text = line.trim_start();
    let blanks = line.len() - text.len();
    let indent = if line[..blanks].contains('\t') { usize::MAX } else { blanks };
    (!text.is_empty() && !text.starts_with('#')).then_some(indent)
}

/// What stands at the keys on these lines is not known.
fn forget(node: &mut Node, cuts: &[usize]) {
    let Kind::Map(sections) = &mut node.kind else { return };
    for (key, section) in &mut sections.list {
        if cuts.contains(&key.span.line) {
            section.kind = Kind::Unknown;
        } else if let Kind::Map(entries) = &mut section.kind {
            for (_, entry) in entries.list.iter_mut().filter(|(key, _)| cuts.contains(&key.span.line)) {
                entry.kind = Kind::Unknown;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the errors, and the entries of `b` that are known.
    fn survived(broken: &str) -> (Vec<usize>, Vec<String>) {
        let text = format!("a: 1\nb:\n  first: {{ x: 1 }}\n{broken}  last: {{ y: 2 }}\nc: 3\n");
        let readings = read(&text);
        let root = readings.rest.root.unwrap();
        assert!(readings.rest.syntax.is_none() && root.get("c").is_some(), "{text}");
        let Kind::Map(entries) = &root.get("b").unwrap().1.kind else { panic!("{text}") };
        let known = entries.list.iter().filter(|(_, node)| !matches!(node.kind, Kind::Unknown));
        (readings.mistakes.iter().map(|m| m.line).collect(), known.map(|(key, _)| key.name.clone()).collect())
    }

    #[test]
    fn one_broken_entry_does_not_hide_the_others() {
        for broken in [
            "  broken: { x: 1, y: ]\n",
            "  broken: { x: 1\n",
            "  broken: [ 1, 2\n",
            "  broken: \"x\n",
            "  broken: x: y\n",
            "  broken: @x\n",
            "  broken:\n    x: 1\n     y: 2\n",
            "  broken:\n    x: 1\n   y: 2\n",
            "  broken:\n    x: 1\n\ty: 2\n",
            "  broken:\n    x 1\n    y: 2\n",
            "  broken:\n    x: { a: b\n    y: { c: d }\n",
            "  broken: \"x\" y\n",
        ] {
            let (lines, known) = survived(broken);
            assert_eq!(known, ["first", "last"], "{broken}");
            assert_eq!(lines.len(), 1, "{broken}");
        }
    }

    #[test]
    fn two_broken_entries_are_both_told() {
        let (lines, known) = survived("  one: { x: ]\n  fine: { x: 1 }\n  two: @\n");
        assert_eq!((lines, known), (vec![4, 6], vec!["first".to_owned(), "fine".into(), "last".into()]));
    }

    #[test]
    fn a_table_in_one_line_has_no_entry_to_leave_out() {
        let readings = read("{ \"a\": 1, \"b\": ] }\n");
        assert!(readings.rest.syntax.is_some() && readings.before.is_empty());
        assert_eq!(readings.mistakes.len(), 1);
    }
}
