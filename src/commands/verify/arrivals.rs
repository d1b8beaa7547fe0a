//! Judges the messages of a run by what follows from their numbers.

use std::collections::HashMap;

use serde_json::{Value, json};
use trestle_core::{Message, PartitionId};

use super::{
    numbered::{Numbered, Run},
    numbers::Numbers,
    record::{Content, Place},
    report::{Finding, Kind, Listed, Report, Wrong},
};

/// Changed messages in front of the first intact one whose numbers are kept; further ones count as missing as well.
const EARLY: usize = 10_000;

/// What has been seen of one run.
pub struct Arrivals {
    run: Run,
    /// Known from the first message that is as it was sent.
    state: Option<State>,
    /// Numbers of changed messages that came before that.
    early: Vec<u64>,
    found: Found,
}

struct State {
    count: u64,
    numbers: Numbers,
    /// The last number of each key and partition that it was seen in.
    last: HashMap<(u64, PartitionId), u64>,
}

struct Found {
    others: u64,
    dead_lettered: u64,
    missing: Listed<Number>,
    repeated: Listed<At>,
    reordered: Listed<At>,
    changed: Listed<At>,
    unexpected: Listed<At>,
}

/// A number that is nowhere.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Number(u64);

/// A message that is there, and what is wrong with it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct At {
    number: u64,
    place: Place,
    why: String,
}

impl Finding for Number {
    fn text(&self) -> String {
        format!("number {}", self.0)
    }

    fn json(&self) -> Value {
        json!({ "number": self.0 })
    }
}

impl Finding for At {
    fn text(&self) -> String {
        format!("number {}, {}: {}", self.number, self.place.text(None), self.why)
    }

    fn json(&self) -> Value {
        let mut json = self.place.json(None);
        json["number"] = json!(self.number);
        json["why"] = json!(self.why);
        json
    }
}

impl<T: Ord> Listed<T> {
    fn add(&mut self, finding: T) {
        self.count(1);
        self.list(finding);
    }
}

impl Arrivals {
    /// `show`: places that are listed of each kind of finding.
    pub fn new(run: Run, show: usize) -> Self {
        let found = Found {
            others: 0,
            dead_lettered: 0,
            missing: Listed::new(show),
            repeated: Listed::new(show),
            reordered: Listed::new(show),
            changed: Listed::new(show),
            unexpected: Listed::new(show),
        };
        Arrivals { run, state: None, early: Vec::new(), found }
    }

