//! The clients' own settings under `options:`, as far as the connectors know them without a connection.

use std::collections::{BTreeMap, HashMap};

use trestle_core::{OptionsOf, WrongOption};

use super::{mistake::Mistake, yaml::Node};
use crate::clusters::Protocol;

pub type Options = BTreeMap<String, String>;

/// Remembers what was asked: ten thousand routes often say the same.
#[derive(Default)]
pub struct Checker(HashMap<(&'static str, OptionsOf, String, String), Option<WrongOption>>);

impl Checker {
    /// What each of `sides` takes of the options that stand at `path`. What none of them knows, and what has a wrong value
    /// for one that does, is a mistake.
    pub fn check<const SIDES: usize>(
        &mut self,
        (root, path): (&Node, &[&str]),
        protocol: &'static Protocol,
        options: &Options,
        sides: [OptionsOf; SIDES],
        mistakes: &mut Vec<Mistake>,
    ) -> [Options; SIDES] {
        let mut taken = [(); SIDES].map(|()| Options::new());
        for (name, value) in options {
            let path = [path, &["options", name]].concat();
            let answers = sides.map(|side| self.ask(protocol, side, name, value));
            if let Some(known) = unknown(&answers) {
                let problem = format!("there is no option `{name}` here");
                let mistake = Mistake::at(root.locate_key(&path), problem).path(&path);
                mistakes.push(mistake.near(name, known.iter().copied()));
                continue;
            }
            let problem = answers.iter().flatten().find(|wrong| wrong.known.is_none()).map(|wrong| &wrong.problem);
            mistakes.extend(problem.map(|problem| Mistake::on(root, &path, problem)));
            for (taken, answer) in taken.iter_mut().zip(&answers) {
                if answer.is_none() {
                    taken.insert(name.clone(), value.clone());
                }
            }
        }
        taken
    }

    fn ask(&mut self, protocol: &'static Protocol, of: OptionsOf, name: &str, value: &str) -> Option<WrongOption> {
        let key = (protocol.name, of, name.to_owned(), value.to_owned());
        let ask = || (protocol.options)(of, &Options::from([(name.to_owned(), value.to_owned())])).pop();
        self.0.entry(key).or_insert_with(ask).clone()
    }
}

/// The names there are, when no side knows this one.
fn unknown(answers: &[Option<WrongOption>]) -> Option<Vec<&'static str>> {
    let known = answers.iter().map(|answer| answer.as_ref()?.known).collect::<Option<Vec<_>>>()?;
    let mut known: Vec<_> = known.into_iter().flatten().copied().collect();
    known.sort_unstable();
    known.dedup();
    Some(known)
}
