//! A supervisor on a memory cluster, by tables as people write them.

use std::{fmt::Write, path::Path, sync::Arc};

use tokio::time::{Duration, sleep, timeout};
use trestle_core::{Message, Position};
use trestle_memory::{Cluster, Writer};

use crate::{
    config::{self, Table},
    supervisor::{Applied, Connect, Supervisor},
};

/// Routes in a table of two clusters. In truth both are the same memory cluster.
#[derive(Clone, Default)]
pub struct Text {
    pub routes: String,
    /// Further settings of cluster `b`, each with a comma before it.
    pub b: String,
    /// Further top-level lines.
    pub more: String,
}

pub struct Rig {
    pub cluster: Cluster,
    pub supervisor: Supervisor,
}

impl Text {
    /// From the topic `NAME-in` on cluster `a` to `NAME-out`. `more`: further settings, each with a comma before it.
    pub fn route(self, name: &str, more: &str) -> Self {
        self.to(name, "a", &format!("{name}-out"), more)
    }

    pub fn to(self, name: &str, cluster: &str, topic: &str, more: &str) -> Self {
        self.whole(
            name,
            &format!("from: {{ cluster: a, topic: {name}-in }}, to: {{ cluster: {cluster}, topic: {topic} }}{more}"),
        )
    }

    pub fn whole(mut self, name: &str, settings: &str) -> Self {
        writeln!(self.routes, "  {name}: {{ dead_letter: {{ cluster: a, topic: {name}-dead }}, {settings} }}").unwrap();
        self
    }

    pub fn text(&self) -> String {
        let Text { routes, b, more } = self;
        let routes = if routes.is_empty() { "  {}\n" } else { routes };
        format!(
            "clusters:\n  a: {{ type: kafka, servers: \"127.0.0.1:1\" }}\n  b: {{ type: kafka, servers: \"127.0.0.1:2\"{b} }}\nroutes:\n{routes}{more}\n"
        )
    }

    pub fn table(&self) -> Table {
        let checked = config::check(Path::new("table.yaml"), &self.text(), &|_| None);
        checked.table.unwrap_or_else(|| panic!("{}\n{:#?}", self.text(), checked.mistakes))
    }
}

/// Connects everything to one memory cluster, but a cluster of the name `broken`.
pub fn connect(cluster: &Cluster) -> Connect {
    let cluster = cluster.clone();
    Box::new(move |asked| match asked.name.as_str() {
        "broken" => Err("it is broken".into()),
        _ => Ok(cluster.connector()),
    })
}

impl Rig {
    /// With a source topic of one partition for each route of these names.
    pub fn start(text: &Text, routes: &[&str]) -> Rig {
        let cluster = Cluster::new(7);
        for route in routes {
            cluster.create(&format!("{route}-in"), 1);
        }
        let supervisor = Supervisor::start(&text.table(), connect(&cluster)).unwrap();
        Rig { cluster, supervisor }
    }

    /// Sends take so long, and much waits behind them.
    pub fn slow(&self, latency: Duration) {
        self.cluster.configure(|settings| {
            settings.limits.unit_messages = 10;
            settings.latency = latency..=latency;
        });
    }

    pub fn apply(&mut self, text: &Text) -> Applied {
        self.supervisor.apply(&text.table()).unwrap()
    }

    pub fn produce(&self, topic: &str, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| produce(&self.cluster, topic, number));
    }

    pub fn delivered(&self, topic: &str) -> Vec<u64> {
        delivered(&self.cluster, topic)
    }

    /// The lanes that ever wrote to a topic.
    pub fn lanes(&self, topic: &str) -> Vec<u64> {
        let lane = |by: &Writer| if let Writer::Lane { lane, .. } = by { Some(*lane) } else { None };
        let mut lanes: Vec<u64> = self.cluster.stored(topic, 0).iter().filter_map(|stored| lane(&stored.by)).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    pub async fn until_delivered(&self, topic: &str, count: usize) {
        until(&format!("{count} messages are in {topic}"), || self.delivered(topic).len() >= count).await;
    }

    pub async fn in_twenty_seconds(&self, topic: &str) -> usize {
        let before = self.delivered(topic).len();
        sleep(Duration::from_secs(20)).await;
        self.delivered(topic).len() - before
    }

    /// `route/hop` of every hop that readiness speaks of.
    pub fn hops(&self) -> Vec<String> {
        let statuses = self.supervisor.statuses().borrow().clone();
        statuses.iter().map(|status| format!("{}/{}", status.route, status.hop)).collect()
    }

    pub async fn until_ready(&self) {
        until("every hop flows", || self.is_ready()).await;
    }

    pub async fn has_topic(&self, topic: &str) -> bool {
        self.cluster.connector().describe(topic).await.is_ok()
    }

    pub fn is_ready(&self) -> bool {
        let statuses: Arc<[_]> = self.supervisor.statuses().borrow().clone();
        statuses.iter().all(|status| status.reasons().is_empty())
    }
}

pub fn produce(cluster: &Cluster, topic: &str, number: u64) {
    let message = Message { value: Some(number.to_string().into()), ..Message::at(Position::Offset(0)) };
    cluster.produce(topic, 0, message);
}

pub fn delivered(cluster: &Cluster, topic: &str) -> Vec<u64> {
    let number = |message: &Message| std::str::from_utf8(message.value.as_ref().unwrap()).unwrap().parse().unwrap();
    cluster.stored(topic, 0).iter().map(|stored| number(&stored.message)).collect()
}

/// Waits until a condition holds, for a minute at most.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(Duration::from_secs(60), wait).await.is_ok(), "not within a minute: {what}");
}
