//! What a table would change of the one that runs. Nothing is told of what that says.

use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{body, json};
use crate::{
    admin::{Admin, problem::Problem},
    plan::Plan,
};

/// A table as `trestle plan` sends it: every setting under its name, without secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    routes: Map<String, Value>,
    #[serde(default)]
    clusters: Map<String, Value>,
    #[serde(default)]
    settings: Map<String, Value>,
}

/// `POST /api/v1/plan`
pub async fn plan(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Wanted { routes, clusters, settings } = body::read(&headers, body)?;
    let wanted = json!({ "routes": routes, "clusters": clusters, "settings": settings });
    let plan = Plan::between(&admin.api.table().written.shown(), &wanted);
    Ok(json(&json!(plan)))
}
