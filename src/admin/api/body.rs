//! What comes with a request.

use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::letters::known_value;
use crate::admin::problem::Problem;

/// JSON alone: a page of another site cannot send that type unasked.
pub fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let is_json =
        |kind: &str| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
    if !headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(is_json) {
        let detail = "give the body as JSON, with `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let value: Value =
        serde_json::from_slice(&body).map_err(|error| Problem::wrong(format!("the body is no JSON: {error}")))?;
    // A list would be taken for the fields in their order.
    for (name, object) in [("the body", Some(&value)), ("`selection`", value.get("selection"))] {
        if object.is_some_and(|object| !object.is_object()) {
            return Err(Problem::wrong(format!("{name} is no JSON object")));
        }
    }
    known_value(value).map_err(|why| Problem::wrong(format!("in the body: {why}")))
}
