//! Property tests: one hop or two over the memory connector, under paused time, with random batches, faults, revokes and
//! crashes, judged by an oracle that knows only what the brokers saw, stored and committed.
//!
//! A failing run prints its seed; `TRESTLE_SEED=N cargo test whatever_goes_wrong` runs that one alone and tells its story.

mod bridge;
mod counts;
mod disturb;
mod oracle;
mod run;
mod story;

use super::Sabotage;
use counts::Counts;
use oracle::Verdict;

/// Runs of the normal tests and of the long form; `TRESTLE_PROPERTY_RUNS` asks for another number, `TRESTLE_PROPERTY_FROM` for
/// other seeds.
const RUNS: u64 = 2_000;
const RUNS_SOAK: u64 = 100_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed on a runtime of its own, whose time is paused.
fn judge(seed: u64, sabotage: Sabotage) -> Vec<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let counts = Counts::default();
    metrics::with_local_recorder(&counts, || runtime.block_on(run::run(seed, sabotage, &counts)))
}

/// Runs one seed, and says what was wrong.
fn fails(seed: u64) -> bool {
    let verdicts = judge(seed, Sabotage::None);
    if !verdicts.is_empty() {
        eprintln!("TRESTLE_SEED={seed}: {verdicts:#?}");
    }
    !verdicts.is_empty()
}

#[test]
fn nothing_is_lost_reordered_or_committed_early_whatever_goes_wrong() {
    let seeds = match number("TRESTLE_SEED") {
        Some(seed) => {
            story::begin();
            seed..seed + 1
        }
        None => {
            let soak = std::env::var_os("TRESTLE_SOAK").is_some_and(|value| value == "1");
            let runs = number("TRESTLE_PROPERTY_RUNS").unwrap_or(if soak { RUNS_SOAK } else { RUNS });
            let from = number("TRESTLE_PROPERTY_FROM").unwrap_or(0);
            from..from + runs
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get()) as u64;
    let failed = std::thread::scope(|scope| {
        let share = |worker| seeds.clone().filter(move |seed| seed % workers == worker).filter(|seed| fails(*seed));
        let threads: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || share(worker).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<u64>>()
    });
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

/// Some seed among the first must show the mistake: an oracle that passes a broken pipeline proves nothing.
fn caught(sabotage: Sabotage, wanted: impl Fn(&Verdict) -> bool) {
    let tries = 200;
    assert!((0..tries).any(|seed| judge(seed, sabotage).iter().any(&wanted)), "{sabotage:?} was not caught");
}

#[test]
fn the_oracle_catches_an_acknowledgement_before_the_send() {
    caught(Sabotage::AckBeforeSend, |v| matches!(v, Verdict::Loss(_) | Verdict::Commit { .. }));
}

#[test]
fn the_oracle_catches_settling_past_a_failed_message() {
    caught(Sabotage::SettlePastFailure, |v| matches!(v, Verdict::Loss(_) | Verdict::Commit { .. }));
}
