//! One route that runs: its hops, from when whoever is in their way has gone until they have drained.

use std::sync::Arc;

use futures::future::join_all;
use tokio::{sync::watch, task::JoinSet};

use super::setup::Setup;
use crate::{config::Route, pipeline::Status};

pub(super) struct Run {
    pub route: Arc<Route>,
    /// One a hop.
    pub statuses: Vec<Arc<Status>>,
    /// What its sources may buffer together.
    pub buffers: usize,
    stop: watch::Sender<bool>,
    ending: Ending,
}

/// Tells when a run is over, to any number of waiters.
#[derive(Clone)]
pub(super) struct Ending(watch::Receiver<()>);

impl Run {
    /// Starts one hop a setup, as soon as those who come before have ended.
    pub fn start(route: Arc<Route>, setups: Vec<Setup>, before: Vec<Ending>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (alive, ending) = watch::channel(());
        let statuses: Vec<_> = setups.iter().map(|setup| setup.status.clone()).collect();
        let buffers = setups.iter().map(|setup| setup.buffer_bytes).sum();
        if !before.is_empty() {
            for status in &statuses {
                status.not_started("waits until what ran before it has drained");
            }
        }
        tokio::spawn(carry(setups, before, stopping, alive));
        Run { route, statuses, buffers, stop, ending: Ending(ending) }
    }

    /// Tells its hops to drain. One that has not started never does.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub fn ending(&self) -> Ending {
        self.ending.clone()
    }
}

impl Ending {
    pub async fn wait(mut self) {
        // Nothing is ever sent: the run drops the other end.
        while self.0.changed().await.is_ok() {}
    }

    pub fn is_over(&self) -> bool {
        self.0.has_changed().is_err()
    }
}

async fn carry(setups: Vec<Setup>, before: Vec<Ending>, stopping: watch::Receiver<bool>, _alive: watch::Sender<()>) {
    // One that is told to stop meanwhile waits all the same, so that whoever waits for it waits for them as well.
    join_all(before.into_iter().map(Ending::wait)).await;
    let mut hops = JoinSet::new();
    for setup in setups {
        hops.spawn(setup.supervise(stopping.clone()));
    }
    while let Some(ended) = hops.join_next().await {
        if let Err(error) = ended {
            // `supervise` catches what its hop does; this is a mistake in the supervisor itself.
            tracing::error!(%error, "a supervisor ended unexpectedly");
        }
    }
}
