//! What clients may take of the admin server.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    meaning::Checker,
    quantity::{Size, Time},
    shape,
};

const CONNECTIONS: RangeInclusive<u32> = 1..=10_000;
const HEAD: RangeInclusive<Time> = Time::millis(100)..=Time::millis(60_000);
const REQUEST: RangeInclusive<Time> = Time::millis(1_000)..=Time::millis(600_000);
const BODY: RangeInclusive<Size> = Size(1 << 10)..=Size::mib(16);
const REQUESTS: RangeInclusive<u32> = 1..=100_000;

/// `admin.limits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdminLimits {
    pub connections: usize,
    pub head_timeout: Duration,
    pub request_timeout: Duration,
    /// Bytes.
    pub body: usize,
    /// Of one peer in a second.
    pub requests: u32,
}

impl Checker<'_> {
    pub(super) fn limits(&mut self, written: &shape::Limits) -> AdminLimits {
        let shape::Limits { connections, head_timeout, request_timeout, body, requests } = *written;
        let path = |key| ["admin", "limits", key];
        self.within(&path("connections"), connections, CONNECTIONS);
        self.within(&path("head_timeout"), head_timeout, HEAD);
        self.within(&path("request_timeout"), request_timeout, REQUEST);
        self.within(&path("body"), body, BODY);
        self.within(&path("requests"), requests, REQUESTS);
        AdminLimits {
            connections: connections as usize,
            head_timeout: head_timeout.0,
            request_timeout: request_timeout.0,
            body: usize::try_from(body.0).unwrap_or(usize::MAX),
            requests,
        }
    }
}
