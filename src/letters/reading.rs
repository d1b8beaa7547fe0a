//! The letters of one topic, read with patience.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use trestle_core::BoxFuture;
use trestle_dlq::{Letter, Pending};

use crate::{
    clusters,
    config::Endpoint,
    patience::{PAUSE, is_passing, open},
};

pub struct Letters {
    pending: Pending,
    name: String,
    patience: Duration,
}

impl Letters {
    /// `None` when there is no such topic yet.
    pub async fn open(topic: &Endpoint, largest_message: usize, patience: Duration) -> Result<Option<Self>, String> {
        let connector = clusters::connect(&topic.cluster).map_err(|error| error.problem)?;
        let attempt =
            || -> BoxFuture<'_, _> { Box::pin(Pending::open(connector.clone(), &topic.topic, largest_message)) };
        let pending = open(topic, patience, attempt).await?;
        Ok(pending.map(|pending| Letters { pending, name: topic.to_string(), patience }))
    }

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
