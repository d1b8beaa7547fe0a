//! Who may ask, by where they are: without authentication, what changes something is for the machine itself; and nothing of
//! the API is for pages that a browser has from elsewhere.

use std::net::SocketAddr;

use axum::http::{HeaderMap, StatusCode, header::ORIGIN};

use super::problem::Problem;
use crate::config::is_loopback;

/// Only who is on this machine changes something.
pub fn may_change(peer: SocketAddr) -> Result<(), Problem> {
    if is_loopback(peer) {
        return Ok(());
    }
    let detail = format!(
        "only a client on this machine may change something, as there is no authentication, and you ask from {}: ask the \
         loopback address there, use `trestle dlq`, or set `admin.auth`",
        peer.ip()
    );
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// A browser says of which page a request is. The `Host` that it sends proves nothing: a page may have any name resolve to
/// this address.
pub fn may_ask(headers: &HeaderMap, listen: SocketAddr) -> Result<(), Problem> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let port = listen.port();
    let own = [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}"), listen.to_string()];
    let is_own = |origin: &[u8]| own.iter().any(|own| origin.strip_prefix(b"http://") == Some(own.as_bytes()));
    match origins.find(|origin| !is_own(origin.as_bytes())) {
        None => Ok(()),
        Some(origin) => {
            let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
            let detail =
                format!("a page of {origin} may not ask; this server's own pages are http://{}", own.join(", http://"));
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_changes_something() {
        for peer in ["127.0.0.1:7", "127.3.2.1:7", "[::1]:7", "[::ffff:127.0.0.1]:7"] {
            assert_eq!(may_change(peer.parse().unwrap()), Ok(()), "{peer}");
        }
        for peer in ["10.0.0.7:7", "[::ffff:10.0.0.7]:7", "[fe80::1]:7", "0.0.0.0:7"] {
            let problem = may_change(peer.parse().unwrap()).unwrap_err();
            assert_eq!(problem.status, StatusCode::FORBIDDEN, "{peer}");
            assert!(problem.detail.contains("no authentication"), "{}", problem.detail);
        }
    }

    #[test]
    fn a_page_from_elsewhere_may_not_ask() {
        let listen = "10.0.0.7:9464".parse().unwrap();
        let asked = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            origin.map(|origin| headers.insert(ORIGIN, origin.parse().unwrap()));
            may_ask(&headers, listen).is_ok()
        };
        assert!(asked(None), "no browser");
        for own in ["http://localhost:9464", "http://127.0.0.1:9464", "http://[::1]:9464", "http://10.0.0.7:9464"] {
            assert!(asked(Some(own)), "{own}");
        }
        for other in ["null", "", "http://localhost", "http://evil.example:9464", "https://localhost:9464"] {
            assert!(!asked(Some(other)), "{other}");
        }
    }
}
