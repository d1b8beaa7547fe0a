//! One bridge: the hops of a route, set up again whenever one ends, as the supervisor does.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, timeout},
};
use trestle_core::{Connector, ReadFrom, ReaderSpec, SinkSpec, SourceSpec, Start};
use trestle_dlq::DeadLetters;
use trestle_memory::Cluster;

use super::run::{DEAD, LARGEST, Leg, RETRIES};
use crate::{
    pipeline::{Budget, Ended, Hop, HopSpec, MaxAhead, Sabotage, Status, unread},
    policy::{dead_letter_limit::NackWindow, gate::GatePolicy, order::SetAside, retry::Retry},
};

/// Longer than anything that ends by itself.
const HUNG_AFTER: Duration = Duration::from_secs(60);
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Several share the groups.
pub(super) struct Bridge {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Bridge {
    pub fn start(cluster: &Cluster, legs: &[Leg], budget: Arc<Budget>, sabotage: Sabotage) -> Self {
        let (stop, stopped) = watch::channel(false);
        let hops = legs.iter().map(|leg| {
            let (cluster, leg, budget, stopped) = (cluster.clone(), leg.clone(), budget.clone(), stopped.clone());
            async move {
                // A hop that fails is made anew, as the supervisor does.
                while !*stopped.borrow() {
                    let hop = hop(&cluster, &leg, budget.clone(), sabotage).await;
                    match hop.run(stopped.clone()).await {
                        Ok(Ended::Drained) => break,
                        Ok(Ended::MustGrow) => cluster.create(leg.to, leg.inputs),
                        Err(_) => {}
                    }
                }
            }
        });
        // One task, so that all of it dies at once.
        let hops = futures::future::join_all(hops);
        let task = tokio::spawn(async move { _ = hops.await });
        Bridge { task, stop }
    }

    /// The process dies between two instructions.
    pub fn crash(self) {
        self.task.abort();
    }

    /// Whether it has drained within `limit`.
    pub async fn drain(self, limit: Duration) -> bool {
        self.stop.send_replace(true);
        timeout(limit, self.task).await.is_ok()
    }
}

async fn hop(cluster: &Cluster, leg: &Leg, budget: Arc<Budget>, sabotage: Sabotage) -> Hop {
    let source = cluster.source(SourceSpec {
        topic: leg.from.into(),
        group: leg.group.into(),
        start: Start::Earliest,
        route: "route".into(),
        buffer_bytes: 1 << 20,
        largest_message: LARGEST,
        commit_interval: Duration::from_millis(200),
        options: Default::default(),
    });
    let sink = |topic: &str, fenced| {
        cluster.sink(SinkSpec {
            topic: topic.into(),
            route: "route".into(),
            hop: leg.hop,
            fenced,
            split_large: false,
            send_timeout: SEND_TIMEOUT,
            guarantee: Default::default(),
            options: Default::default(),
        })
    };
    let (initial, max) = (Duration::from_millis(50), Duration::from_secs(2));
    let spec = HopSpec {
        route: "route".into(),
        hop: leg.hop,
        origin: "memory",
        target: "memory",
        source_name: format!("memory/{}", leg.from),
        edits: Default::default(),
        placement: leg.placement,
        fenced: leg.fenced,
        retry: Retry { initial, max, retries: RETRIES, ..Retry::default() },
        gate: GatePolicy { initial, max, probe: SEND_TIMEOUT, ..GatePolicy::default() },
        set_aside: SetAside { order: leg.order, most: leg.set_aside },
        rates: leg.rates.clone(),
        nack_window: NackWindow::new(None),
        revoke_timeout: Duration::from_secs(2),
        grace: watch::channel(Duration::from_secs(5)).1,
        max_ahead: MaxAhead { messages: 200, bytes: 1 << 20 },
        go_on_after_gap: true,
        hung_after: HUNG_AFTER,
        unread: unread(Arc::new(cluster.clone()), reader(leg.from)),
    };
    let source = source.await.unwrap();
    let (out, dead) = (sink(leg.to, leg.fenced).await.unwrap(), sink(DEAD, false).await.unwrap());
    let (dead_letters, status) = (Arc::new(DeadLetters::new(dead)), Arc::new(Status::new("route", leg.hop)));
    Hop::new(spec, source, out, dead_letters, budget, status, sabotage)
}

fn reader(topic: &str) -> ReaderSpec {
    ReaderSpec {
        topic: topic.into(),
        from: ReadFrom::Earliest,
        follow: false,
        buffer_bytes: 1 << 20,
        largest_message: LARGEST,
        options: Default::default(),
    }
}
