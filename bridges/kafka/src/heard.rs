//! An admin client, and what librdkafka says in its log of its connections: why nobody answers stands only there.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::{
    ClientConfig, ClientContext,
    admin::AdminClient,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
};
use trestle_core::{Fault, FaultKind, Scope, Why};

use crate::{
    classify::{self, CREDENTIALS},
    topic::blocking,
};

pub(crate) type Admin = AdminClient<Heard>;

/// rdkafka_sasl.c, rdkafka_ssl.c: what a broker is told to have said, or what the client has against it.
const NOT_LET_IN: [&str; 3] = ["SASL authentication error", "SASL handshake failed", "SSL handshake failed"];

/// The last trouble that the client had with a connection.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Option<String>>>);

impl ClientContext for Heard {
    fn log(&self, level: RDKafkaLogLevel, _: &str, message: &str) {
        if level as i32 <= RDKafkaLogLevel::Error as i32 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
        }
    }
}

impl Heard {
    /// The fault with its reason, where the client says only that nobody answered.
    pub(crate) fn explain(&self, mut fault: Fault) -> Fault {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(heard) = heard.filter(|_| fault.kind == FaultKind::Unavailable(Why::Down)) else { return fault };
        fault.detail = format!("{}: {heard}", fault.detail);
        if NOT_LET_IN.iter().any(|said| heard.contains(said)) {
            fault.kind = FaultKind::Unavailable(Why::Authentication);
            fault.detail.push_str(CREDENTIALS);
        }
        fault
    }
}

/// Making a client may block.
pub(crate) async fn open(config: ClientConfig, doing: &str) -> Result<(Arc<Admin>, Heard), Fault> {
    let heard = Heard::default();
    let hearing = heard.clone();
    let admin = blocking(doing, move || Admin::from_config_and_context(&config, hearing)).await?;
    let admin = admin.map_err(|error| classify::client_fault(&error, Scope::Cluster, doing))?;
    Ok((Arc::new(admin), heard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_is_not_told_that_nobody_is_there() {
        let heard = Heard::default();
        let explained = |line: &str, fault: Fault| {
            heard.log(RDKafkaLogLevel::Error, "FAIL", line);
            heard.explain(fault)
        };
        let down = || Fault::down("describing t on main: BrokerTransportFailure");
        let fault = explained("sasl_plaintext://h:1/bootstrap: SASL authentication error: invalid credentials", down());
        assert_eq!(fault.kind, FaultKind::Unavailable(Why::Authentication));
        assert!(
            fault.detail.contains("invalid credentials") && fault.detail.contains("Check the credentials"),
            "{fault}"
        );
        let fault = explained("h:1/bootstrap: Connect to ipv4#1.2.3.4:1 failed: Connection refused", down());
        assert_eq!(fault.kind, FaultKind::Unavailable(Why::Down));
        assert!(fault.detail.ends_with("Connection refused"), "{fault}");
        let unknown = Fault::unavailable(Why::UnknownTopic, "no such topic");
        assert_eq!(explained("x", unknown).detail, "no such topic");
    }
}
