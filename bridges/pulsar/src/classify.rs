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

/// What the broker's answer to any request means: one arm for every error of the protocol (`ServerError` in `PulsarApi.proto`), so
/// that a new one does not compile unjudged. A number that is not in the protocol arrives as `UnknownError`.
///
/// What the broker makes an error of is in `BrokerServiceException.getClientErrorCode` and in `ServerCnx` (4.2).
pub(crate) fn refused(error: ServerError, mut detail: String) -> Fault {
    use FaultKind::{Fenced, Throttled, Unavailable};
    let (kind, hint) = match error {
        // ServerCnx.handleConnect, AuthenticationState: the token is wrong, expired, or missing.
        ServerError::AuthenticationError => {
            (Unavailable(Why::Authentication), "check the cluster's `token` or `token_file`")
        }
        // ServerCnx.isTopicOperationAllowed and the proxy's lookups.
        ServerError::AuthorizationError => (
            Unavailable(Why::Permission),
            "grant the token's role what it lacks (`pulsar-admin namespaces grant-permission`)",
        ),
        // TopicNotFoundException, and a partition of a topic that has fewer. ServerCnx.validateTopicName.
        ServerError::TopicNotFound | ServerError::InvalidTopicName => {
            (Unavailable(Why::UnknownTopic), "create the topic, or correct its name")
        }
        // TopicTerminatedException.
        ServerError::TopicTerminatedError => {
            (Unavailable(Why::UnknownTopic), "it was terminated and takes no message ever again: create another topic")
        }
        // IncompatibleSchemaException, InvalidSchemaDataException.
        ServerError::IncompatibleSchema => (
            Unavailable(Why::Permission),
            "the topic admits no producer without its schema: see `set-schema-validation-enforce` and the schema \
             compatibility strategy of the namespace",
        ),
        // NotAllowedException by numbers: connections (ServerCnx.channelActive), a consumer's rate of subscribing
        // (PersistentTopic.internalSubscribe). They come down again.
        ServerError::NotAllowedError if speaks_of_a_limit(&detail) => (Unavailable(Why::Down), ""),
        // NotAllowedException otherwise: the broker's or namespace's policy forbids this kind of producer or subscription. It
        // says nothing against a message: those are judged by `send_refused`.
        ServerError::NotAllowedError => {
            (Unavailable(Why::Permission), "a policy of the broker or of the namespace forbids it")
        }
        // ProducerFencedException: a newer exclusive producer.
        ServerError::ProducerFenced => (Fenced, ""),
        // TooManyRequestsException, and lookups above `maxConcurrentLookupRequest`.
        ServerError::TooManyRequests => (Throttled(TOO_MANY_REQUESTS_DELAY), ""),
        // ServerCnx.handleProducer: the backlog quota's policies `producer_request_hold` and `producer_exception`.
        ServerError::ProducerBlockedQuotaExceededError | ServerError::ProducerBlockedQuotaExceededException => {
            (Unavailable(Why::Down), "the backlog quota is used up: let the subscriptions drain, or raise the quota")
        }
        // The metadata store or a bookie does not do its part; on a send also what `send_refused` tells apart.
        ServerError::MetadataError | ServerError::PersistenceError => (Unavailable(Why::Down), ""),
        // ServiceUnitNotReadyException, TopicFencedException, SubscriptionFencedException: the topic moves.
        ServerError::ServiceNotReady => (Unavailable(Why::Down), ""),
        // ConsumerBusyException, SubscriptionBusyException, NamingException, ProducerBusyException, ConsumerAssignException: another
        // one is there, often this one's own predecessor.
        ServerError::ConsumerBusy | ServerError::ProducerBusy | ServerError::ConsumerAssignError => {
            (Unavailable(Why::Down), "")
        }
        // SubscriptionNotFoundException, ServerCnx.handleRedeliverUnacknowledged: it is subscribed again.
        ServerError::SubscriptionNotFound | ServerError::ConsumerNotFound => (Unavailable(Why::Down), ""),
        // Spoiled on the way.
        ServerError::ChecksumError => (Unavailable(Why::Down), ""),
        // UnsupportedVersionException: a feature that this broker does not know.
        ServerError::UnsupportedVersionError => (Unavailable(Why::Down), ""),
        // Transactions are not asked for.
        ServerError::TransactionCoordinatorNotFound
        | ServerError::InvalidTxnStatus
        | ServerError::TransactionConflict
        | ServerError::TransactionNotFound => (Unavailable(Why::Down), ""),
        // Whatever else went wrong there.
        ServerError::UnknownError => (Unavailable(Why::Down), ""),
    };
    if !hint.is_empty() {
        detail = format!("{detail}; {hint}");
    }
    Fault::new(kind, Scope::Partition, detail)
}

