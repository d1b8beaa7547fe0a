//! Error codes to faults. Pure.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};
use trestle_core::{Cause, Fault, FaultKind, Scope, Why};

/// What an error of any request says of the cluster or topic; an unknown one is [`Why::Down`].
pub(crate) fn why(code: Code) -> Why {
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL => Why::Authentication,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => Why::Permission,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::InvalidTopic => {
            Why::UnknownTopic
        }
        _ => Why::Down,
    }
}

/// Errors that only say that no answer came; what the client said of its connections is more to the point.
pub(crate) fn says_nothing(code: Code) -> bool {
    matches!(code, Code::OperationTimedOut | Code::TimedOutQueue | Code::BrokerTransportFailure | Code::AllBrokersDown)
}

/// A fault for an error that is not about single messages. `doing` says what failed, on which topic and cluster.
pub(crate) fn fault(code: Code, scope: Scope, doing: &str, text: &str) -> Fault {
    let why = why(code);
    let advice = match why {
        Why::Authentication => ". Check the credentials and `security.protocol` in the cluster's options",
        Why::Permission => ". Grant the user the right",
        Why::UnknownTopic => ". Create it, or correct its name",
        Why::Down => "",
    };
    let text = if text.is_empty() { code.to_string() } else { text.to_owned() };
    Fault::new(FaultKind::Unavailable(why), scope, format!("{doing}: {text} ({code:?}){advice}"))
}

/// As [`fault`], from an error of the client library.
pub(crate) fn client_fault(error: &KafkaError, scope: Scope, doing: &str) -> Fault {
    match error.rdkafka_error_code() {
        Some(code) => fault(code, scope, doing, ""),
        None => Fault::new(FaultKind::Unavailable(Why::Down), scope, format!("{doing}: {error}")),
    }
}

/// What became of a message that was not confirmed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Another message of its batch is to blame, or the client gave it up unsent.
    NotSent,
    Refused(Fault),
    Unknown(Fault),
}

/// The fate of one produced message. `to_blame` says that a refusal is about this message and not about its whole batch; `known` is the last trouble that the client reported of itself.
pub(crate) fn produced(code: Code, perhaps_stored: bool, to_blame: bool, doing: &str, known: Option<Code>) -> Failure {
    let said = format!("{doing}: {code} ({code:?})");
    let rejected = |cause, scope| Fault::new(FaultKind::Rejected(cause), scope, said.clone());
    let scope = if to_blame { Scope::Message } else { Scope::Batch };
    let fault = match code {
        // The broker named the records to blame (KIP-467), and this is not one of them; or a purge.
        Code::InvalidDifferentRecord | Code::PurgeQueue if !perhaps_stored => return Failure::NotSent,
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => rejected(Cause::TooLarge, scope),
        Code::InvalidTimestamp | Code::InvalidRecord | Code::PolicyViolation => rejected(Cause::Refused, scope),
        Code::NotEnoughReplicasAfterAppend => {
            return Failure::Unknown(Fault::new(FaultKind::Unsure, Scope::Partition, said));
        }
        Code::MessageTimedOut | Code::TimedOutQueue if perhaps_stored => return Failure::Unknown(Fault::timeout(said)),
        // Never left the client: that says nothing against the message.
        Code::MessageTimedOut | Code::TimedOutQueue => match known {
            Some(known) => self::fault(known, Scope::Partition, doing, "not sent in time"),
            None => Fault::down(format!("{said}: no connection to the partition's leader took it")),
        },
        _ => self::fault(code, Scope::Partition, doing, ""),
    };
    if perhaps_stored && !matches!(fault.kind, FaultKind::Rejected(_)) {
        Failure::Unknown(fault)
    } else {
        Failure::Refused(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code, perhaps_stored: bool, to_blame: bool) -> (&'static str, Option<FaultKind>, Option<Scope>) {
        match produced(code, perhaps_stored, to_blame, "writing t/0", None) {
            Failure::NotSent => ("not sent", None, None),
            Failure::Refused(fault) => ("refused", Some(fault.kind), Some(fault.scope)),
            Failure::Unknown(fault) => ("unknown", Some(fault.kind), Some(fault.scope)),
        }
    }

    #[test]
    fn only_what_will_never_be_accepted_is_rejected() {
        let too_large = Some(FaultKind::Rejected(Cause::TooLarge));
        assert_eq!(kind(Code::MessageSizeTooLarge, false, true), ("refused", too_large.clone(), Some(Scope::Message)));
        assert_eq!(kind(Code::MessageSizeTooLarge, false, false), ("refused", too_large, Some(Scope::Batch)));
        let refused = Some(FaultKind::Rejected(Cause::Refused));
        assert_eq!(kind(Code::InvalidTimestamp, false, true), ("refused", refused.clone(), Some(Scope::Message)));
        assert_eq!(kind(Code::InvalidTimestamp, false, false), ("refused", refused, Some(Scope::Batch)));
        assert_eq!(kind(Code::InvalidDifferentRecord, false, false), ("not sent", None, None));
        for code in [Code::NotEnoughReplicas, Code::BrokerTransportFailure, Code::Fatal, Code::KafkaStorageError] {
            let down = Some(FaultKind::Unavailable(Why::Down));
            assert_eq!(kind(code, false, true), ("refused", down, Some(Scope::Partition)), "{code:?}");
        }
    }

    #[test]
    fn what_may_be_stored_is_unknown() {
        assert_eq!(kind(Code::MessageTimedOut, true, true).1, Some(FaultKind::Timeout));
        assert_eq!(kind(Code::MessageTimedOut, true, true).0, "unknown");
        assert_eq!(kind(Code::NotEnoughReplicasAfterAppend, true, true).1, Some(FaultKind::Unsure));
        assert_eq!(kind(Code::PurgeInflight, true, false).0, "unknown");
        assert_eq!(kind(Code::PurgeQueue, true, false).0, "unknown", "a retry that was purged had been sent before");
    }

    #[test]
    fn a_message_that_never_left_spends_no_attempt() {
        assert_eq!(kind(Code::MessageTimedOut, false, true).1, Some(FaultKind::Unavailable(Why::Down)));
        let Failure::Refused(fault) =
            produced(Code::MessageTimedOut, false, true, "writing t/0", Some(Code::Authentication))
        else {
            panic!("not refused")
        };
        assert_eq!(fault.kind, FaultKind::Unavailable(Why::Authentication));
    }

    #[test]
    fn what_needs_a_person_is_told_apart() {
        assert_eq!(why(Code::TopicAuthorizationFailed), Why::Permission);
        assert_eq!(why(Code::SaslAuthenticationFailed), Why::Authentication);
        assert_eq!(why(Code::UnknownTopicOrPartition), Why::UnknownTopic);
        assert_eq!(why(Code::LeaderNotAvailable), Why::Down);
    }
}
