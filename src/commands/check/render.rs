//! Mistakes the way a compiler tells them.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
    path::Path,
};

use crate::config::{Mistake, Severity, window_start};

/// To standard error.
pub fn report(file: &Path, mistakes: &[Mistake]) {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A reader that went away is no error.
    let _ = io::Write::write_all(&mut io::stderr().lock(), rendered(file, mistakes, colours).as_bytes());
}

/// File, line and column, the line itself with carets below what is meant, and what was expected.
fn rendered(file: &Path, mistakes: &[Mistake], colours: bool) -> String {
    let paint = |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let mut out = String::new();
    for mistake in mistakes {
        let (word, code) = match mistake.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}: {}", paint(code, word), paint("1", &mistake.problem));
        let gutter = " ".repeat(mistake.line.to_string().len());
        let _ = writeln!(out, "{gutter}--> {}:{}:{}", file.display(), mistake.line, mistake.column);
        if !mistake.text.trim().is_empty() {
            let before = mistake.column.saturating_sub(1 + window_start(mistake.column));
            let room = mistake.text.chars().count().saturating_sub(before).max(1);
            let carets = "^".repeat(mistake.width.clamp(1, room));
            let _ = writeln!(out, "{} | {}", mistake.line, mistake.text);
            let _ = writeln!(out, "{gutter} | {}{}", " ".repeat(before), paint(code, &carets));
        }
        if let Some(expected) = &mistake.expected {
            let _ = writeln!(out, "{gutter} = expected {expected}");
        }
        if let Some(nearest) = &mistake.nearest {
            let _ = writeln!(out, "{gutter} = did you mean `{nearest}`?");
        }
        out.push('\n');
    }
    let errors = mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
    if errors > 0 {
        let _ = writeln!(out, "{}: {errors} mistake{}", file.display(), if errors == 1 { "" } else { "s" });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_mistake_is_shown_in_its_line_with_what_was_expected() {
        let text = "clusters:\n  main: { type: kafak, servers: \"127.0.0.1:9092\" }\nroutes: {}\n";
        let shown =
            rendered(Path::new("table.yaml"), &config::check(Path::new("table.yaml"), text, &|_| None).mistakes, false);
        let expected = "error: `kafak` is not known here
 --> table.yaml:2:17
2 |   main: { type: kafak, servers: \"127.0.0.1:9092\" }
  |                 ^^^^^
  = expected one of kafka, pulsar, rocketmq
  = did you mean `kafka`?

table.yaml: 1 mistake
";
        assert_eq!(shown, expected);
    }
}
