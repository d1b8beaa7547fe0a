//! What Prometheus' own lint asks of names and texts (`promtool check metrics`), and what it does not: that labels are the same for
//! all series of a metric, are named alike everywhere, and have few values.

use std::collections::{BTreeMap, BTreeSet};

use super::{Family, Series};

/// Every label there may be, and the most values that one page may have of it. Routes and partitions are the user's own.
const LABELS: &[(&str, usize)] = &[
    ("route", usize::MAX),
    ("hop", 2),
    ("partition", usize::MAX),
    ("cause", 12),
    ("part", 8),
    ("reason", 4),
    ("unit", 2),
    ("version", 1),
    ("le", 24),
];
/// Of anything that is not a route's name.
const LONGEST_VALUE: usize = 40;
/// In place of the base units seconds, bytes, meters, ratio, ...
const OTHER_UNITS: &[&str] = &[
    "ms",
    "milliseconds",
    "millis",
    "us",
    "microseconds",
    "ns",
    "nanoseconds",
    "minutes",
    "hours",
    "days",
    "kb",
    "kib",
    "mb",
    "mib",
    "kilobytes",
    "megabytes",
    "bits",
    "percent",
    "percentage",
];
const TYPES: &[&str] = &["counter", "gauge", "histogram", "summary", "untyped", "metric"];

/// What is wrong with a page, each with its metric.
pub fn problems(page: &str) -> Vec<String> {
    let families = Family::all(page);
    let mut found: Vec<String> = families
        .iter()
        .flat_map(|family| of_family(family).into_iter().map(|problem| format!("{}: {problem}", family.name)))
        .collect();
    for text in ["# HELP ", "# TYPE "] {
        let mut names: Vec<_> = page.lines().filter_map(|l| l.strip_prefix(text)?.split(' ').next()).collect();
        names.sort_unstable();
        found
            .extend(names.windows(2).filter(|two| two[0] == two[1]).map(|two| format!("{}: two lines {text}", two[0])));
    }
    for (label, values) in values(&families) {
        match LABELS.iter().find(|(known, _)| *known == label) {
            None => found.push(format!("nothing else is labelled {label:?}: is it one of {LABELS:?}?")),
            Some((_, most)) if values.len() > *most => {
                found.push(format!(
                    "{} values of the label {label:?}, and {most} are the most: {values:?}",
                    values.len()
                ));
            }
            Some(_) => {}
        }
    }
    found
}

fn values(families: &[Family]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (label, value) in families.iter().flat_map(|family| &family.series).flat_map(|series| &series.labels) {
        values.entry(label).or_default().insert(value);
    }
    values
}

