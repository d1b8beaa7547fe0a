//! What a comparison found.

use serde_json::{Value, json};

use super::{
    record::Place,
    report::{Finding, Kind, Listed, Wrong},
};

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Where {
    pub place: Place,
    pub time: Option<i64>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    pub from: Place,
    pub to: Place,
    pub time: Option<i64>,
    pub what: Vec<&'static str>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved {
    pub to: Place,
    pub from: Place,
    /// Of the message that it follows now.
    pub behind: Place,
}

impl Finding for Where {
    fn text(&self) -> String {
        self.place.text(self.time)
    }

    fn json(&self) -> Value {
        self.place.json(self.time)
    }
}

impl Finding for Changed {
    fn text(&self) -> String {
        let Changed { from, to, time, what } = self;
        format!("{} changed: {}; now {}", what.join(" and "), from.text(*time), to.text(None))
    }

    fn json(&self) -> Value {
        json!({ "from": self.from.json(self.time), "to": self.to.json(None), "what": self.what })
    }
}

impl Finding for Moved {
    fn text(&self) -> String {
        format!("{}: it was at {} and follows {} now", self.to.text(None), self.from.position, self.behind.position)
    }

    fn json(&self) -> Value {
        json!({ "to": self.to.json(None), "from": self.from.json(None), "follows": self.behind.json(None) })
    }
}

pub struct Findings {
    pub from_messages: u64,
    pub to_messages: u64,
    pub letters: u64,
    /// In both topics.
    pub matched: u64,
    /// Not in the second topic, and among the dead letters.
    pub dead_lettered: u64,
    /// Read, and not judged, because their times are outside the window.
    pub outside: u64,
    /// In the second topic alone, or more often, and not judged: without a time, or too new.
    pub undated: u64,
    /// Copies that nobody can tell apart.
    pub order_unknown: u64,
    pub missing: Listed<Where>,
    /// Of `missing`, as far as it was looked: behind everything of their partition that arrived.
    pub at_the_end: u64,
    pub repeated: Listed<Where>,
    pub reordered: Listed<Moved>,
    pub changed: Listed<Changed>,
    pub unexpected: Listed<Where>,
    /// Before changed messages were told apart.
    pub(super) missing_in_all: u64,
    pub(super) others: u64,
}

impl Findings {
    pub fn new(shown: usize) -> Self {
        Findings {
            from_messages: 0,
            to_messages: 0,
            letters: 0,
            matched: 0,
            dead_lettered: 0,
            outside: 0,
            undated: 0,
            order_unknown: 0,
            missing: Listed::new(shown),
            at_the_end: 0,
            repeated: Listed::new(shown),
            reordered: Listed::new(shown),
            changed: Listed::new(shown),
            unexpected: Listed::new(shown),
            missing_in_all: 0,
            others: 0,
        }
    }

    /// One line a kind, each with its first places.
    pub fn kinds(&self) -> Vec<Kind> {
        vec![
            Kind::of(Wrong::Missing, &self.missing),
            Kind::of(Wrong::Repeated, &self.repeated),
            Kind::of(Wrong::Reordered, &self.reordered),
            Kind::of(Wrong::Changed, &self.changed),
            Kind::of(Wrong::Unexpected, &self.unexpected),
        ]
    }
}
