//! Sets one hop up as often as it takes, and runs it until it has drained.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::watch,
    time::{Duration, sleep},
};
use trestle_core::{
    Connector, Durable, Ensure, Fault, FaultKind, ReadFrom, ReaderSpec, SinkSpec, SourceSpec, TopicInfo, Why,
};
use trestle_dlq::DeadLetters;

use crate::{
    clusters,
    config::{Endpoint, OnGap, Route},
    pipeline::{Budget, Ended, Hop, HopSpec, Status, unread},
    policy::{backoff::Backoff, dead_letter_limit::NackWindow, rate::Limiter},
};

/// The subscription that keeps dead letters until somebody has judged them.
const DEAD_LETTER_SUBSCRIPTION: &str = "trestle-dlq";
/// Partitions of a dead-letter topic.
const DEAD_LETTER_PARTITIONS: u32 = 1;
/// Between two attempts to set a hop up.
const SETUP_DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// One hop with all it needs, to be set up as often as it takes.
pub(super) struct Setup {
    pub route: Arc<Route>,
    pub index: usize,
    pub from: Arc<dyn Connector>,
    pub to: Arc<dyn Connector>,
    pub dead_letters: Arc<dyn Connector>,
    pub budget: Arc<Budget>,
    pub buffer_bytes: usize,
    pub largest_message: usize,
    /// Of the table that runs, which may be another one by the time of the drain.
    pub grace: watch::Receiver<Duration>,
    pub status: Arc<Status>,
    /// Of the hop itself, and of the cluster that it writes to. They outlive the hop, as the window does.
    pub rates: Vec<Arc<Limiter>>,
    pub nack_window: Arc<NackWindow>,
    /// Warnings that were given; they are the same at every attempt.
    pub warned: Mutex<BTreeSet<String>>,
}

