//! The targets of `integration/fuzz` as plain tests: each takes its corpus, and changes of it. A target that panics is a
//! defect, and its input belongs into the corpus.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]
#![allow(clippy::print_stdout, reason = "what the test runner shows of a failure")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
};

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use trestle_integration::short_or_soak;

/// Changed inputs of each target, and in the long form.
const CHANGED: usize = 20_000;
const CHANGED_SOAK: usize = 2_000_000;
/// Changes of one input at most.
const CHANGES: usize = 8;

macro_rules! targets {
    ($($name:ident: $target:path,)*) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name), $target);
        })*

        #[test]
        fn every_corpus_has_a_target_and_every_target_a_corpus() {
            let mut targets = [$(stringify!($name)),*];
            targets.sort_unstable();
            let of = |folder: &str| {
                let entries = fs::read_dir(home().join(folder)).unwrap().map(|entry| entry.unwrap().path());
                let mut names: Vec<_> = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
                names.sort_unstable();
                names
            };
            assert_eq!(of("corpus"), targets);
            assert_eq!(of("targets"), targets);
            let manifest = fs::read_to_string(home().join("Cargo.toml")).unwrap();
            let named: Vec<_> = manifest.lines().filter(|line| line.starts_with("path = \"targets/")).collect();
            assert_eq!(named, targets.map(|name| format!("path = \"targets/{name}.rs\"")));
        }
    };
}

targets! {
    dead_letters: trestle_dlq::fuzz::dead_letters,
    pulsar_entries: trestle_pulsar::fuzz::entries,
    pulsar_envelope: trestle_pulsar::fuzz::envelope,
    pulsar_frames: trestle_pulsar::fuzz::frames,
    rocketmq_frame: trestle_rocketmq::fuzz::frame,
    rocketmq_properties: trestle_rocketmq::fuzz::properties,
    rocketmq_records: trestle_rocketmq::fuzz::records,
    rocketmq_route: trestle_rocketmq::fuzz::route,
    route_table: trestle::fuzz::route_table,
}

/// Asked for when it runs: a kept build may be older than the checkout's place.
fn home() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("fuzz")
}

fn fuzz(name: &str, target: fn(&[u8])) {
    let folder = home().join("corpus").join(name);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let corpus: Vec<Vec<u8>> = files.map(|file| fs::read(file).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    corpus.iter().for_each(|input| take(target, input));
    take(target, &[]);
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..short_or_soak(CHANGED, CHANGED_SOAK) {
        let mut input = corpus.choose(&mut random).unwrap().clone();
        for _ in 0..random.random_range(1..=CHANGES) {
            change(&mut input, &corpus, &mut random);
        }
        take(target, &input);
    }
}

fn take(target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        println!("the input: {:?}", String::from_utf8_lossy(input));
        println!("as hex: {}", input.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        resume_unwind(panic);
    }
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut SmallRng) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(0..=16)).min(input.len());
    match random.random_range(0..7) {
        0 => input.insert(at, random.random()),
        1 => drop(input.drain(at..end)),
        2 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        3 => {
            let other = corpus.choose(random).unwrap();
            let from = random.random_range(0..=other.len());
            let to = (from + random.random_range(0..=64)).min(other.len());
            input.splice(at..at, other[from..to].iter().copied());
        }
        4 => {
            // A length, an offset or a number that nobody expects.
            let extremes: [&[u8]; 5] = [&[0xff; 8], &[0; 8], &[0x7f, 0xff, 0xff, 0xff], b"4294967295", b"-1"];
            let extreme = extremes.choose(random).unwrap();
            let end = (at + extreme.len()).min(input.len());
            input.splice(at..end, extreme.iter().copied());
        }
        5 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        _ if at < input.len() => input[at] = random.random(),
        _ => {}
    }
}
