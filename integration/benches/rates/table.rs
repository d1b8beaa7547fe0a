//! The figures, for people and as JSON.

use std::{fs, time::Duration};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use crate::{Wanted, process::Usage};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    ReadKafka,
    WritePulsar,
    Stage,
    ReadPulsar,
    WriteRocketMq,
    Deliver,
    MainJob,
}

impl Row {
    fn name(self) -> &'static str {
        match self {
            Row::ReadKafka => "read Kafka alone",
            Row::WritePulsar => "write Pulsar alone",
            Row::Stage => "hop Kafka -> Pulsar",
            Row::ReadPulsar => "read Pulsar alone",
            Row::WriteRocketMq => "write RocketMQ alone",
            Row::Deliver => "hop Pulsar -> RocketMQ",
            Row::MainJob => "main job, both hops",
        }
    }

    /// The clients that it cannot do without.
    fn limit(self) -> &'static [Row] {
        match self {
            Row::Stage => &[Row::ReadKafka, Row::WritePulsar],
            Row::Deliver => &[Row::ReadPulsar, Row::WriteRocketMq],
            Row::MainJob => &[Row::ReadKafka, Row::WritePulsar, Row::ReadPulsar, Row::WriteRocketMq],
            _ => &[],
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub row: Row,
    pub messages_per_second: f64,
    pub megabytes_per_second: f64,
    pub cpu_seconds_per_million: f64,
    pub peak_mebibytes: f64,
    pub context_switches_per_thousand: f64,
}

/// The median of a row's measurements, each figure by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    #[serde(flatten)]
    median: Run,
    /// Lowest and highest rate.
    range: [f64; 2],
    /// CPU over that of the clients alone, in this run.
    times_the_limit: Option<f64>,
}

impl Run {
    pub fn between(row: Row, messages: u64, time: Duration, before: &Usage, after: &Usage, size: usize) -> Run {
        let (messages, seconds) = (messages as f64, time.as_secs_f64());
        Run {
            row,
            messages_per_second: messages / seconds,
            megabytes_per_second: messages * size as f64 / seconds / 1e6,
            cpu_seconds_per_million: (after.cpu_seconds - before.cpu_seconds) / messages * 1e6,
            peak_mebibytes: after.peak_bytes as f64 / f64::from(1 << 20),
            context_switches_per_thousand: after.context_switches.saturating_sub(before.context_switches) as f64
                / messages
                * 1e3,
        }
    }
}

pub fn rows(runs: &[Run]) -> Vec<Summary> {
    let mut rows: Vec<Row> = runs.iter().map(|run| run.row).collect();
    rows.sort();
    rows.dedup();
    let of = |row: Row, figure: fn(&Run) -> f64| {
        let mut figures: Vec<f64> = runs.iter().filter(|run| run.row == row).map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let median = |row, figure| {
        let figures = of(row, figure);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let cpu = |row| median(row, |run| run.cpu_seconds_per_million);
    let summary = |row: Row| {
        let rates = of(row, |run| run.messages_per_second);
        let limit: f64 = row.limit().iter().map(|client| cpu(*client)).sum();
        Summary {
            median: Run {
                row,
                messages_per_second: median(row, |run| run.messages_per_second),
                megabytes_per_second: median(row, |run| run.megabytes_per_second),
                cpu_seconds_per_million: cpu(row),
                peak_mebibytes: median(row, |run| run.peak_mebibytes),
                context_switches_per_thousand: median(row, |run| run.context_switches_per_thousand),
            },
            range: [rates.first().copied().unwrap_or(f64::NAN), rates.last().copied().unwrap_or(f64::NAN)],
            times_the_limit: (!row.limit().is_empty()).then_some(cpu(row) / limit),
        }
    };
    rows.into_iter().map(summary).collect()
}

#[expect(clippy::print_stdout, reason = "the answer")]
pub fn print(wanted: &Wanted, rows: &[Summary]) {
    let Wanted { messages, size, partitions, rounds, .. } = wanted;
    println!("{messages} messages of {size} bytes with keys, {partitions} partitions; medians of {rounds} rounds\n");
    println!(
        "{:<24}{:>10}{:>20}{:>8}{:>9}{:>11}{:>10}{:>16}",
        "", "msg/s", "(range)", "MB/s", "CPU-s/M", "x clients", "peak MiB", "switches/1000"
    );
    for Summary { median, range, times_the_limit } in rows {
        println!(
            "{:<24}{:>10.0}{:>20}{:>8.1}{:>9.2}{:>11}{:>10.0}{:>16.0}",
            median.row.name(),
            median.messages_per_second,
            format!("({:.0}-{:.0})", range[0], range[1]),
            median.megabytes_per_second,
            median.cpu_seconds_per_million,
            times_the_limit.map_or(String::new(), |times| format!("{times:.2}")),
            median.peak_mebibytes,
            median.context_switches_per_thousand,
        );
    }
    println!("\nCounted by the target's broker. `alone`: the bridge's own client of that cluster, nothing else.");
}

/// To the file that was asked for, else behind the table.
#[expect(clippy::print_stdout, reason = "the answer")]
pub fn save(wanted: &Wanted, rows: &[Summary], runs: &[Run]) -> Result<()> {
    let Wanted { messages, size, partitions, rounds, json } = wanted;
    let all = json!({
        "messages": messages, "value_bytes": size, "partitions": partitions, "rounds": rounds, "rows": rows, "runs": runs,
    });
    let text = format!("{all:#}\n");
    match json {
        Some(file) => fs::write(file, text)?,
        None => println!("\n{text}"),
    }
    Ok(())
}
