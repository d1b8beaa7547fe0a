//! How fast, at what cost and how late the bridge carries messages, for every pair of protocols, beside what the clients
//! themselves need to read the source and to write the target. `integration/bench` runs it.

mod clients;
mod counts;
mod drain;
mod options;
mod process;
mod shape;
mod site;
mod steady;
mod table;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::Result;
use trestle_integration::bridge_binary;

use self::{
    clients::Client,
    options::Wanted,
    shape::{Pair, Protocol, Row, Shape},
    site::{Site, Way},
    steady::Steady,
    table::{Run, Summary},
};

/// Nothing more arrives for so long: the measurement has failed.
const STALL: Duration = Duration::from_secs(60);
/// Messages a second that are kept up, and half of what the bridge can.
const RATES: [u64; 2] = [1_000, 10_000];

fn main() -> Result<()> {
    // Cargo adds `--bench` to what was written.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if words.first().is_some_and(|word| word == "client") {
        return runtime.block_on(clients::measure(&words[1..]));
    }
    runtime.block_on(bench(Wanted::read(&words)?))
}

async fn bench(wanted: Wanted) -> Result<()> {
    eprintln!("starting the brokers");
    let site = Site::start(wanted.delay.is_some()).await?;
    let bench = Bench { program: bridge_binary()?, site, wanted };
    let mut runs = Vec::new();
    for shape in &bench.wanted.shapes {
        for round in 0..bench.wanted.rounds {
            eprintln!("{shape}: round {} of {}", round + 1, bench.wanted.rounds);
            bench.round(*shape, round, &mut runs).await?;
        }
    }
    let rows = table::rows(&runs);
    let steady = bench.steady(&rows).await?;
    table::print(&bench.wanted, &rows, &steady);
    table::save(&bench.wanted, &rows, &steady, &runs)
}

struct Bench {
    wanted: Wanted,
    site: Site,
    program: PathBuf,
}

impl Bench {
    /// Everything once: first what the clients need, then each pair.
    async fn round(&self, shape: Shape, round: usize, runs: &mut Vec<Run>) -> Result<()> {
        let ends = |pair: &Pair| [Some(pair.from), pair.via, Some(pair.to)];
        let protocols: BTreeSet<Protocol> = self.wanted.pairs.iter().flat_map(ends).flatten().collect();
        for protocol in protocols {
            // What the first round writes is the backlog of all.
            let written = self.site.place(protocol, &format!("backlog-{}-{round}", shape.name()));
            let backlog = self.backlog(protocol, shape);
            self.delay(Some(protocol));
            runs.push(clients::alone(Row::Write(protocol), Client::Write, &written, shape).await?);
            self.delay(None);
            runs.push(clients::alone(Row::Read(protocol), Client::Read, &backlog, shape).await?);
        }
        for (at, pair) in self.wanted.pairs.iter().enumerate() {
            let mut rows = vec![(Row::Carry(*pair), &self.program)];
            // Once is enough to see the noise.
            if at == 0 {
                rows.push((Row::Control(*pair), &self.program));
            }
            rows.extend(self.wanted.other.as_ref().map(|other| (Row::Other(*pair), other)));
            // What comes second finds other files in memory: they take turns.
            if round % 2 == 1 {
                rows.reverse();
            }
            for (row, program) in rows {
                let name = format!("{pair}-{}-{round}-{}", shape.name(), runs.len());
                let way = Way::new(&self.site, *pair, self.backlog(pair.from, shape), name);
                self.delay(Some(pair.to));
                eprintln!("  {row}");
                runs.push(drain::drain(&self.site, row, &way, shape, program).await?);
            }
        }
        self.delay(None);
        Ok(())
    }

    fn backlog(&self, protocol: Protocol, shape: Shape) -> counts::Place {
        self.site.place(protocol, &format!("backlog-{}-0", shape.name()))
    }

    fn delay(&self, to: Option<Protocol>) {
        self.site.delay(to.zip(self.wanted.delay));
    }

    /// Each rate, with the first shape's messages.
    async fn steady(&self, rows: &[Summary]) -> Result<Vec<Steady>> {
        let (Some(time), Some(shape)) = (self.wanted.steady, self.wanted.shapes.first().copied()) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for rate in RATES {
            for protocol in Protocol::ALL {
                let place = self.site.place(protocol, &format!("late-{}-{rate}", protocol.name()));
                eprintln!("{} at {rate} a second", protocol.name());
                all.push(steady::alone(&place, shape, rate, time).await?);
            }
        }
        for pair in &self.wanted.pairs {
            let carried = rows.iter().find(|row| row.median.row == Row::Carry(*pair) && row.median.shape == shape);
            let half = carried.map(|row| row.median.messages_per_second as u64 / 2);
            for rate in RATES.into_iter().chain(half) {
                eprintln!("{pair} at {rate} a second");
                let name = format!("late-{pair}-{rate}");
                let from = self.site.place(pair.from, &format!("{name}-from"));
                let way = Way::new(&self.site, *pair, from, name);
                self.delay(Some(pair.to));
                let what = format!("{pair} ({} hops)", pair.hops());
                all.push(steady::bridged(&self.site, what, &way, shape, rate, time, &self.program).await?);
            }
        }
        self.delay(None);
        Ok(all)
    }
}
