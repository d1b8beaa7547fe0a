//! An admin client, and what librdkafka says of its connections: why nobody answers stands only there.

use std::{sync::Arc, time::Duration};

use rdkafka::{ClientConfig, admin::AdminClient, client::DefaultClientContext, types::RDKafkaErrorCode as Code};
use trestle_core::{Fault, FaultKind, Scope, Why};

use crate::{
    classify::{self, CREDENTIALS},
    native::{Kind, Queue},
    topic::blocking,
};

pub(crate) type Admin = AdminClient<DefaultClientContext>;

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
fn said(queue: &Queue) -> Option<(Code, String)> {
    let mut said = None;
    while let Some(event) = queue.poll(Duration::ZERO) {
        let code = event.error().filter(|_| event.kind() == Kind::Error);
        // That all are down is what comes of it, and comes last.
        if let Some(code) = code.filter(|code| *code != Code::AllBrokersDown)
            && !said.as_ref().is_some_and(|(code, _)| is_not_let_in(*code))
        {
            said = Some((code, event.text()));
        }
    }
    said
}

fn is_not_let_in(code: Code) -> bool {
    classify::why(code) == Why::Authentication
}

fn with(said: Option<(Code, String)>, mut fault: Fault) -> Fault {
    let Some((code, said)) = said else { return fault };
    fault.detail = format!("{}: {said}", fault.detail);
    if is_not_let_in(code) {
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
        let explained = |code, line: &str| with(Some((code, line.to_owned())), Fault::down("describing t on main"));
        let fault = explained(Code::Authentication, "h:1/bootstrap: SASL authentication error: invalid credentials");
        assert_eq!(fault.kind, FaultKind::Unavailable(Why::Authentication));
        assert!(
            fault.detail.contains("invalid credentials") && fault.detail.contains("Check the credentials"),
            "{fault}"
        );
        assert_eq!(
            explained(Code::BrokerTransportFailure, "Connection refused").kind,
            FaultKind::Unavailable(Why::Down)
        );
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
