//! Who asked for which change, and what came of it: two lines each, so that one is left where whoever asked goes away.

use std::net::SocketAddr;

use axum::http::{Method, StatusCode};

use super::auth::Caller;
use crate::logging::AUDIT;

/// A request that may change something.
pub struct Change<'a> {
    pub caller: &'a Caller,
    pub peer: Option<SocketAddr>,
    pub method: &'a Method,
    pub path: &'a str,
}

impl Change<'_> {
    /// It was let through.
    pub fn asked(&self) {
        let Change { caller: Caller { name, by, .. }, method, path, .. } = self;
        tracing::info!(target: AUDIT, who = name, by, peer = self.peer(), %method, path, "a change is asked for");
    }

    /// It was answered.
    pub fn answered(&self, status: StatusCode) {
        let (Change { caller: Caller { name, by, .. }, method, path, .. }, status) = (self, status.as_u16());
        tracing::info!(target: AUDIT, who = name, by, peer = self.peer(), %method, path, status, "a change was answered");
    }

    fn peer(&self) -> Option<tracing::field::DisplayValue<SocketAddr>> {
        self.peer.map(tracing::field::display)
    }
}
