//! How often somebody may ask, and how often in vain.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use axum::http::{StatusCode, header::RETRY_AFTER};
use tokio::time::{Duration, Instant};

use crate::admin::problem::Problem;

/// Requests of one peer that are refused in a [`WINDOW`]; after that nothing more of it is looked at until the next one.
pub const MOST_REFUSED: u32 = 10;
pub const WINDOW: Duration = Duration::from_secs(1);
/// Peers that are told apart in a window. Further ones share one count.
const MOST_PEERS: usize = 1_024;

/// Counts by peer.
#[derive(Default)]
pub struct Attempts(Mutex<Option<Window>>);

struct Window {
    since: Instant,
    counted: HashMap<IpAddr, u32>,
}

impl Attempts {
    /// Whether a request of this peer is looked at.
    pub fn may_try(&self, peer: IpAddr) -> Result<(), Problem> {
        if self.with(|window| window.counted.get(&window.key(peer)).is_none_or(|refused| *refused < MOST_REFUSED)) {
            return Ok(());
        }
        Err(wait(format!("{MOST_REFUSED} requests of this peer were refused within {WINDOW:?}: wait that long")))
    }

    /// Counts a request of this peer that was refused, or whatever else is counted; gives how many that makes in this window.
    pub fn count(&self, peer: IpAddr) -> u32 {
        self.with(|window| {
            let key = window.key(peer);
            let counted = window.counted.entry(key).or_default();
            *counted = counted.saturating_add(1);
            *counted
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Window) -> T) -> T {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let current = window.take().filter(|window| now < window.since + WINDOW);
        act(window.insert(current.unwrap_or_else(|| Window { since: now, counted: HashMap::new() })))
    }
}

/// The answer to whoever did something too often.
pub fn wait(detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with(RETRY_AFTER, WINDOW.as_secs().max(1).to_string())
}

impl Window {
    /// What the peer is counted by: who has one IPv6 address has the other 2^64 of its network as well.
    fn key(&self, peer: IpAddr) -> IpAddr {
        let key = match peer.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        };
        let known = self.counted.contains_key(&key) || self.counted.len() < MOST_PEERS;
        if known { key } else { Ipv6Addr::UNSPECIFIED.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_in_vain_too_often_waits_and_others_do_not() {
        let attempts = Attempts::default();
        let (peer, other): (IpAddr, IpAddr) = ("10.0.0.7".parse().unwrap(), "10.0.0.8".parse().unwrap());
        for _ in 0..MOST_REFUSED {
            assert_eq!(attempts.may_try(peer), Ok(()));
            attempts.count(peer);
        }
        let problem = attempts.may_try(peer).unwrap_err();
        assert_eq!(problem.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(problem.header, Some((RETRY_AFTER, "1".to_owned())));
        assert!(attempts.may_try("::ffff:10.0.0.7".parse().unwrap()).is_err(), "the same peer");
        assert_eq!(attempts.may_try(other), Ok(()));
        tokio::time::advance(WINDOW).await;
        assert_eq!(attempts.may_try(peer), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_help_nobody() {
        let attempts = Attempts::default();
        for low in 0..MOST_REFUSED {
            attempts.count(format!("2001:db8::{low:x}").parse().unwrap());
        }
        assert!(attempts.may_try("2001:db8::ffff".parse().unwrap()).is_err(), "one network is one peer");
        for peer in 0..MOST_PEERS as u32 + MOST_REFUSED {
            attempts.count(std::net::Ipv4Addr::from_bits(0x0a00_0000 + peer).into());
        }
        assert!(attempts.may_try("10.9.9.9".parse().unwrap()).is_err(), "too many peers to tell apart");
        let held = attempts.with(|window| window.counted.len());
        assert!(held <= MOST_PEERS + 1, "{held}");
    }
}
