//! Looks again and again which topics the patterns of the running table match.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::time::{Duration, Instant, sleep_until};
use trestle_core::Connector;

use crate::{
    config::{Found, Pattern, When},
    discovery::look,
    pipeline::Status,
};

/// Looks in a row that a topic must be missing from before it is taken for gone: its route ends then.
const GONE_AFTER: u32 = 2;
/// After a look that failed the next one comes sooner.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A status has this reason while the topics cannot be listed.
const REASON: &str = "topics";

/// A pattern, and whom to ask.
pub(super) struct Looking {
    pub pattern: Pattern,
    pub connector: Arc<dyn Connector>,
    pub status: Arc<Status>,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Discovery {
    /// By route and pattern.
    found: BTreeMap<(String, String), BTreeMap<String, Topic>>,
    due: BTreeMap<String, Instant>,
}

struct Topic {
    when: When,
    /// Looks in a row from which it was missing.
    missing: u32,
}

impl Discovery {
    /// What to make a table of.
    pub fn found(&self) -> Found {
        let when =
            |topics: &BTreeMap<String, Topic>| topics.iter().map(|(name, topic)| (name.clone(), topic.when)).collect();
        self.found.iter().map(|((route, _), topics)| (route.clone(), when(topics))).collect()
    }

    /// After another table was taken over: every pattern is looked for at once, and what gone ones had found is forgotten.
    pub fn again(&mut self, patterns: &[Looking]) {
        self.due.clear();
        let same = |(route, like): &(String, String), of: &Pattern| (&of.route, &of.like) == (route, like);
        self.found.retain(|known, _| patterns.iter().any(|looking| same(known, &looking.pattern)));
    }

    /// Resolves when other topics match than before. Cancel-safe.
    pub async fn changed(&mut self, patterns: &[Looking]) {
        loop {
            let due = |looking: &&Looking| self.due.get(&looking.pattern.route).copied();
            let Some(looking) = patterns.iter().min_by_key(due) else { return std::future::pending().await };
            if let Some(due) = due(&looking) {
                sleep_until(due).await;
            }
            if self.looked(looking).await {
                return;
            }
        }
    }

    async fn looked(&mut self, Looking { pattern, connector, status }: &Looking) -> bool {
        let looked = look(pattern, &**connector).await;
        let next = if looked.is_ok() { pattern.look_every } else { pattern.look_every.min(AGAIN_AFTER) };
        self.due.insert(pattern.route.clone(), Instant::now() + next);
        match looked {
            Ok(topics) => {
                status.started();
                if status.clear(REASON) {
                    tracing::info!(route = pattern.route, "topics can be listed again");
                }
                self.take(&pattern.route, &pattern.like, topics)
            }
            Err(fault) => {
                status.started();
                if status.set(REASON, format!("which topics `{}` matches is not known: {fault}", pattern.like)) {
                    tracing::warn!(route = pattern.route, error = %fault, "topics cannot be listed; what was found goes on");
                }
                false
            }
        }
    }

    /// True when topics came or went.
    fn take(&mut self, route: &str, like: &str, topics: BTreeSet<String>) -> bool {
        let key = (route.to_owned(), like.to_owned());
        let when = if self.found.contains_key(&key) { When::Later } else { When::First };
        let known = self.found.entry(key).or_default();
        let mut gone = Vec::new();
        known.retain(|name, topic| {
            topic.missing = if topics.contains(name) { 0 } else { topic.missing + 1 };
            let stays = topic.missing < GONE_AFTER;
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        let new: Vec<String> = topics.into_iter().filter(|topic| !known.contains_key(topic)).collect();
        known.extend(new.iter().map(|topic| (topic.clone(), Topic { when, missing: 0 })));
        let changed = !new.is_empty() || !gone.is_empty();
        if changed {
            tracing::info!(route, new = new.join(", "), gone = gone.join(", "), "other topics match");
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_topic_is_gone_when_it_is_missing_twice_in_a_row() {
        let mut discovery = Discovery::default();
        assert!(discovery.take("r", ".*", topics(&["a", "b"])));
        assert!(!discovery.take("r", ".*", topics(&["a", "b"])));
        assert!(!discovery.take("r", ".*", topics(&["a"])), "it may have been overlooked");
        assert!(!discovery.take("r", ".*", topics(&["a", "b"])));
        assert!(!discovery.take("r", ".*", topics(&["a"])), "missing once again");
        assert!(discovery.take("r", ".*", topics(&["a"])));
        let found = |discovery: &Discovery| discovery.found()["r"].clone().into_iter().collect::<Vec<_>>();
        assert_eq!(found(&discovery), [("a".to_owned(), When::First)]);
        assert!(discovery.take("r", ".*", topics(&["a", "b"])), "it may come again");
        assert_eq!(found(&discovery)[1], ("b".to_owned(), When::Later), "and is a new one then");
    }
}
