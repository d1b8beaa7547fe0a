//! What is wrong with a request, as RFC 9457 says it.

use std::time::Duration;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An answer that says no, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub detail: String,
    /// What the status asks for beside it.
    pub header: Option<(HeaderName, String)>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Problem { status, detail: detail.into(), header: None }
    }

    /// The same with a header.
    pub fn with(self, name: HeaderName, value: impl Into<String>) -> Self {
        Problem { header: Some((name, value.into())), ..self }
    }

    /// The request itself is wrong.
    pub fn wrong(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A cluster does not do what it was asked for.
    pub fn cluster(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_GATEWAY, detail)
    }

    pub fn too_slow(limit: Duration) -> Self {
        let detail = format!(
            "the letters could not be read within {limit:?}; a narrower selection does not help, the commands of `trestle dlq` have no such limit"
        );
        Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
    }

    pub fn stopping() -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this instance is stopping; ask again when it runs")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response =
            (self.status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::try_from(value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