fn of_family(family: &Family) -> Vec<String> {
    let mut found = Vec::new();
    let words: Vec<&str> = family.name.split('_').collect();
    let kind = family.kind.as_deref().unwrap_or_default();
    let mut require = |holds: bool, problem: String| {
        if !holds {
            found.push(problem);
        }
    };
    require(family.help.as_ref().is_some_and(|help| help.len() >= 10), "no help that says something".into());
    require(["counter", "gauge", "histogram"].contains(&kind), format!("the type {kind:?}"));
    require(words[0] == "trestle" && words.len() > 1, "the name does not begin with trestle_".into());
    require(
        words.iter().all(|word| is_word(word)),
        "a name is words of small letters and digits between single _".into(),
    );
    require(
        (kind == "counter") == (words.last() == Some(&"total")),
        "counters end in _total, and nothing else does".into(),
    );
    require(
        !["bucket", "sum", "count"].iter().any(|part| words.last() == Some(part)),
        "_bucket, _sum and _count are parts of histograms".into(),
    );
    for word in &words {
        require(!TYPES.contains(word), format!("the type in the name: {word}"));
        require(!OTHER_UNITS.contains(word), format!("not a base unit: {word}"));
    }
    let info = words.last() == Some(&"info");
    require(!info || family.series.iter().all(|series| series.value == 1.0), "an _info that is not 1".into());
    let names =
        |series: &Series| -> Vec<String> { series.labels.keys().filter(|label| *label != "le").cloned().collect() };
    let sets: BTreeSet<Vec<String>> = family.series.iter().map(names).collect();
    require(sets.len() <= 1, format!("series with different labels: {sets:?}"));
    for (label, value) in family.series.iter().flat_map(|series| &series.labels) {
        require(is_word(label), format!("the label {label:?} is not one word of small letters"));
        let by_label = words.windows(2).any(|two| ["by", "per"].contains(&two[0]) && two[1] == label);
        require(!by_label, format!("the name says that it is by {label:?}, which the label does"));
        require(label == "route" || value.len() <= LONGEST_VALUE, format!("a long value of {label:?}: {value}"));
        require(
            label != "partition" || value.parse::<u32>().is_ok(),
            format!("a partition without a number: {value:?}"),
        );
        require(label != "le" || kind == "histogram", "the label le without a histogram".into());
        require(label != "quantile", "quantiles cannot be added up over instances".into());
    }
    found
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
# HELP trestle_messages_delivered_total Messages that the target's broker confirmed
# TYPE trestle_messages_delivered_total counter
trestle_messages_delivered_total{route="a \"quoted\" one, with {braces}",hop="stage"} 3
# HELP trestle_delivery_duration_seconds From received to settled
# TYPE trestle_delivery_duration_seconds histogram
trestle_delivery_duration_seconds_bucket{route="r",hop="stage",le="0.1"} 1
trestle_delivery_duration_seconds_bucket{route="r",hop="stage",le="+Inf"} 1
trestle_delivery_duration_seconds_sum{route="r",hop="stage"} 0.05
trestle_delivery_duration_seconds_count{route="r",hop="stage"} 1
"#;

    #[test]
    fn a_page_in_order_has_no_problems() {
        assert_eq!(problems(GOOD), Vec::<String>::new());
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let delivered = |name: &str| GOOD.replace("trestle_messages_delivered_total", name);
        let cases = [
            (delivered("trestle_messages_delivered"), "_total"),
            (GOOD.replace("total counter", "total gauge"), "_total"),
            (delivered("messages_delivered_total"), "begin with trestle_"),
            (delivered("trestle_messages__delivered_total"), "single _"),
            (delivered("trestle_messagesDelivered_total"), "small letters"),
            (delivered("trestle_counter_delivered_total"), "type in the name"),
            (delivered("trestle_messages_by_hop_total"), "by \"hop\""),
            (GOOD.replace("duration_seconds", "duration_milliseconds"), "base unit"),
            (GOOD.replace(" Messages that the target's broker confirmed", " x"), "help"),
            (GOOD.replace("# HELP trestle_delivery_duration_seconds From received to settled\n", ""), "help"),
            (GOOD.replace("# TYPE trestle_messages_delivered_total counter\n", ""), "the type \"\""),
            (format!("{GOOD}# TYPE trestle_delivery_duration_seconds histogram\n"), "two lines"),
            (format!("{GOOD}trestle_delivery_duration_seconds_sum{{route=\"r\"}} 1\n"), "different labels"),
            (GOOD.replace("hop=", "message="), "nothing else is labelled \"message\""),
            (GOOD.replacen("hop=\"stage\"", "partition=\"all\"", 1), "without a number"),
            (GOOD.replacen("hop=\"stage\"", "cause=\"a connection was refused by 10.0.0.1 at 09:15\"", 1), "a long value"),
            (
                format!("{GOOD}{}", ["a", "b"].map(|h| format!("trestle_messages_delivered_total{{route=\"r\",hop=\"{h}\"}} 1\n")).concat()),
                "are the most",
            ),
            ("# HELP trestle_build_info The version that runs\n# TYPE trestle_build_info gauge\ntrestle_build_info 2\n".into(), "not 1"),
        ];
        for (page, expected) in cases {
            let found = problems(&page);
            assert!(
                found.iter().any(|problem| problem.contains(expected)),
                "{expected:?} is not among {found:?} of\n{page}"
            );
        }
    }
}
