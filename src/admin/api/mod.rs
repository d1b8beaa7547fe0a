//! The HTTP API: what it serves, for how long dead letters may be read, and what is told when it does not work.

mod body;
mod changes;
mod letters;
mod operate;
mod planned;
mod sight;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{DefaultBodyLimit, Request},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    time::{Duration, Instant, sleep_until},
};

use super::{Page, problem::Problem};
use crate::{
    config::{Route, Table},
    supervisor::Desk,
};

/// Of a table to be planned.
pub const MOST_TABLE: usize = 8 << 20;
/// It reads, although it is asked by POST.
pub const PLAN: &str = "/api/v1/plan";
/// How long a request may read letters.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// How long a request may replay or purge letters; it goes on when it is sent again.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);
/// How long a cluster may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that read letters at the same time. Each holds some of a topic's messages.
const MOST_AT_ONCE: usize = 4;

/// What the requests share.
pub struct Api {
    table: watch::Receiver<Arc<Table>>,
    stopping: watch::Receiver<bool>,
    /// The supervisor's.
    pub desk: Desk,
    at_once: Semaphore,
    /// Topics of letters that are being replayed or purged.
    busy: Arc<Mutex<BTreeSet<String>>>,
}

/// The only one that changes letters of a topic, for as long as it lives.
struct Alone {
    busy: Arc<Mutex<BTreeSet<String>>>,
    topic: String,
}

impl Api {
    /// Of the table that runs at any time. Once `stopping` turns true, whatever is asked ends.
    pub fn new(table: watch::Receiver<Arc<Table>>, stopping: watch::Receiver<bool>, desk: Desk) -> Self {
        Api { table, stopping, desk, at_once: Semaphore::new(MOST_AT_ONCE), busy: Arc::default() }
    }

    /// The table that runs.
    pub fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    /// The table that runs, which has this route.
    fn table_with(&self, route: &str) -> Result<(Arc<Table>, Arc<Route>), Problem> {
        let table = self.table();
        match table.routes.get(route).cloned() {
            Some(route) => Ok((table, route)),
            None => {
                let detail = format!(
                    "the table that runs has no route `{route}`; `trestle dlq --topic` reads letters of one that is gone"
                );
                Err(Problem::new(StatusCode::NOT_FOUND, detail))
            }
        }
    }

    fn alone(&self, route: &Route) -> Result<Alone, Problem> {
        let topic = route.dead_letter.to_string();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(topic.clone()) {
            let detail =
                format!("letters in {topic} are being replayed or purged already: ask again when that is done");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Ok(Alone { busy: self.busy.clone(), topic })
    }

    /// Resolves when this long is over, or the process is to stop.
    fn over(&self, limit: Duration) -> impl Future<Output = ()> + Send + 'static {
        let (end, mut stopping) = (Instant::now() + limit, self.stopping.clone());
        async move {
            tokio::select! {
                () = sleep_until(end) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// An answer about letters, if it comes in time and not too many others are read.
    async fn read<T>(&self, answer: impl Future<Output = Result<T, String>>) -> Result<T, Problem> {
        let Ok(_one_of_few) = self.at_once.try_acquire() else {
            let detail = format!("{MOST_AT_ONCE} requests read letters already: ask again when one is done");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        };
        tokio::select! {
            answer = answer => answer.map_err(Problem::cluster),
            () = self.over(READ_LIMIT) => {
                Err(if *self.stopping.borrow() { Problem::stopping() } else { Problem::too_slow(READ_LIMIT) })
            }
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.topic);
    }
}

/// The pages of the API.
pub fn pages() -> Vec<Page> {
    let page = |path, methods, handler| Page { path, methods, handler };
    let document = || async { json_text(include_str!("../openapi.json").to_owned()) };
    vec![
        page("/api/v1/openapi.json", &["get"], get(document)),
        page("/api/v1/status", &["get"], get(sight::status)),
        page("/api/v1/clusters", &["get"], get(sight::clusters)),
        page("/api/v1/routes", &["get"], get(sight::routes)),
        page("/api/v1/routes/{route}", &["get"], get(sight::route)),
        page("/api/v1/routes/{route}/partitions", &["get"], get(sight::partitions)),
        page("/api/v1/routes/{route}/pause", &["post"], post(operate::pause)),
        page("/api/v1/routes/{route}/resume", &["post"], post(operate::resume)),
        page("/api/v1/reload", &["post"], post(operate::reload)),
        page(PLAN, &["post"], post(planned::plan)),
        page("/api/v1/log-level", &["get", "put"], get(operate::log_level).put(operate::set_log_level)),
        page("/api/v1/routes/{route}/dead-letters", &["get"], get(letters::list)),
        page("/api/v1/routes/{route}/dead-letters/stats", &["get"], get(letters::stats)),
        page("/api/v1/routes/{route}/dead-letters/replay", &["post"], post(changes::replay)),
        page("/api/v1/routes/{route}/dead-letters/purge", &["post"], post(changes::purge)),
        page("/api/v1/routes/{route}/dead-letters/{id}", &["get"], get(letters::show)),
    ]
    .into_iter()
    // The guard has read the body, as far as it may go.
    .map(|page| Page { handler: page.handler.layer(DefaultBodyLimit::disable()), ..page })
    .collect()
}

/// What is asked under `/api/` and not there.
pub async fn nothing_here(request: Request) -> Response {
    if !request.uri().path().starts_with("/api/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let detail = format!("there is no {}; /api/v1/openapi.json says what there is", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, detail).into_response()
}

fn json(value: &Value) -> Response {
    json_text(value.to_string())
}

fn json_text(text: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
