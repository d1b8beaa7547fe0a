//! What Pulsar's errors come to. Pure.

use std::{fmt::Display, time::Duration};

use pulsar::message::proto::ServerError;
use trestle_core::{Cause, Fault, FaultKind, Scope, Why};

use crate::connection::RequestError;

/// The broker does not say for how long it has too many requests.
const TOO_MANY_REQUESTS_DELAY: Duration = Duration::from_secs(1);

/// A request, or the connection it was made on, failed while doing `what`.
pub(crate) fn fault(what: impl Display, error: &RequestError) -> Fault {
    let detail = format!("{what}: {error}");
    match error {
        RequestError::Refused { error, .. } => refused(*error, detail),
        // Whoever waits for a send knows better; for a request a silent broker is one that is not there.
        RequestError::Timeout { .. } | RequestError::Lost { .. } => Fault::down(detail),
    }
}

/// The broker answered `error`; an unknown one may pass.
pub(crate) fn refused(error: ServerError, mut detail: String) -> Fault {
    let (kind, hint) = match error {
        ServerError::AuthenticationError => {
            (FaultKind::Unavailable(Why::Authentication), "check the cluster's `token` or `token_file`")
        }
        ServerError::AuthorizationError => (
            FaultKind::Unavailable(Why::Permission),
            "grant the token's role what it lacks (`pulsar-admin namespaces grant-permission`)",
        ),
        ServerError::TopicNotFound | ServerError::InvalidTopicName => {
            (FaultKind::Unavailable(Why::UnknownTopic), "create the topic, or correct its name")
        }
        ServerError::TopicTerminatedError => (
            FaultKind::Unavailable(Why::UnknownTopic),
            "it was terminated and takes no message ever again: create another topic",
        ),
        ServerError::IncompatibleSchema => (
            FaultKind::Unavailable(Why::Permission),
            "the topic admits no producer without its schema: see `set-schema-validation-enforce` and the schema \
             compatibility strategy of the namespace",
        ),
        ServerError::ProducerFenced => (FaultKind::Fenced, ""),
        ServerError::TooManyRequests => (FaultKind::Throttled(TOO_MANY_REQUESTS_DELAY), ""),
        ServerError::NotAllowedError => (FaultKind::Rejected(Cause::Refused), ""),
        ServerError::ProducerBlockedQuotaExceededError | ServerError::ProducerBlockedQuotaExceededException => (
            FaultKind::Unavailable(Why::Down),
            "the backlog quota is used up: let the subscriptions drain, or raise the quota",
        ),
        _ => (FaultKind::Unavailable(Why::Down), ""),
    };
    if !hint.is_empty() {
        detail = format!("{detail}; {hint}");
    }
    Fault::new(kind, Scope::Partition, detail)
}

/// The broker answered a send with `error`. `said` is its own text.
///
/// Only what it surely did not store is `Ok`; for all else a copy may be on disk.
pub(crate) fn send_refused(error: ServerError, said: &str, detail: String, messages: usize) -> Result<Fault, Fault> {
    let scope = if messages > 1 { Scope::Batch } else { Scope::Message };
    match error {
        // `PersistentTopic.publishMessage`: judged before anything is written.
        ServerError::NotAllowedError if said.to_ascii_lowercase().contains("size") => {
            let hint = "the topic's or namespace's maximum message size is lower than the broker's";
            Ok(Fault::new(FaultKind::Rejected(Cause::TooLarge), scope, format!("{detail}; {hint}")))
        }
        ServerError::NotAllowedError => Ok(Fault::new(FaultKind::Rejected(Cause::Refused), scope, detail)),
        // Spoiled on the way: it is sent again.
        ServerError::ChecksumError => Ok(Fault::down(detail)),
        ServerError::TopicTerminatedError | ServerError::ProducerFenced => Ok(refused(error, detail)),
        _ => Err(refused(error, detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: ServerError) -> FaultKind {
        refused(error, "x".into()).kind
    }

    #[test]
    fn what_a_person_must_mend_is_told_from_an_outage() {
        use FaultKind::Unavailable;
        assert_eq!(kind(ServerError::AuthenticationError), Unavailable(Why::Authentication));
        assert_eq!(kind(ServerError::AuthorizationError), Unavailable(Why::Permission));
        assert_eq!(kind(ServerError::TopicNotFound), Unavailable(Why::UnknownTopic));
        for outage in [
            ServerError::UnknownError,
            ServerError::MetadataError,
            ServerError::PersistenceError,
            ServerError::ServiceNotReady,
            ServerError::ProducerBusy,
            ServerError::ProducerBlockedQuotaExceededError,
            ServerError::ProducerBlockedQuotaExceededException,
        ] {
            assert_eq!(kind(outage), Unavailable(Why::Down), "{outage:?}");
        }
    }

    #[test]
    fn a_broker_that_may_have_stored_a_message_is_not_believed_to_have_refused_it() {
        assert!(send_refused(ServerError::PersistenceError, "", String::new(), 1).is_err());
        assert!(send_refused(ServerError::UnknownError, "", String::new(), 1).is_err());
        let fault = send_refused(ServerError::NotAllowedError, "Exceed maximum message size", String::new(), 5);
        let fault = fault.unwrap();
        assert_eq!((fault.kind, fault.scope), (FaultKind::Rejected(Cause::TooLarge), Scope::Batch));
    }
}
