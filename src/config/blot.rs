//! A line of the table as a message may show it: without what looks like a secret.

use super::secrets::SECRET_WORDS;

/// The line with what looks like a secret replaced by as many `*`, so that columns stay true. Works on the text alone:
/// a line is shown also when its YAML could not be read.
pub fn blot(line: &str) -> String {
    let mut hidden = vec![false; line.len()];
    let lower = line.to_ascii_lowercase();
    let starts: Vec<usize> = lower.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
    for word in SECRET_WORDS {
        // Misspelt as well: a key that is not known is when a line is shown.
        for letters in word.len() - 1..=word.len() + 1 {
            for ends in starts.windows(letters + 1) {
                let (from, to) = (ends[0], ends[letters]);
                if within_one_edit(&lower.as_bytes()[from..to], word.as_bytes()) {
                    hide(&mut hidden, value_after(line, to));
                }
            }
        }
    }
    // scheme://user:password@host
    for (at, _) in line.match_indices("://") {
        let from = at + 3;
        let end = line[from..].find(['/', ' ', '"', '\'', ',']).map_or(line.len(), |end| from + end);
        if let (Some(colon), Some(host)) = (line[from..end].find(':'), line[from..end].rfind('@'))
            && colon < host
        {
            hide(&mut hidden, from + colon + 1..from + host);
        }
    }
    line.char_indices().map(|(at, c)| if hidden[at] { '*' } else { c }).collect()
}

/// Whether a letter more or less, another one, or two in each other's place make one of the other.
fn within_one_edit(one: &[u8], other: &[u8]) -> bool {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same..], &other[same..]);
    let same = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    match (&one[..one.len() - same], &other[..other.len() - same]) {
        ([a, b], [c, d]) => (a, b) == (d, c),
        (one, other) => one.len() <= 1 && other.len() <= 1,
    }
}

fn hide(hidden: &mut [bool], range: std::ops::Range<usize>) {
    if let Some(range) = hidden.get_mut(range) {
        range.fill(true);
    }
}

/// The value of the key that ends at or after `from`; empty when there is none or when it is only a reference.
fn value_after(line: &str, from: usize) -> std::ops::Range<usize> {
    let nothing = from..from;
    let Some(colon) = line[from..].find([':', '=', ',', '}']).map(|at| from + at) else { return nothing };
    if !matches!(line.as_bytes().get(colon), Some(b':' | b'=')) {
        return nothing;
    }
    let value = line[colon + 1..].trim_start();
    let start = line.len() - value.len();
    let end = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(line.len(), |end| start + end + 2),
        _ if value.starts_with("${") && value.trim_end().ends_with('}') => return nothing,
        // Inside `{ }` a plain value ends at a comma or brace; elsewhere at the end of the line.
        _ if line[..start].contains('{') => value.find([',', '}']).map_or(line.len(), |end| start + end),
        _ => line.len(),
    };
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_shows_a_secret() {
        for (line, shown) in [
            ("  password: hunter2, and more", "  password: *****************"),
            ("  sasl: { password: hunter2, user: me }", "  sasl: { password: *******, user: me }"),
            ("{\"sasl.password\": \"a,b\", \"x\": 1}", "{\"sasl.password\": *****, \"x\": 1}"),
            ("  token: ${TOKEN}", "  token: ${TOKEN}"),
            ("  url: pulsar://me:hunter2@host:6650", "  url: pulsar://me:*******@host:6650"),
            ("  url: pulsar://host:6650", "  url: pulsar://host:6650"),
            ("  topic: orders", "  topic: orders"),
            ("  sasl: { pasword: hunter2, user: me }", "  sasl: { pasword: *******, user: me }"),
            ("  tokne: hunter2", "  tokne: *******"),
            ("  secert_key: hunter2", "  secert_key: *******"),
            ("  taken_by: { topic: ünder }", "  taken_by: ****************"),
        ] {
            assert_eq!(blot(line), shown);
        }
    }
}
