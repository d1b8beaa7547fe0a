//! What runs: the instance, its routes, their partitions, the clusters. Nothing here asks a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use serde_json::{Value, json};

use super::json;
use crate::{
    admin::{
        Admin,
        metrics::{Readings, readings},
        problem::Problem,
    },
    config::{Hop, Route, Table},
    pipeline::Reason,
};

/// What a hop has counted and what it shows, as the API calls it, and as the metrics do.
const READINGS: [(&str, &str); 8] = [
    ("received", "trestle_messages_received_total"),
    ("delivered", "trestle_messages_delivered_total"),
    ("dead_lettered", "trestle_messages_dead_lettered_total"),
    ("filtered", "trestle_messages_filtered_total"),
    ("retries", "trestle_retries_total"),
    ("in_flight_messages", "trestle_in_flight_messages"),
    ("in_flight_bytes", "trestle_in_flight_bytes"),
    ("lag_seconds", "trestle_lag_seconds"),
];
const LAG: &str = "trestle_lag_messages";
const GATE: &str = "trestle_gate_closed";

/// All there is to be said at one moment.
struct Sight {
    table: std::sync::Arc<Table>,
    readings: Readings,
    /// By route and hop.
    waits: BTreeMap<(String, &'static str), Vec<(String, Reason)>>,
    paused: BTreeSet<String>,
}

impl Sight {
    fn of(admin: &Admin) -> Self {
        let waits = admin.statuses().iter().map(|s| ((s.route.clone(), s.hop), s.waits())).collect();
        let paused = admin.api.desk.news.borrow().paused.clone();
        Sight { table: admin.api.table(), readings: readings(&admin.metrics.render()), waits, paused }
    }

    fn state(&self, route: &Route) -> &'static str {
        let waits = |hop: &Hop| self.waits_of(route, hop).next().is_some();
        match () {
            () if self.paused.contains(&route.name) => "paused",
            () if route.hops.iter().any(waits) => "waiting",
            () => "running",
        }
    }

    fn waits_of(&self, route: &Route, hop: &Hop) -> impl Iterator<Item = &(String, Reason)> {
        self.waits.get(&(route.name.clone(), hop.name)).into_iter().flatten()
    }

    fn route(&self, route: &Route) -> Value {
        json!({
            "name": route.name,
            "state": self.state(route),
            "dead_letter": route.dead_letter.to_string(),
            "hops": route.hops.iter().map(|hop| self.hop(route, hop)).collect::<Vec<_>>(),
        })
    }

    fn hop(&self, route: &Route, hop: &Hop) -> Value {
        let mut told = json!({
            "name": hop.name,
            "from": hop.from.to_string(),
            "to": hop.to.to_string(),
            "group": hop.group,
            "waits": self.waits_of(route, hop).map(wait).collect::<Vec<_>>(),
        });
        let number = |name| self.readings.of(&route.name, hop.name, name).map(Value::from);
        let all = READINGS.into_iter().chain([("lag_messages", LAG)]);
        told.as_object_mut().into_iter().for_each(|told| {
            told.extend(all.clone().map(|(name, metric)| (name.to_owned(), number(metric).unwrap_or_default())));
        });
        told
    }

    fn partitions(&self, route: &Route, hop: &Hop) -> Vec<Value> {
        let of = |metric| self.readings.partitions(&route.name, hop.name, metric);
        let (lags, gates) = (of(LAG), of(GATE));
        let known: BTreeSet<u32> = lags.keys().chain(gates.keys()).copied().collect();
        let waits: BTreeMap<&str, &Reason> =
            self.waits_of(route, hop).map(|(what, why)| (what.as_str(), why)).collect();
        let partition = |number: u32| {
            json!({
                "hop": hop.name,
                "partition": number,
                "lag_messages": lags.get(&number),
                "gate_closed": gates.get(&number).is_some_and(|closed| *closed > 0.0),
                "wait": waits.get(format!("partition {number}").as_str()).map(|reason| json!({
                    "why": reason.why,
                    "since": date(reason.since),
                })),
            })
        };
        known.into_iter().map(partition).collect()
    }
}

fn wait((what, reason): &(String, Reason)) -> Value {
    json!({ "what": what, "why": reason.why, "since": date(reason.since) })
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// `GET /api/v1/status`
pub async fn status(State(admin): State<Admin>) -> Response {
    let (sight, desk) = (Sight::of(&admin), &admin.api.desk);
    let mut states = BTreeMap::from([("running", 0), ("waiting", 0), ("paused", 0)]);
    for route in sight.table.routes.values() {
        *states.entry(sight.state(route)).or_default() += 1;
    }
    let news = desk.news.borrow().clone();
    json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": desk.beat.uptime().as_secs(),
        "generation": news.generation,
        "refused_table": news.refused.map(|(at, why)| json!({ "at": date(at), "why": why })),
        "routes": states,
    }))
}

/// `GET /api/v1/routes`
pub async fn routes(State(admin): State<Admin>) -> Response {
    let sight = Sight::of(&admin);
    json(&json!({ "routes": sight.table.routes.values().map(|route| sight.route(route)).collect::<Vec<_>>() }))
}

pub type Named = Result<Path<String>, PathRejection>;

/// `GET /api/v1/routes/{route}`
pub async fn route(State(admin): State<Admin>, route: Named) -> Result<Response, Problem> {
    let Path(route) = route.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    let (_, route) = admin.api.table_with(&route)?;
    Ok(json(&Sight::of(&admin).route(&route)))
}

/// `GET /api/v1/routes/{route}/partitions`. As many as there are of the route's topics.
pub async fn partitions(State(admin): State<Admin>, route: Named) -> Result<Response, Problem> {
    let Path(route) = route.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    let (_, route) = admin.api.table_with(&route)?;
    let sight = Sight::of(&admin);
    let partitions: Vec<Value> = route.hops.iter().flat_map(|hop| sight.partitions(&route, hop)).collect();
    Ok(json(&json!({ "partitions": partitions })))
}

/// `GET /api/v1/clusters`
pub async fn clusters(State(admin): State<Admin>) -> Response {
    let table = admin.api.table();
    let mut clusters: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for route in table.routes.values() {
        let ends = route.hops.iter().flat_map(|hop| [&hop.from, &hop.to]).chain([&route.dead_letter]);
        for cluster in ends.map(|end| &end.cluster) {
            clusters.entry(&cluster.name).or_insert((cluster.protocol, BTreeSet::new())).1.insert(&route.name);
        }
    }
    let told =
        clusters.into_iter().map(|(name, (kind, routes))| json!({ "name": name, "type": kind, "routes": routes }));
    json(&json!({ "clusters": told.collect::<Vec<_>>() }))
}