fn speaks_of_a_limit(said: &str) -> bool {
    said.contains("limited by") || said.contains("maximum number of connections")
}

/// The broker answered a send with `error`. `said` is its own text.
///
/// Only what it surely did not store is `Ok`; for all else a copy may be on disk. Answers to sends come from
/// `Producer.checkAndStartPublish`, before anything is written, and from `Producer.MessagePublishContext.completed` (4.2).
pub(crate) fn send_refused(error: ServerError, said: &str, detail: String, messages: usize) -> Result<Fault, Fault> {
    let scope = if messages > 1 { Scope::Batch } else { Scope::Message };
    match error {
        // `PersistentTopic.publishMessage`: judged before anything is written.
        ServerError::NotAllowedError if said.to_ascii_lowercase().contains("size") => {
            let hint = "the topic's or namespace's maximum message size is lower than the broker's";
            Ok(Fault::new(FaultKind::Rejected(Cause::TooLarge), scope, format!("{detail}; {hint}")))
        }
        // `Producer.checkAndStartPublish`: it is the topic that takes no message from anyone but its source.
        ServerError::NotAllowedError if said.contains("shadow topic") => Ok(Fault::unavailable(
            Why::Permission,
            format!("{detail}; a shadow topic is only read: deliver to its source topic"),
        )),
        // A delay above the topic's longest, or a property of this message.
        ServerError::NotAllowedError => Ok(Fault::new(FaultKind::Rejected(Cause::Refused), scope, detail)),
        // `Producer.checkAndStartPublish`: the topic's policy, the same for every message.
        ServerError::MetadataError if said.contains("must be encrypted") => Ok(Fault::unavailable(
            Why::Permission,
            format!(
                "{detail}; the topic or namespace requires encryption (`set-encryption-required`), which is not spoken here"
            ),
        )),
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

    #[test]
    fn every_error_of_the_protocol_has_its_row() {
        use FaultKind::{Fenced, Throttled, Unavailable};
        let down: Vec<_> =
            [0, 1, 2, 5, 6, 7, 8, 9, 10, 12, 13, 16, 19, 20, 21, 23, 24].map(|n| (n, Unavailable(Why::Down))).into();
        let special = [
            (3, Unavailable(Why::Authentication)),
            (4, Unavailable(Why::Permission)),
            (11, Unavailable(Why::UnknownTopic)),
            (14, Throttled(TOO_MANY_REQUESTS_DELAY)),
            (15, Unavailable(Why::UnknownTopic)),
            (17, Unavailable(Why::UnknownTopic)),
            (18, Unavailable(Why::Permission)),
            (22, Unavailable(Why::Permission)),
            (25, Fenced),
        ];
        let mut rows: Vec<(i32, FaultKind)> = down.into_iter().chain(special).collect();
        rows.sort_by_key(|(number, _)| *number);
        let judged: Vec<_> = (0..100)
            .filter_map(|number| ServerError::try_from(number).ok())
            .map(|error| (error as i32, refused(error, "x".into())))
            .inspect(|(number, fault)| assert_eq!(fault.scope, Scope::Partition, "{number}"))
            .map(|(number, fault)| (number, fault.kind))
            .collect();
        assert_eq!(judged, rows);
    }

    #[test]
    fn an_error_nobody_knows_is_an_outage() {
        // As the wire types read a number that they do not know.
        let answer = pulsar::message::proto::CommandError { error: 4711, ..Default::default() };
        assert_eq!(kind(answer.error()), FaultKind::Unavailable(Why::Down));
    }

    #[test]
    fn a_policy_that_forbids_a_producer_rejects_no_message_and_is_said_loudly() {
        let forbidden = |said: &str| refused(ServerError::NotAllowedError, said.into()).kind;
        assert_eq!(
            forbidden("Key_Shared subscription is disabled by broker."),
            FaultKind::Unavailable(Why::Permission)
        );
        for limit in
            ["Subscribe limited by subscribe rate limit per consumer.", "Reached the maximum number of connections"]
        {
            assert_eq!(forbidden(limit), FaultKind::Unavailable(Why::Down), "{limit}");
        }
    }

    #[test]
    fn what_the_topic_takes_from_nobody_dead_letters_nothing() {
        for (error, said) in [
            (ServerError::NotAllowedError, "Cannot send messages to a shadow topic"),
            (ServerError::MetadataError, "Messages must be encrypted"),
        ] {
            let fault = send_refused(error, said, String::new(), 1).unwrap();
            assert_eq!(
                (fault.kind, fault.scope),
                (FaultKind::Unavailable(Why::Permission), Scope::Partition),
                "{said}"
            );
        }
        assert!(
            send_refused(ServerError::MetadataError, "Invalid lowest or highest sequence id", String::new(), 1)
                .is_err()
        );
    }
}
