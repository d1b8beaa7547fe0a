//! Which letters a command is about.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use tokio::time::{Instant, sleep};
use trestle_dlq::{Letter, Pending};

use crate::{
    clusters,
    commands::{
        asking::{Failure, is_passing, open},
        reading::{End, endpoint},
    },
    config::{Endpoint, Table, Time},
};

/// Between two attempts to note what was handled.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct Selection {
    /// The route table, YAML or JSON
    pub file: PathBuf,
    /// Letters of this route
    #[arg(long)]
    pub route: Option<String>,
    /// Letters in this topic, CLUSTER/TOPIC, instead of those where the table's routes keep theirs
    #[arg(long)]
    pub topic: Option<String>,
    /// Letters with this id
    #[arg(long)]
    pub id: Option<String>,
    /// Letters of this cause: too_large, timeout, illegal_property, untranslatable or refused
    #[arg(long)]
    pub cause: Option<String>,
    /// Letters of this hop: stage or deliver
    #[arg(long)]
    pub hop: Option<String>,
    /// Letters of messages that came from this protocol
    #[arg(long)]
    pub origin: Option<String>,
    /// Letters of messages that this protocol did not take
    #[arg(long)]
    pub target: Option<String>,
    /// Letters of messages with this key
    #[arg(long)]
    pub key: Option<String>,
    /// Letters that failed last at this time or later: 2026-01-31T12:00:00Z, or how long ago, as in 2h
    #[arg(long, value_parser = moment)]
    pub since: Option<i64>,
    /// Letters that failed last before this time
    #[arg(long, value_parser = moment)]
    pub until: Option<i64>,
    /// How long a cluster may say nothing
    #[arg(long, value_parser = Time::parse, default_value = "30s")]
    pub patience: Time,
}

/// Milliseconds since 1970-01-01T00:00Z.
fn moment(text: &str) -> Result<i64, String> {
    let at = match humantime::parse_rfc3339_weak(text) {
        Ok(at) => at,
        Err(_) => {
            let ago = humantime::parse_duration(text)
                .map_err(|_| "give a time like 2026-01-31T12:00:00Z, or how long ago, like 2h".to_owned())?;
            SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH)
        }
    };
    Ok(at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}

impl Selection {
    pub fn takes(&self, letter: &Letter) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let key = letter.message.key.as_deref();
        same(&self.route, &letter.route)
            && same(&self.id, &letter.id)
            && same(&self.cause, &letter.cause)
            && same(&self.hop, &letter.hop)
            && same(&self.origin, &letter.origin)
            && same(&self.target, &letter.target)
            && self.key.as_ref().is_none_or(|wanted| Some(wanted.as_bytes()) == key)
            && self.since.is_none_or(|since| letter.last_failed.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| letter.last_failed.is_some_and(|at| at < until))
    }

    /// Where to look.
    pub fn topics(&self, table: &Table) -> Result<Vec<Endpoint>, Failure> {
        if let Some(topic) = &self.topic {
            return Ok(vec![endpoint(table, topic, End::From).map_err(Failure::Wrong)?]);
        }
        let mut topics: Vec<Endpoint> = Vec::new();
        for route in table.routes.values().filter(|route| self.route.as_ref().is_none_or(|name| *name == route.name)) {
            let there = |at: &Endpoint| {
                at.cluster.name == route.dead_letter.cluster.name && at.topic == route.dead_letter.topic
            };
            if !topics.iter().any(there) {
                topics.push(route.dead_letter.clone());
            }
        }
        match (&self.route, topics.is_empty()) {
            (Some(route), true) => {
                let routes = table.routes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                Err(Failure::Wrong(format!(
                    "the table has no route `{route}`, only {routes}; of a route that is gone, name the --topic as well"
                )))
            }
            _ => Ok(topics),
        }
    }

    /// Opens a topic of letters; `None` when there is none yet.
    pub async fn open(&self, topic: &Endpoint, largest_message: usize) -> Result<Option<Letters>, String> {
        let connector = clusters::connect(&topic.cluster).map_err(|error| error.problem)?;
        let attempt = async || Pending::open(connector.clone(), &topic.topic, largest_message).await;
        let pending = open(topic, self.patience.0, attempt).await?;
        Ok(pending.map(|pending| Letters { pending, name: topic.to_string(), patience: self.patience.0 }))
    }
}

/// The letters of one topic, with patience.
pub struct Letters {
    pending: Pending,
    name: String,
    patience: Duration,
}

impl Letters {
    pub async fn next(&mut self) -> Result<Option<Letter>, String> {
        let end = Instant::now() + self.patience;
        loop {
            match tokio::time::timeout_at(end, self.pending.next()).await {
                Ok(Ok(letter)) => return Ok(letter),
                // The reader mends itself; what a person has to mend is an error.
                Ok(Err(fault)) if is_passing(&fault) => {}
                Ok(Err(fault)) => return Err(format!("{}: {fault}", self.name)),
                Err(_) => return Err(format!("{}: nothing could be read for {:?}", self.name, self.patience)),
            }
        }
    }

    pub fn leave(&mut self, letter: &Letter) {
        self.pending.leave(letter);
    }

    /// Tries for as long as patience lasts: what was done to the letters would be done again.
    pub async fn handled(&mut self, letters: &[Letter]) -> Result<(), String> {
        let end = Instant::now() + self.patience;
        loop {
            match self.pending.handled(letters).await {
                Ok(()) => return Ok(()),
                Err(fault) if is_passing(&fault) && Instant::now() < end => sleep(PAUSE).await,
                Err(fault) => return Err(format!("{}: {fault}", self.name)),
            }
        }
    }

    pub fn foreign(&self) -> u64 {
        self.pending.foreign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_how_long_ago() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let ago = now - moment("2h").unwrap();
        assert!((7_199_000..7_260_000).contains(&ago), "{ago}");
        assert!(moment("yesterday").unwrap_err().contains("like 2h"));
    }
}
