//! The figures, for people and as JSON.

use std::{fs, time::Duration};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::{
    options::Wanted,
    process::Usage,
    shape::{Row, Shape},
    steady::Steady,
};

/// One measurement of a backlog.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    #[serde(serialize_with = "as_text")]
    pub row: Row,
    pub shape: Shape,
    pub messages_per_second: f64,
    pub megabytes_per_second: f64,
    pub cpu_seconds_per_million: f64,
    pub peak_mebibytes: f64,
    pub context_switches_per_thousand: f64,
    /// From the start of the program to the first message.
    pub start_seconds: Option<f64>,
}

/// The median of a row's measurements, each figure by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub median: Run,
    /// Lowest and highest rate.
    range: [f64; 2],
    /// CPU over that of the clients alone, in this run.
    times_the_limit: Option<f64>,
}

impl Run {
    pub fn between(row: Row, shape: Shape, messages: u64, time: Duration, before: &Usage, after: &Usage) -> Run {
        let (messages, seconds) = (messages as f64, time.as_secs_f64());
        let switches = after.context_switches.saturating_sub(before.context_switches) as f64;
        Run {
            row,
            shape,
            messages_per_second: messages / seconds,
            megabytes_per_second: messages * shape.size as f64 / seconds / 1e6,
            cpu_seconds_per_million: (after.cpu_seconds - before.cpu_seconds) / messages * 1e6,
            peak_mebibytes: after.peak_bytes as f64 / f64::from(1 << 20),
            context_switches_per_thousand: switches / messages * 1e3,
            start_seconds: None,
        }
    }
}

/// A line for each row of each shape, in their order.
pub fn rows(runs: &[Run]) -> Vec<Summary> {
    let mut rows: Vec<(Shape, Row)> = runs.iter().map(|run| (run.shape, run.row)).collect();
    rows.sort();
    rows.dedup();
    rows.into_iter().map(|(shape, row)| summary(runs, shape, row)).collect()
}

fn summary(runs: &[Run], shape: Shape, row: Row) -> Summary {
    let of = |row: Row, figure: &dyn Fn(&Run) -> f64| {
        let mut figures: Vec<f64> =
            runs.iter().filter(|run| (run.shape, run.row) == (shape, row)).map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let median = |row, figure: &dyn Fn(&Run) -> f64| {
        let figures = of(row, figure);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let cpu = |row| median(row, &|run| run.cpu_seconds_per_million);
    let rates = of(row, &|run| run.messages_per_second);
    let limit = row.limit();
    let starts = of(row, &|run| run.start_seconds.unwrap_or(f64::NAN));
    Summary {
        median: Run {
            row,
            shape,
            messages_per_second: median(row, &|run| run.messages_per_second),
            megabytes_per_second: median(row, &|run| run.megabytes_per_second),
            cpu_seconds_per_million: cpu(row),
            peak_mebibytes: median(row, &|run| run.peak_mebibytes),
            context_switches_per_thousand: median(row, &|run| run.context_switches_per_thousand),
            start_seconds: starts.get(starts.len() / 2).copied().filter(|start| start.is_finite()),
        },
        range: [rates.first().copied().unwrap_or(f64::NAN), rates.last().copied().unwrap_or(f64::NAN)],
        times_the_limit: (!limit.is_empty())
            .then(|| cpu(row) / limit.into_iter().map(cpu).sum::<f64>())
            .filter(|times| times.is_finite()),
    }
}

#[expect(clippy::print_stdout, reason = "the answer")]
pub fn print(wanted: &Wanted, rows: &[Summary], steady: &[Steady]) {
    for shape in &wanted.shapes {
        let delay = wanted.delay.map_or(String::new(), |delay| format!(", {delay:?} to the target and back each"));
        println!("\n{shape}{delay}; medians of {} rounds\n", wanted.rounds);
        println!(
            "{:<32}{:>9}{:>18}{:>8}{:>9}{:>11}{:>10}{:>15}{:>10}",
            "", "msg/s", "(range)", "MB/s", "CPU-s/M", "x clients", "peak MiB", "switches/1000", "start s"
        );
        for Summary { median, range, times_the_limit } in rows.iter().filter(|row| row.median.shape == *shape) {
            println!(
                "{:<32}{:>9.0}{:>18}{:>8.1}{:>9.2}{:>11}{:>10.0}{:>15.0}{:>10}",
                median.row.to_string(),
                median.messages_per_second,
                format!("({:.0}-{:.0})", range[0], range[1]),
                median.megabytes_per_second,
                median.cpu_seconds_per_million,
                times_the_limit.map_or(String::new(), |times| format!("{times:.2}")),
                median.peak_mebibytes,
                median.context_switches_per_thousand,
                median.start_seconds.map_or(String::new(), |start| format!("{start:.2}")),
            );
        }
    }
    println!("\nCounted by the target's broker. `alone`: the bridge's own client of that cluster, nothing else.");
    if steady.is_empty() {
        return;
    }
    println!(
        "\nHow late messages are at a steady rate, in milliseconds; a cluster's name alone: its own client there and back\n"
    );
    println!("{:<32}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}", "", "msg/s", "p50", "p99", "p99.9", "highest", "CPU-s/M");
    for Steady { what, messages_per_second, late, cpu_seconds_per_million } in steady {
        let cpu = cpu_seconds_per_million.map_or(String::new(), |cpu| format!("{cpu:.2}"));
        println!(
            "{what:<32}{messages_per_second:>9}{:>9.1}{:>9.1}{:>9.1}{:>9.1}{cpu:>9}",
            late.p50, late.p99, late.p999, late.highest
        );
    }
}

/// To the file that was asked for, else behind the table.
#[expect(clippy::print_stdout, reason = "the answer")]
pub fn save(wanted: &Wanted, rows: &[Summary], steady: &[Steady], runs: &[Run]) -> Result<()> {
    let delay = wanted.delay.map(|delay| delay.as_millis() as u64);
    let all = json!({
        "rounds": wanted.rounds, "delay_milliseconds": delay, "rows": rows, "steady": steady, "runs": runs,
    });
    let text = format!("{all:#}\n");
    match &wanted.json {
        Some(file) => fs::write(file, text)?,
        None => println!("\n{text}"),
    }
    Ok(())
}

fn as_text<S: serde::Serializer>(row: &Row, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(row)
}
