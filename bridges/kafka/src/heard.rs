//! An admin client, and what librdkafka says of its connections: why nobody answers stands only there.

use std::{sync::Arc, time::Duration};

use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext};
use trestle_core::{Fault, FaultKind, Scope, Why};

use crate::{
    classify::{self, CREDENTIALS},
    native::{Kind, Queue},
    topic::blocking,
};

pub(crate) type Admin = AdminClient<DefaultClientContext>;

/// rdkafka_sasl.c, rdkafka_ssl.c: what a broker is told to have said, or what the client has against it.
const NOT_LET_IN: [&str; 3] = ["SASL authentication error", "SASL handshake failed", "SSL handshake failed"];
/// The level of syslog.
const ERROR: i32 = 3;

/// Making a client may block.
pub(crate) async fn open(config: ClientConfig, doing: &str) -> Result<Arc<Admin>, Fault> {
    let admin = blocking(doing, move || config.create::<Admin>()).await?;
    admin.map(Arc::new).map_err(|error| classify::client_fault(&error, Scope::Cluster, doing))
}

/// The fault with its reason, where the client says only that nobody answered.
pub(crate) fn explain(admin: &Admin, fault: Fault) -> Fault {
    // Of any client: the queue that nobody else takes from.
    match Queue::of_producer(admin.inner()) {
        Some(queue) if fault.kind == FaultKind::Unavailable(Why::Down) => with(said(&queue), fault),
        _ => fault,
    }
}

/// The last trouble that the client had with a connection, or that it was not let in.
fn said(queue: &Queue) -> Option<String> {
    let mut said: Option<String> = None;
    while let Some(event) = queue.poll(Duration::ZERO) {
        let line = match event.kind() {
            Kind::Log => event.log().filter(|(level, ..)| *level <= ERROR).map(|(.., line)| line),
            Kind::Error => Some(event.text()),
            _ => None,
        };
        // That all are down is what comes of it, and comes last.
        if let Some(line) = line
            && !line.ends_with("brokers are down")
            && !said.as_deref().is_some_and(is_not_let_in)
        {
            said = Some(line);
        }
    }
    said
}

fn is_not_let_in(line: &str) -> bool {
    NOT_LET_IN.iter().any(|said| line.contains(said))
}

fn with(said: Option<String>, mut fault: Fault) -> Fault {
    let Some(said) = said else { return fault };
    fault.detail = format!("{}: {said}", fault.detail);
    if is_not_let_in(&said) {
        fault.kind = FaultKind::Unavailable(Why::Authentication);
        fault.detail.push_str(CREDENTIALS);
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_is_not_told_that_nobody_is_there() {
        let explained = |line: &str| with(Some(line.to_owned()), Fault::down("describing t on main"));
        let fault = explained("sasl_plaintext://h:1/bootstrap: SASL authentication error: invalid credentials");
        assert_eq!(fault.kind, FaultKind::Unavailable(Why::Authentication));
        assert!(
            fault.detail.contains("invalid credentials") && fault.detail.contains("Check the credentials"),
            "{fault}"
        );
        assert_eq!(explained("Connection refused").kind, FaultKind::Unavailable(Why::Down));
    }

    #[tokio::test]
    async fn what_the_client_says_of_its_connections_is_heard() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &free);
        let admin = open(config, "asking").await.unwrap();
        let client = admin.clone();
        let asked = blocking("asking", move || client.inner().fetch_metadata(None, Duration::from_secs(2)).err()).await;
        assert!(asked.unwrap().is_some());
        let fault = explain(&admin, Fault::down("asking"));
        assert!(fault.detail.contains(&free) && fault.detail.contains("refused"), "{fault}");
        let unknown = Fault::unavailable(Why::UnknownTopic, "no such topic");
        assert_eq!(explain(&admin, unknown).detail, "no such topic");
    }
}