    pub fn is_complete(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.numbers.missing() == 0)
    }

    /// What the message claims to be, if it is of this run, and which of its parts are not as they were sent.
    fn claimed(&self, message: &Message) -> Option<(Numbered, Vec<&'static str>)> {
        let claimed = Numbered::claimed(message).filter(|claimed| claimed.run == self.run)?;
        // Nothing is made that is as large as anybody claims.
        let size = message.value.as_ref().map_or(0, |value| value.len());
        let sent = Numbered { size, ..claimed }.message();
        let mut differs = Content::of(&sent).differs(&Content::of(message));
        if size != claimed.size {
            differs = vec!["length of the value"];
        }
        Some((claimed, differs))
    }

    /// How many numbers came, of how many; `None` before the first message.
    pub fn seen(&self) -> Option<(u64, u64)> {
        self.state.as_ref().map(|state| (state.numbers.seen(), state.count))
    }

    /// Whether it is of the run.
    pub fn see(&mut self, partition: PartitionId, ordinal: u64, message: &Message) -> bool {
        let Some((claimed, differs)) = self.claimed(message) else {
            self.found.others += 1;
            return false;
        };
        let number = claimed.number;
        let at = |why: String| {
            let place = Place { partition: partition.0, ordinal, position: message.position };
            At { number, place, why }
        };
        if !differs.is_empty() {
            self.found.changed.add(at(format!("another {} than was sent", differs.join(" and "))));
        }
        if self.state.is_none() && differs.is_empty() {
            let count = claimed.count;
            let mut numbers = Numbers::below(count);
            for early in self.early.drain(..).filter(|early| *early < count) {
                numbers.see(early);
            }
            self.state = Some(State { count, numbers, last: HashMap::new() });
        }
        let Some(state) = &mut self.state else {
            if self.early.len() < EARLY {
                self.early.push(number);
            }
            return true;
        };
        if number >= state.count {
            self.found.unexpected.add(at(format!("only {} were sent", state.count)));
        } else if !state.numbers.see(number) {
            self.found.repeated.add(at("it was there before".into()));
        } else if let Some(key) = claimed.key().filter(|_| differs.is_empty()) {
            let last = state.last.entry((key, partition)).or_insert(number);
            if number < *last {
                self.found.reordered.add(at(format!("number {last} of the same key is in front of it")));
            }
            *last = number.max(*last);
        }
        true
    }

    /// Takes a dead letter for its message.
    pub fn bury(&mut self, letter: &Message) {
        if !trestle_dlq::is_dead_letter(letter) {
            return;
        }
        let Some((claimed, differs)) = self.claimed(&trestle_dlq::restore(letter)) else { return };
        // A large one is there in parts, each with some of the value.
        if !differs.is_empty() && !trestle_dlq::is_part(letter) {
            return;
        }
        let state = self.state.get_or_insert_with(|| State {
            count: claimed.count,
            numbers: Numbers::below(claimed.count),
            last: HashMap::new(),
        });
        if claimed.number < state.count && state.numbers.see(claimed.number) {
            self.found.dead_lettered += 1;
        }
    }

    pub fn report(self, about: String, notes: Vec<String>) -> Report {
        let Found { others, dead_lettered, mut missing, repeated, reordered, changed, unexpected } = self.found;
        let (mut count, mut seen) = (0, 0);
        if let Some(state) = &self.state {
            (count, seen) = (state.count, state.numbers.seen());
            missing.count(state.numbers.missing());
            state.numbers.unseen().take(missing.shown()).for_each(|number| missing.list(Number(number)));
        }
        Report {
            about,
            facts: vec![
                ("sent", json!(count)),
                ("arrived", json!(seen - dead_lettered)),
                ("dead_lettered", json!(dead_lettered)),
                ("others_left_aside", json!(others)),
            ],
            kinds: vec![
                Kind::of(Wrong::Missing, &missing),
                Kind::of(Wrong::Repeated, &repeated),
                Kind::of(Wrong::Reordered, &reordered),
                Kind::of(Wrong::Changed, &changed),
                Kind::of(Wrong::Unexpected, &unexpected),
            ],
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trestle_core::Position;

    use super::*;

    const COUNT: u64 = 1_000;

    fn numbered(number: u64) -> Numbered {
        let run = "1700000000000-0123abcd".parse().unwrap();
        Numbered { run, number, count: COUNT, keys: 10, size: 20, time: 1_700_000_000_000 + number as i64 }
    }

    /// Of the kinds in their order, after the messages came in this order.
    fn wrong(messages: impl IntoIterator<Item = Message>, letters: &[Message]) -> [u64; 5] {
        let mut arrivals = Arrivals::new(numbered(0).run, 5);
        for (message, ordinal) in messages.into_iter().zip(0..) {
            arrivals.see(PartitionId(0), ordinal, &message);
        }
        letters.iter().for_each(|letter| arrivals.bury(letter));
        let json = arrivals.report(String::new(), Vec::new()).json(&[]);
        ["missing", "repeated", "reordered", "changed", "unexpected"].map(|kind| json[kind]["count"].as_u64().unwrap())
    }

    fn all() -> Vec<Message> {
        (0..COUNT).map(|number| numbered(number).message()).collect()
    }

    fn spoiled(spoil: impl FnOnce(&mut Vec<Message>)) -> [u64; 5] {
        let mut messages = all();
        spoil(&mut messages);
        wrong(messages, &[])
    }

    #[test]
    fn every_kind_of_damage_is_told_from_the_others() {
        assert_eq!(spoiled(|_| {}), [0; 5]);
        assert_eq!(spoiled(|all| drop(all.remove(500))), [1, 0, 0, 0, 0]);
        assert_eq!(spoiled(|all| all.insert(900, all[500].clone())), [0, 1, 0, 0, 0]);
        assert_eq!(spoiled(|all| all.swap(500, 510)), [0, 0, 1, 0, 0], "one key");
        assert_eq!(spoiled(|all| all.swap(500, 501)), [0; 5], "two keys");
        assert_eq!(spoiled(|all| all[500].value = Some(Bytes::from_static(b"01234567890123456789"))), [0, 0, 0, 1, 0]);
        assert_eq!(spoiled(|all| all[500].value = None), [0, 0, 0, 1, 0]);
        assert_eq!(spoiled(|all| all[500].time = Some(5)), [0, 0, 0, 1, 0]);
        assert_eq!(
            spoiled(|all| all.push(Numbered { count: COUNT + 1, ..numbered(COUNT) }.message())),
            [0, 0, 0, 0, 1]
        );
    }

    #[test]
    fn what_is_of_no_run_or_another_is_left_aside() {
        let other = Numbered { run: Run::new(5), ..numbered(3) }.message();
        let plain = Message::at(Position::Offset(0));
        assert_eq!(spoiled(|all| all.extend([other, plain])), [0; 5]);
    }

    #[test]
    fn what_a_header_claims_is_not_believed() {
        let huge = Numbered { count: u64::MAX, ..numbered(3) }.message();
        let mut size = numbered(4).message();
        size.headers = Numbered { size: usize::MAX, ..numbered(4) }.claim();
        assert_eq!(wrong([huge, size].into_iter().chain(all()), &[]), [0, 1, 0, 1, 0], "4 came twice");
    }

    #[test]
    fn a_dead_letter_accounts_for_its_message() {
        let report = trestle_dlq::Report {
            route: "route".into(),
            hop: "deliver".into(),
            origin: "kafka".into(),
            target: "rocketmq".into(),
            source: "main/orders/0/1".into(),
            cause: trestle_core::Cause::TooLarge,
            error: "too large".into(),
            attempts: 1,
            first_failed: std::time::SystemTime::now(),
            last_failed: std::time::SystemTime::now(),
            replays: 0,
        };
        let letter = trestle_dlq::dead_letter(&numbered(7).message(), &report);
        let delivered = || all().into_iter().enumerate().filter(|(number, _)| *number != 7).map(|(_, message)| message);
        assert_eq!(wrong(delivered(), std::slice::from_ref(&letter)), [0; 5]);
        assert_eq!(wrong(delivered(), &[numbered(7).message()]), [1, 0, 0, 0, 0], "it is no dead letter");
        let changed = Message { value: None, ..letter };
        assert_eq!(wrong(delivered(), &[changed]), [1, 0, 0, 0, 0]);
    }
}
