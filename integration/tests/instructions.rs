//! What the work on a message costs, counted in instructions: unlike times these hardly differ from run to run.
//!
//! Each case runs under `valgrind --tool=callgrind` twice, with few and with many messages, so that what starts and ends cancels out.
//! `instructions.json` beside this file holds what each case cost when it was last agreed on; `TRESTLE_RENEW=1` writes it anew.

#[path = "../benches/micro/cases.rs"]
mod cases;

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use self::cases::CASES;

/// Messages of the two runs.
const FEW: usize = 1_000;
const MANY: usize = 3_000;
/// Above what was agreed on, at most. Another compiler may cost or save some by itself.
const BOUND: f64 = 1.10;
/// Says to a process of its own which case to run, and with how many messages.
const CASE: &str = "TRESTLE_INSTRUCTIONS_CASE";

#[test]
fn no_case_costs_more_instructions_than_was_agreed_on() -> Result<()> {
    let file = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("tests/instructions.json");
    let mut counted = BTreeMap::new();
    for (name, _) in CASES {
        let (few, many) = (count(name, FEW)?, count(name, MANY)?);
        counted.insert((*name).to_owned(), many.saturating_sub(few) / (MANY - FEW) as u64);
    }
    if env::var_os("TRESTLE_RENEW").is_some() {
        return Ok(fs::write(file, format!("{:#}\n", serde_json::to_value(&counted)?))?);
    }
    let agreed: BTreeMap<String, u64> = serde_json::from_str(&fs::read_to_string(file)?)?;
    let report = |name: &String| {
        format!("{name}: {:?} instructions a message, agreed on {:?}", counted.get(name), agreed.get(name))
    };
    ensure!(agreed.keys().eq(counted.keys()), "other cases than agreed on: renew the file");
    let dear: Vec<String> = counted
        .iter()
        .filter(|(name, count)| **count as f64 > agreed[*name] as f64 * BOUND)
        .map(|(name, _)| report(name))
        .collect();
    ensure!(dear.is_empty(), "dearer than agreed on:\n{}", dear.join("\n"));
    Ok(())
}

/// Runs a case when it is told which; see [`count`].
#[test]
fn one_case() {
    let Ok(wanted) = env::var(CASE) else { return };
    let (name, messages) = wanted.rsplit_once(' ').unwrap();
    let (_, run) = CASES.iter().find(|(known, _)| *known == name).unwrap();
    run(messages.parse().unwrap());
}

/// Instructions of a whole process that runs a case.
fn count(name: &str, messages: usize) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--exact", "one_case", "--test-threads=1"])
        .env(CASE, format!("{name} {messages}"))
        .output()
        .context("valgrind is needed: integration/test installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :")).context("nothing was counted")?;
    Ok(collected.1.trim().parse()?)
}
