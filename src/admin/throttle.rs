//! How much of a peer is looked at: requests a second, and the time and size of what comes with each.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{StatusCode, header::RETRY_AFTER},
};
use tokio::time::{Duration, timeout};

use super::{
    api::{MOST_TABLE, PLAN},
    auth::{WINDOW, wait},
    problem::Problem,
};
use crate::config::AdminLimits;

/// A health answer, whatever is stuck; with finding the host and connecting it is to end within 3 s.
pub const HEALTH_LIMIT: Duration = Duration::from_millis(2_500);

/// A peer has asked for as much as it may within a second.
pub fn too_often(requests: u32) -> Problem {
    wait(format!(
        "this peer asked {requests} times within {WINDOW:?}, which is `admin.limits.requests`: wait that long"
    ))
}

/// All places are taken.
pub fn crowded(connections: usize) -> Problem {
    let detail = format!(
        "{connections} connections are open already, which is `admin.limits.connections`: only health is told on further ones"
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, "1")
}

pub fn too_slow(limits: &AdminLimits) -> Problem {
    let detail =
        format!("there was no answer within {:?}, which is `admin.limits.request_timeout`", limits.request_timeout);
    Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
}

/// The request with all of its body, if that is not too large and comes in time.
pub async fn with_body(request: Request, limits: &AdminLimits) -> Result<Request, Problem> {
    let most = if request.uri().path() == PLAN { MOST_TABLE.max(limits.body) } else { limits.body };
    let (parts, body) = request.into_parts();
    let too_large = || {
        let detail = format!("the body is larger than {most} bytes, which is `admin.limits.body`");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let read = timeout(limits.head_timeout, to_bytes(body, most)).await.map_err(|_| {
        let detail =
            format!("the body was not sent within {:?}, which is `admin.limits.head_timeout`", limits.head_timeout);
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    })?;
    // A body that breaks off has nobody who would read an answer.
    Ok(Request::from_parts(parts, Body::from(read.map_err(|_| too_large())?)))
}
