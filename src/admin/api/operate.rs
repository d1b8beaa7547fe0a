//! Changes to what runs: a route pauses and resumes, the table is read again, other things are logged.

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::oneshot,
    time::{Duration, timeout},
};

use super::{body, json, sight::Named};
use crate::{
    admin::{Admin, auth::Caller, problem::Problem},
    logging::AUDIT,
    supervisor::{Order, Refused},
};

/// How long the supervisor may take to carry an order out. It reads files at most.
const ORDER_LIMIT: Duration = Duration::from_secs(10);

/// `POST /api/v1/routes/{route}/pause`
pub async fn pause(State(admin): State<Admin>, route: Named) -> Result<Response, Problem> {
    let Path(route) = route.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    admin.api.table_with(&route)?;
    let name = route.clone();
    let changed = order(&admin, |answer| Order::Pause { route: name, answer }).await?;
    Ok(json(&json!({ "route": route, "state": "paused", "changed": changed })))
}

/// `POST /api/v1/routes/{route}/resume`
pub async fn resume(State(admin): State<Admin>, route: Named) -> Result<Response, Problem> {
    let Path(route) = route.map_err(|rejection| Problem::wrong(rejection.body_text()))?;
    admin.api.table_with(&route)?;
    let name = route.clone();
    let changed = order(&admin, |answer| Order::Resume { route: name, answer }).await?;
    Ok(json(&json!({ "route": route, "state": "running", "changed": changed })))
}

/// `POST /api/v1/reload`
pub async fn reload(State(admin): State<Admin>) -> Result<Response, Problem> {
    let applied = order(&admin, |answer| Order::Reload { answer }).await?;
    let difference = applied.difference;
    Ok(json(&json!({
        "generation": applied.generation,
        "added": difference.added,
        "changed": difference.changed,
        "removed": difference.removed,
        "unchanged": difference.unchanged,
        "needs_restart": applied.needs_restart,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    filter: String,
}

/// `GET /api/v1/log-level`
pub async fn log_level(State(admin): State<Admin>) -> Response {
    json(&json!({ "filter": admin.filter.text() }))
}

/// `PUT /api/v1/log-level`
pub async fn set_log_level(
    State(admin): State<Admin>,
    Extension(who): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Wanted { filter } = body::read(&headers, body)?;
    let was = admin.filter.set(&filter).map_err(|problem| Problem::wrong(format!("`filter`: {problem}")))?;
    tracing::info!(target: AUDIT, who = who.name, by = who.by, filter, was, "another filter holds for the log");
    Ok(json(&json!({ "filter": filter, "was": was })))
}

async fn order<T>(
    admin: &Admin,
    order: impl FnOnce(oneshot::Sender<Result<T, Refused>>) -> Order,
) -> Result<T, Problem> {
    let (answer, answered) = oneshot::channel();
    let carried_out = async {
        admin.api.desk.orders.send(order(answer)).await.map_err(|_| Problem::stopping())?;
        answered.await.map_err(|_| Problem::stopping())
    };
    let answer = timeout(ORDER_LIMIT, carried_out).await.map_err(|_| {
        let detail = format!("it is not carried out after {ORDER_LIMIT:?}, and may be yet: look at /api/v1/status");
        Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
    })??;
    answer.map_err(|refused| match refused {
        // It was there a moment ago.
        Refused::NoRoute => Problem::new(StatusCode::NOT_FOUND, "the table that runs has no such route any more"),
        Refused::Table(mistakes) => {
            let detail = format!("the table is wrong, and what runs stays as it is: {}", mistakes.join("; "));
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
        Refused::Failed(why) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why),
    })
}