impl Setup {
    /// Sets the hop up and runs it until it has drained, however often it takes.
    pub async fn supervise(self, mut shutdown: watch::Receiver<bool>) {
        let (route, hop) = (self.route.name.clone(), self.route.hops[self.index].name);
        let mut backoff = Backoff::new(SETUP_DELAYS.0, SETUP_DELAYS.1, self.index as u64);
        while !*shutdown.borrow() {
            let ready = tokio::select! {
                ready = self.set_up() => ready,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            match ready {
                Ok(ready) => {
                    tracing::info!(route, hop, "ready");
                    backoff.reset();
                    match tokio::spawn(ready.run(shutdown.clone())).await {
                        Ok(Ok(Ended::Drained)) => return,
                        Ok(Ok(Ended::MustGrow)) => continue,
                        Ok(Err(failed)) => self.restarting(failed.part, failed.cause, &failed.to_string()),
                        Err(died) => self.restarting("hop", "panicked", &panic_text(died)),
                    }
                }
                Err(fault) => {
                    if self.status.not_started(fault.to_string()) {
                        let why = if let FaultKind::Unavailable(why) = fault.kind { why } else { Why::Down };
                        if self.index > 0 && why == Why::UnknownTopic {
                            tracing::info!(route, hop, "waiting for the hop before it to make the topic between them");
                        } else if why.needs_a_person() {
                            tracing::error!(route, hop, error = %fault, "cannot start until this is mended");
                        } else {
                            tracing::warn!(route, hop, error = %fault, "cannot start yet");
                        }
                    }
                }
            }
            tokio::select! {
                () = sleep(backoff.delay()) => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn restarting(&self, part: &'static str, cause: &'static str, error: &str) {
        let (route, hop) = (self.route.name.clone(), self.route.hops[self.index].name);
        let labels = [("route", route), ("hop", hop.into()), ("part", part.into()), ("cause", cause.into())];
        metrics::counter!("trestle_restarts_total", &labels).increment(1);
        self.status.not_started(format!("restarting after: {error}"));
        tracing::error!(
            route = self.route.name,
            hop = self.route.hops[self.index].name,
            error,
            "ended unexpectedly: starting again"
        );
    }

    /// Makes sure that every topic the hop needs is there and keeps what it is given, then opens both ends.
    async fn set_up(&self) -> Result<Hop, Fault> {
        let hop = &self.route.hops[self.index];
        let next = self.route.hops.get(self.index + 1);
        let staged_before = self.index > 0;
        let read = self.from.describe(&hop.from.topic).await?;
        if staged_before {
            let durable = Some(Durable { subscription: hop.group.clone() });
            self.from.ensure(&hop.from.topic, Ensure { partitions: read.partitions, durable }).await?;
        }
        let target = match next {
            // The next hop's subscription is there before the first message is staged.
            Some(next) => {
                let durable = Some(Durable { subscription: next.group.clone() });
                self.to.ensure(&hop.to.topic, Ensure { partitions: read.partitions, durable }).await?
            }
            None => {
                create_if_missing(&*self.to, &hop.to, Ensure { partitions: read.partitions, durable: None }).await?
            }
        };
        let durable = Some(Durable { subscription: DEAD_LETTER_SUBSCRIPTION.into() });
        let letters = Ensure { partitions: DEAD_LETTER_PARTITIONS, durable };
        let dead = self.dead_letters.ensure(&self.route.dead_letter.topic, letters).await?;
        self.warn(read.losses.iter().chain(&read.unchecked));
        self.warn([&target, &dead].into_iter().flat_map(|written| written.warnings.iter().chain(&written.unchecked)));
        let dead_letters = self.dead_letters.sink(self.sink_spec(&self.route.dead_letter, "dead-letter")).await?;
        let sink = self.to.sink(self.sink_spec(&hop.to, hop.name)).await?;
        let source = self.from.source(self.source_spec()).await?;
        let letters = Arc::new(DeadLetters::new(dead_letters));
        Ok(Hop::new(
            self.hop_spec(),
            source,
            sink,
            letters,
            self.budget.clone(),
            self.status.clone(),
            #[cfg(test)]
            Default::default(),
        ))
    }

    fn warn<'a>(&self, warnings: impl Iterator<Item = &'a String>) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings {
            if warned.insert(warning.clone()) {
                tracing::warn!(route = self.route.name, hop = self.route.hops[self.index].name, "{warning}");
            }
        }
    }

    fn source_spec(&self) -> SourceSpec {
        let hop = &self.route.hops[self.index];
        SourceSpec {
            topic: hop.from.topic.clone(),
            group: hop.group.clone(),
            start: hop.start.clone(),
            route: self.route.name.clone(),
            buffer_bytes: self.buffer_bytes,
            largest_message: self.largest_message,
            commit_interval: hop.policies.commit_interval,
            options: hop.from.options.clone(),
        }
    }

    /// For a look past the source.
    fn reader_spec(&self) -> ReaderSpec {
        let hop = &self.route.hops[self.index];
        let protocol = clusters::protocol(hop.from.cluster.protocol);
        let shared = |name: &str| protocol.is_some_and(|protocol| protocol.reading.contains(&name));
        ReaderSpec {
            topic: hop.from.topic.clone(),
            from: ReadFrom::Earliest,
            follow: false,
            buffer_bytes: super::LEAST_BUFFER,
            largest_message: self.largest_message,
            options: hop
                .from
                .options
                .iter()
                .filter(|(name, _)| shared(name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        }
    }

    fn sink_spec(&self, to: &Endpoint, name: &'static str) -> SinkSpec {
        let dead_letters = name == "dead-letter";
        let fenced = !dead_letters && self.route.hops[self.index].fenced;
        SinkSpec {
            topic: to.topic.clone(),
            route: self.route.name.clone(),
            hop: name,
            fenced,
            split_large: dead_letters,
            send_timeout: self.route.hops[self.index].policies.send_timeout,
            guarantee: to.cluster.guarantee,
            options: if dead_letters || fenced { clusters::taking_all(to) } else { to.options.clone() },
        }
    }

    fn hop_spec(&self) -> HopSpec {
        let hop = &self.route.hops[self.index];
        HopSpec {
            route: self.route.name.clone(),
            hop: hop.name,
            origin: hop.from.cluster.protocol,
            target: hop.to.cluster.protocol,
            source_name: hop.from.to_string(),
            edits: hop.edits.clone(),
            placement: hop.placement,
            fenced: hop.fenced,
            retry: hop.policies.retry.clone(),
            gate: hop.policies.gate.clone(),
            set_aside: hop.policies.set_aside,
            rates: self.rates.clone(),
            nack_window: self.nack_window.clone(),
            revoke_timeout: hop.policies.revoke_timeout,
            grace: self.grace.clone(),
            max_ahead: hop.policies.max_ahead,
            go_on_after_gap: hop.on_gap == OnGap::Earliest,
            hung_after: hop.policies.hung_after,
            unread: unread(self.from.clone(), self.reader_spec()),
        }
    }
}

/// A target that exists is left as it is: more partitions would move its keys.
async fn create_if_missing(connector: &dyn Connector, to: &Endpoint, ensure: Ensure) -> Result<TopicInfo, Fault> {
    match connector.describe(&to.topic).await {
        Err(Fault { kind: FaultKind::Unavailable(Why::UnknownTopic), .. }) => connector.ensure(&to.topic, ensure).await,
        described => described,
    }
}

fn panic_text(died: tokio::task::JoinError) -> String {
    match died.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast::<&'static str>().map_or_else(|_| "a panic".into(), |text| (*text).into()),
        },
        Err(died) => died.to_string(),
    }
}
