//! What the command line of `integration/bench` says; `--help` there describes it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use crate::shape::{Pair, Shape};

#[derive(Clone, Debug)]
pub struct Wanted {
    pub shapes: Vec<Shape>,
    pub rounds: usize,
    pub pairs: Vec<Pair>,
    /// How long a rate is kept up; `None`: no rates.
    pub steady: Option<Duration>,
    /// On the way to the target's broker and back.
    pub delay: Option<Duration>,
    /// A program to compare with.
    pub other: Option<PathBuf>,
    pub json: Option<PathBuf>,
}

impl Wanted {
    pub fn read(words: &[String]) -> Result<Wanted> {
        let mut shape = Shape { messages: 200_000, size: 1_024, partitions: 4, keys: true };
        let (mut rounds, mut vary, mut steady, mut delay) = (3, false, 0, 0);
        let (mut pairs, mut other, mut json) = (Pair::all(), None, None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--messages" => shape.messages = value()?.parse()?,
                "--size" => shape.size = value()?.parse()?,
                "--partitions" => shape.partitions = value()?.parse()?,
                "--no-keys" => shape.keys = false,
                "--vary" => vary = true,
                "--rounds" => rounds = value()?.parse::<usize>()?.max(1),
                "--pairs" => pairs = chosen(value()?)?,
                "--steady" => steady = value()?.parse()?,
                "--delay" => delay = value()?.parse()?,
                "--other" => other = Some(value()?.into()),
                "--json" => json = Some(value()?.into()),
                _ => bail!("unknown option {word}"),
            }
        }
        ensure!(shape.size >= 8, "a value has 8 bytes at least, for the time when it was sent");
        let shapes = if vary { shape.varied() } else { vec![shape.bounded()] };
        let steady = (steady > 0).then(|| Duration::from_secs(steady));
        let delay = (delay > 0).then(|| Duration::from_millis(delay));
        Ok(Wanted { shapes, rounds, pairs, steady, delay, other, json })
    }
}

fn chosen(list: &str) -> Result<Vec<Pair>> {
    let all = Pair::all();
    let find = |name: &str| {
        let found = all.iter().find(|pair| pair.to_string() == name).copied();
        let names = || all.iter().map(Pair::to_string).collect::<Vec<_>>().join(", ");
        found.with_context(|| format!("there is no pair {name}; there are {}", names()))
    };
    list.split(',').map(str::trim).map(find).collect()
}
