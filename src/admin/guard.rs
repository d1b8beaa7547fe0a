//! Lets through who may ask, before anything is read of what was asked.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::{
    Admin,
    api::PLAN,
    audit::Change,
    auth::{Caller, Unknown},
    origin, page,
    problem::Problem,
    server::Crowded,
    throttle::{self, HEALTH_LIMIT},
};
use crate::config::{Auth, Scope};

/// Everyone's: an orchestrator asks them, and they tell nothing that is anybody's own.
const OPEN: [&str; 2] = ["/livez", "/readyz"];
const METRICS: &str = "/metrics";
pub const API: &str = "/api/";

/// What is asked, and from where.
struct Asked {
    method: Method,
    path: String,
    peer: Option<SocketAddr>,
}

/// Every request passes here.
pub async fn guarded(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if OPEN.contains(&path.as_str()) || page::has(&path) {
        return match timeout(HEALTH_LIMIT, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "there was no answer in time\n").into_response(),
        };
    }
    let limits = admin.limits();
    if request.extensions().get::<Crowded>().is_some() {
        return throttle::crowded(limits.connections).into_response();
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let asked = Asked { method, path, peer };
    let caller = match asked.admit(&admin, request.headers()) {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let change = asked.change(&caller);
    change.iter().for_each(Change::asked);
    request.extensions_mut().insert(caller.clone());
    let answered = async {
        match throttle::with_body(request, &limits).await {
            Ok(request) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    };
    let answer = timeout(limits.request_timeout, answered).await;
    let answer = answer.unwrap_or_else(|_| throttle::too_slow(&limits).into_response());
    if let Some(change) = change {
        change.answered(answer.status());
    }
    if answer.status() == StatusCode::METHOD_NOT_ALLOWED && asked.path.starts_with(API) {
        return asked.wrong_method(&answer);
    }
    answer
}

impl Asked {
    fn changes(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD && self.path != PLAN
    }

    fn change<'a>(&'a self, caller: &'a Caller) -> Option<Change<'a>> {
        let Asked { method, path, peer } = self;
        self.changes().then_some(Change { caller, peer: *peer, method, path })
    }

    /// Whoever asks, if they may.
    fn admit(&self, admin: &Admin, headers: &HeaderMap) -> Result<Caller, Problem> {
        let peer = self.peer.map_or(IpAddr::from(Ipv6Addr::UNSPECIFIED), |peer| peer.ip());
        let most = admin.limits().requests;
        if admin.requests.count(peer) > most {
            return Err(throttle::too_often(most));
        }
        admin.attempts.may_try(peer)?;
        let is_api = self.path.starts_with(API);
        let origin = if is_api { origin::may_ask(headers, admin.listen) } else { Ok(()) };
        origin.and_then(|()| self.caller(admin, headers)).inspect_err(|problem| {
            let (method, path) = (&self.method, self.path.as_str());
            // A browser, or a scraper before it is told how, is no attempt.
            if *problem == Problem::unknown(&Unknown::Missing) {
                tracing::debug!(%method, path, %peer, "a request without a credential was refused");
                return;
            }
            admin.attempts.count(peer);
            tracing::warn!(%method, path, %peer, why = problem.detail, "a request was refused");
        })
    }

    fn caller(&self, admin: &Admin, headers: &HeaderMap) -> Result<Caller, Problem> {
        let table = admin.api.table();
        match &table.auth {
            Auth::None { .. } => self.unauthenticated(),
            Auth::Required(required) if required.open_metrics && self.path == METRICS => Ok(Caller::anyone()),
            Auth::Required(required) => {
                let caller = Caller::of(headers, required).map_err(|unknown| Problem::unknown(&unknown))?;
                let scope = if self.changes() { Scope::Operate } else { Scope::View };
                if caller.scopes.allow(scope) { Ok(caller) } else { Err(Problem::lacks(scope, &caller)) }
            }
        }
    }

    fn unauthenticated(&self) -> Result<Caller, Problem> {
        match self.peer {
            Some(peer) if self.changes() && self.path.starts_with(API) => origin::may_change(peer)?,
            None if self.changes() => {
                return Err(Problem::new(StatusCode::FORBIDDEN, "nobody knows where this request comes from"));
            }
            _ => {}
        }
        Ok(Caller::anyone())
    }

    fn wrong_method(&self, answer: &Response) -> Response {
        let detail = format!("{} does not take {}; /api/v1/openapi.json says what it takes", self.path, self.method);
        let mut problem = Problem::new(answer.status(), detail).into_response();
        if let Some(allow) = answer.headers().get("allow") {
            problem.headers_mut().insert("allow", allow.clone());
        }
        problem
    }
}
