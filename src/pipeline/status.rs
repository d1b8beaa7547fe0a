//! What keeps a hop from flowing, in words: the reasons that readiness and the log give.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// One hop's state, shared by what runs it and what reports it.
pub struct Status {
    pub route: String,
    pub hop: &'static str,
    reasons: Mutex<BTreeMap<String, Reason>>,
}

/// Why it does not flow, and since when, in whatever words.
#[derive(Clone, Debug)]
pub struct Reason {
    pub why: String,
    pub since: SystemTime,
}

/// What a hop says before it has started.
const STARTING: &str = "start";

impl Status {
    pub fn new(route: &str, hop: &'static str) -> Self {
        let status = Status { route: route.to_owned(), hop, reasons: Mutex::default() };
        status.set(STARTING, "starting");
        status
    }

    pub fn started(&self) {
        self.clear(STARTING);
    }

    pub fn not_started(&self, reason: impl Into<String>) -> bool {
        self.set(STARTING, reason)
    }

    /// Gives a reason under a name; true when it was not given in these words before.
    pub fn set(&self, name: impl Into<String>, reason: impl Into<String>) -> bool {
        let (name, why) = (name.into(), reason.into());
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reasons.get(&name);
        let new = known.is_none_or(|known| known.why != why);
        let since = known.map_or_else(SystemTime::now, |known| known.since);
        reasons.insert(name, Reason { why, since });
        new
    }

    /// Takes a reason back; true when there was one.
    pub fn clear(&self, name: &str) -> bool {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// Why the hop does not flow, each by its name; empty when it is ready.
    pub fn reasons(&self) -> Vec<(String, String)> {
        self.waits().into_iter().map(|(name, reason)| (name, reason.why)).collect()
    }

    /// The same, with since when.
    pub fn waits(&self) -> Vec<(String, Reason)> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.iter().map(|(name, reason)| (name.clone(), reason.clone())).collect()
    }
}
