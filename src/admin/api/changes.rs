//! Letters of a route, replayed and purged. Without `confirm`, what would be done.

use std::{net::SocketAddr, ops::RangeInclusive};

use axum::{
    body::Bytes,
    extract::{
        ConnectInfo, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CHANGE_LIMIT, body, json, letters::pick};
use crate::{
    admin::{Admin, problem::Problem},
    letters::{Counts, Filter, GivenUp, Plan, Replay, give_up},
};

/// Letters a second of a replay.
const RATE: RangeInclusive<u64> = 1..=10_000;
const MOST_REPLAYS: RangeInclusive<u32> = 1..=100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToReplay {
    #[serde(default)]
    selection: Filter,
    #[serde(default)]
    confirm: bool,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(default = "rate")]
    rate: u64,
    #[serde(default = "most_replays")]
    most_replays: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToPurge {
    #[serde(default)]
    selection: Filter,
    #[serde(default)]
    confirm: bool,
    #[serde(default)]
    dry_run: Option<bool>,
}

const fn rate() -> u64 {
    100
}

const fn most_replays() -> u32 {
    3
}

type Route = Result<Path<String>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;

/// `POST .../dead-letters/replay`
pub async fn replay(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    route: Route,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path(route) = route.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    let (table, route) = admin.api.table_with(&route)?;
    let asked: ToReplay = body::read(&headers, body)?;
    within("rate", asked.rate, RATE)?;
    within("most_replays", asked.most_replays, MOST_REPLAYS)?;
    let filter = Filter { route: Some(route.name.clone()), ..asked.selection };
    let (rate, most_replays) = (asked.rate, asked.most_replays);
    if !is_meant(asked.confirm, asked.dry_run)? {
        let replay = Replay { pick: pick(&table, &route, &filter), to: None, rate, most_replays };
        let plan = admin.api.read(replay.plan()).await?;
        return Ok(json(&json!({ "dry_run": true, "letters": plan.values().sum::<u64>(), "would": would(&plan) })));
    }
    let alone = admin.api.alone(&route)?;
    let over = admin.api.over(CHANGE_LIMIT);
    tracing::warn!(route = route.name, %peer, ?filter, rate, most_replays, "dead letters are being replayed over HTTP");
    // To its end, even when whoever asked has gone.
    let name = route.name.clone();
    let done = tokio::spawn(async move {
        let _alone = alone;
        let replay = Replay { pick: pick(&table, &route, &filter), to: None, rate, most_replays };
        replay.run(over, |_| {}).await
    });
    let counts = audited("replayed", &name, peer, done.await)?;
    let Counts { delivered, known, returned, quarantined, without_target, stopped } = counts;
    tracing::warn!(route = name, %peer, delivered, known, returned, quarantined, without_target, stopped, "dead letters were replayed over HTTP");
    let mut answer = json!(counts);
    answer["dry_run"] = false.into();
    Ok(json(&answer))
}

/// `POST .../dead-letters/purge`
pub async fn purge(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    route: Route,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Path(route) = route.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    let (table, route) = admin.api.table_with(&route)?;
    let asked: ToPurge = body::read(&headers, body)?;
    let filter = Filter { route: Some(route.name.clone()), ..asked.selection };
    if !is_meant(asked.confirm, asked.dry_run)? {
        let pick = pick(&table, &route, &filter);
        let counted = admin.api.read(give_up(&pick, false, || false)).await?;
        return Ok(json(&json!({ "dry_run": true, "letters": counted.letters })));
    }
    let alone = admin.api.alone(&route)?;
    let over = admin.api.over(CHANGE_LIMIT);
    tracing::warn!(route = route.name, %peer, ?filter, "dead letters are being purged over HTTP");
    let name = route.name.clone();
    let done = tokio::spawn(async move {
        let _alone = alone;
        // It ends between two letters, not in the middle of noting what was given up.
        let over = tokio::spawn(over);
        let given_up = give_up(&pick(&table, &route, &filter), true, || over.is_finished()).await;
        over.abort();
        given_up
    });
    let GivenUp { letters, stopped } = audited("purged", &name, peer, done.await)?;
    tracing::warn!(route = name, %peer, letters, stopped, "dead letters were purged over HTTP");
    Ok(json(&json!({ "dry_run": false, "letters": letters, "stopped": stopped })))
}

/// What failed may have been done to some letters: that is told as well.
fn audited<T>(
    what: &'static str,
    route: &str,
    peer: SocketAddr,
    done: Result<Result<T, String>, tokio::task::JoinError>,
) -> Result<T, Problem> {
    done.map_err(|error| error.to_string()).and_then(|done| done).map_err(|error| {
        tracing::error!(route, %peer, error, "not all dead letters were {what} over HTTP");
        Problem::cluster(format!("perhaps not all letters were {what}: {error}"))
    })
}

/// Nothing is done that was not confirmed, nor what contradicts itself.
fn is_meant(confirm: bool, dry_run: Option<bool>) -> Result<bool, Problem> {
    match (confirm, dry_run) {
        (true, Some(true)) => Err(Problem::wrong("`confirm` and `dry_run` are both true: say which one is meant")),
        (false, Some(false)) => Err(Problem::wrong("`dry_run` is false: `confirm: true` is needed to do it")),
        (confirm, _) => Ok(confirm),
    }
}

fn within<T: PartialOrd + std::fmt::Display>(name: &str, value: T, range: RangeInclusive<T>) -> Result<(), Problem> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Problem::wrong(format!("`{name}` is {value}: give a number from {} to {}", range.start(), range.end())))
}

fn would(plan: &Plan) -> Vec<Value> {
    let group = |((_, cause, to), count): (&(String, String, Option<String>), &u64)| json!({ "cause": cause, "to": to, "count": count });
    plan.iter().map(group).collect()
}
