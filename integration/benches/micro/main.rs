//! Times of [`cases`], on this machine and now: `cargo bench -p trestle-integration --bench micro`. For figures that can be compared
//! see `tests/instructions.rs`.

mod cases;

use divan::{Bencher, counter::ItemsCount};

/// Messages of one sample.
const MESSAGES: usize = 10_000;

fn main() {
    divan::main();
}

#[divan::bench(args = cases::CASES.iter().map(|(name, _)| *name))]
fn case(bencher: Bencher<'_, '_>, name: &str) {
    let run = cases::CASES.iter().find(|(known, _)| *known == name).map(|(_, run)| run);
    bencher.counter(ItemsCount::new(MESSAGES)).bench(|| run.map(|run| run(MESSAGES)));
}
