//! Error codes to faults. Pure.

use std::time::Duration;

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};
use trestle_core::{Cause, Fault, FaultKind, Scope, Why};

/// The broker does not say here how long its quota is used up; the client was told, and holds its requests back as well.
const QUOTA_DELAY: Duration = Duration::from_secs(1);

/// What a code says, wherever it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    /// The cluster, topic or partition cannot be used now.
    Unavailable(Why),
    /// A quota is used up.
    Throttled,
    /// The record, or its batch, will never be taken.
    Rejected(Cause),
    /// Stored by the leader, and not by as many replicas as the topic asks for.
    NotReplicated,
    /// Nobody answered, or nobody could be asked, in time.
    TimedOut,
    /// It would have been taken, had it not been for another record of its batch.
    Innocent,
    /// The client gave it up because it was told to.
    Purged,
}

/// The table. `None` is a code that nobody has judged, which is [`Why::Down`].
///
/// Those below zero are the client's own (`rd_kafka_resp_err_t` in `rdkafka.h` of librdkafka 2.12), the others the protocol's
/// (`org.apache.kafka.common.protocol.Errors`, <https://kafka.apache.org/protocol#protocol_error_codes>). What a broker answers
/// to `Produce` comes from `LogValidator`, `UnifiedLog` and `ReplicaManager`.
#[rustfmt::skip]
fn meaning(code: Code) -> Option<Meaning> {
    use Meaning::*;
    Some(match code {
        // --- Who we are -------------------------------------------------------------------------------------------------
        // rdkafka.h: wrong credentials as the client sees them, a certificate that is not trusted.
        Code::Authentication | Code::SSL => Unavailable(Why::Authentication),
        // Errors: SASL_AUTHENTICATION_FAILED, UNSUPPORTED_SASL_MECHANISM, ILLEGAL_SASL_STATE; delegation tokens are one way to log in.
        Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState
        | Code::DelegationTokenAuthDisabled | Code::DelegationTokenNotFound | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed | Code::DelegationTokenExpired | Code::UnacceptableCredential
        => Unavailable(Why::Authentication),
        // Errors: *_AUTHORIZATION_FAILED. CLUSTER_ is also what an idempotent producer gets without IDEMPOTENT_WRITE.
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed | Code::DelegationTokenAuthorizationFailed
        => Unavailable(Why::Permission),

        // --- What is not there ------------------------------------------------------------------------------------------
        // rdkafka.h: the client's metadata has no such topic or partition.
        Code::UnknownTopic | Code::UnknownPartition => Unavailable(Why::UnknownTopic),
        // Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION; UNKNOWN_TOPIC_ID (KIP-516) is a topic that was deleted.
        Code::UnknownTopicOrPartition | Code::InvalidTopic | Code::UnknownTopicId => Unavailable(Why::UnknownTopic),

        // --- What will never be taken -----------------------------------------------------------------------------------
        // UnifiedLog.analyzeAndValidateRecords: a record above `max.message.bytes`. The client answers the same by its own limit.
        Code::MessageSizeTooLarge => Rejected(Cause::TooLarge),
        // RECORD_LIST_TOO_LARGE, UnifiedLog.append: a batch above `segment.bytes`. Cut in two it may fit.
        Code::MessageBatchTooLarge => Rejected(Cause::TooLarge),
        // LogValidator.validateTimestamp: further from now than `message.timestamp.before/after.max.ms`.
        Code::InvalidTimestamp => Rejected(Cause::Refused),
        // LogValidator: no key in a compacted topic, and whatever else KIP-467 names record by record.
        Code::InvalidRecord => Rejected(Cause::Refused),
        // A Kafka broker answers it to no Produce; gateways that judge records do.
        Code::PolicyViolation => Rejected(Cause::Refused),

        // --- What became of a record of ours ----------------------------------------------------------------------------
        // Partition.appendRecordsToLeader and DelayedProduce: the in-sync set shrank after the append.
        Code::NotEnoughReplicasAfterAppend => NotReplicated,
        // rdkafka.h: `message.timeout.ms` is over; `rd_kafka_handle_Produce_error` folds _TIMED_OUT_QUEUE into it.
        Code::MessageTimedOut | Code::TimedOutQueue => TimedOut,
        // rdkafka.h, KIP-467: the broker named other records of the batch.
        Code::InvalidDifferentRecord => Innocent,
        // rdkafka.h: `rd_kafka_purge` took it out of the queue.
        Code::PurgeQueue => Purged,

        // --- Wait -------------------------------------------------------------------------------------------------------
        // Errors: THROTTLING_QUOTA_EXCEEDED (KIP-599), on creating topics and partitions.
        Code::ThrottlingQuotaExceeded => Throttled,

        // --- Not now: the brokers ---------------------------------------------------------------------------------------
        // Errors: no leader, another leader, another coordinator, a broker that starts, a disk that is gone, replicas that lag.
        // LEADER_NOT_AVAILABLE and KAFKA_STORAGE_ERROR come from ReplicaManager, before anything is appended. REQUEST_TIMED_OUT is
        // DelayedProduce's: the replicas did not follow in time, which spends no attempt of a message.
        Code::LeaderNotAvailable | Code::NotLeaderForPartition | Code::RequestTimedOut | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable | Code::StaleControllerEpoch | Code::NetworkException | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable | Code::NotCoordinator | Code::NotEnoughReplicas | Code::NotController
        | Code::KafkaStorageError | Code::LogDirNotFound | Code::ReassignmentInProgress | Code::ListenerNotFound
        | Code::FencedLeaderEpoch | Code::UnknownLeaderEpoch | Code::StaleBrokerEpoch | Code::OffsetNotAvailable
        | Code::PreferredLeaderNotAvailable | Code::EligibleLeadersNotAvailable | Code::RebootstrapRequired | Code::Unknown
        => Unavailable(Why::Down),
        // rdkafka.h: no connection, no address, no memory, no room in a queue, a client that ends.
        Code::BrokerDestroy | Code::DestroyBroker | Code::Fail | Code::BrokerTransportFailure | Code::CriticalSystemResource
        | Code::Resolve | Code::FileSystem | Code::AllBrokersDown | Code::OperationTimedOut | Code::QueueFull
        | Code::ISRInsufficient | Code::NodeUpdate | Code::WaitingForCoordinator | Code::WaitCache | Code::Interrupted
        | Code::Retry | Code::UnknownBroker | Code::PurgeInflight
        => Unavailable(Why::Down),

        // --- Not now: this client has to begin anew ---------------------------------------------------------------------
        // Errors: the idempotent producer's numbers. Without transactions nobody fences anybody by them: it is made anew.
        Code::OutOfOrderSequenceNumber | Code::DuplicateSequenceNumber | Code::InvalidProducerEpoch | Code::UnknownProducerId
        | Code::ProducerFenced | Code::InvalidProducerIdMapping => Unavailable(Why::Down),
        // rdkafka.h: the same, as the client tells it.
        Code::Fatal | Code::Fenced | Code::GaplessGuarantee | Code::Inconsistent | Code::State => Unavailable(Why::Down),
        // Errors and rdkafka.h: a member whose group went on without it joins again.
        Code::IllegalGeneration | Code::UnknownMemberId | Code::RebalanceInProgress | Code::MemberIdRequired
        | Code::FencedInstanceId | Code::FencedMemberEpoch | Code::StaleMemberEpoch | Code::UnreleasedInstanceId
        | Code::GroupMaxSizeReached | Code::UnstableOffsetCommit | Code::AssignmentLost | Code::PollExceeded
        => Unavailable(Why::Down),

        // --- Not now, although it is about what was asked ---------------------------------------------------------------
        // Spoiled on the way or read wrongly; asked again it may be whole. CORRUPT_MESSAGE is UnifiedLog's check of a CRC.
        Code::InvalidMessage | Code::BadMessage | Code::BadCompression | Code::Partial | Code::Underflow => Unavailable(Why::Down),
        // Errors: INVALID_FETCH_SIZE, which no Produce is answered.
        Code::InvalidMessageSize => Unavailable(Why::Down),
        // Errors: the client and the broker do not fit, or a setting is not taken. It concerns all messages, never one.
        Code::OffsetMetadataTooLarge | Code::InvalidRequiredAcks | Code::InconsistentGroupProtocol | Code::InvalidGroupId
        | Code::InvalidSessionTimeout | Code::InvalidCommitOffsetSize | Code::UnsupportedVersion | Code::InvalidPartitions
        | Code::InvalidReplicationFactor | Code::InvalidReplicaAssignment | Code::InvalidConfig | Code::InvalidRequest
        | Code::UnsupportedForMessageFormat | Code::SecurityDisabled | Code::OperationNotAttempted
        | Code::UnsupportedCompressionType | Code::UnsupportedAssignor | Code::TopicDeletionDisabled
        => Unavailable(Why::Down),
        // rdkafka.h: the same, as the client tells it.
        Code::InvalidArgument | Code::UnknownGroup | Code::InProgress | Code::PreviousInProgress | Code::ExistingSubscription
        | Code::Conflict | Code::UnknownProtocol | Code::NotImplemented | Code::Outdated | Code::UnsupportedFeature
        | Code::ReadOnly | Code::NoEnt | Code::InvalidType | Code::NotConfigured
        => Unavailable(Why::Down),
        // A position that is gone is a gap, which the source tells by itself before it comes here.
        Code::OffsetOutOfRange | Code::NoOffset | Code::AutoOffsetReset | Code::LogTruncation => Unavailable(Why::Down),

        // --- Never asked for here ---------------------------------------------------------------------------------------
        // Errors: transactions, administration, fetch sessions, elections, telemetry, KRaft voters.
        Code::TopicAlreadyExists | Code::InvalidTransactionalState | Code::InvalidTransactionTimeout
        | Code::ConcurrentTransactions | Code::TransactionCoordinatorFenced | Code::InvalidPrincipalType
        | Code::NonEmptyGroup | Code::GroupIdNotFound | Code::FetchSessionIdNotFound | Code::InvalidFetchSessionEpoch
        | Code::ElectionNotNeeded | Code::NoReassignmentInProgress | Code::GroupSubscribedToTopic | Code::ResourceNotFound
        | Code::DuplicateResource | Code::InconsistentVoterSet | Code::InvalidUpdateVersion | Code::FeatureUpdateFailed
        | Code::PrincipalDeserializationFailure | Code::UnknownSubscriptionId | Code::TelemetryTooLarge
        => Unavailable(Why::Down),
        // rdkafka.h: events that are no errors, serializers, and what an application may say itself.
        Code::NoError | Code::PartitionEOF | Code::AssignPartitions | Code::RevokePartitions | Code::Noop | Code::Application
        | Code::KeySerialization | Code::ValueSerialization | Code::KeyDeserialization | Code::ValueDeserialization
        => Unavailable(Why::Down),
        _ => return None,
    })
}

/// What an error of any request says of the cluster or topic; whatever speaks of a record only is [`Why::Down`] of the rest.
pub(crate) fn why(code: Code) -> Why {
    if let Some(Meaning::Unavailable(why)) = meaning(code) { why } else { Why::Down }
}

/// Errors that only say that no answer came; what the client said of its connections is more to the point.
pub(crate) fn says_nothing(code: Code) -> bool {
    matches!(code, Code::OperationTimedOut | Code::TimedOutQueue | Code::BrokerTransportFailure | Code::AllBrokersDown)
}

/// What to do where the cluster does not let us in.
pub(crate) const CREDENTIALS: &str = ". Check the credentials and `security.protocol` in the cluster's options";

/// A fault for an error that is not about single messages. `doing` says what failed, on which topic and cluster.
pub(crate) fn fault(code: Code, scope: Scope, doing: &str, text: &str) -> Fault {
    let why = why(code);
    let advice = match why {
        Why::Authentication => CREDENTIALS,
        Why::Permission => ". Grant the user the right",
        Why::UnknownTopic => ". Create it, or correct its name",
        Why::Down => "",
    };
    let text = if text.is_empty() { code.to_string() } else { text.to_owned() };
    let kind = match meaning(code) {
        Some(Meaning::Throttled) => FaultKind::Throttled(QUOTA_DELAY),
        _ => FaultKind::Unavailable(why),
    };
    Fault::new(kind, scope, format!("{doing}: {text} ({code:?}){advice}"))
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
    let fault = match meaning(code) {
        Some(Meaning::Innocent | Meaning::Purged) if !perhaps_stored => return Failure::NotSent,
        Some(Meaning::Rejected(cause)) => {
            let scope = if to_blame { Scope::Message } else { Scope::Batch };
            return Failure::Refused(Fault::new(FaultKind::Rejected(cause), scope, said));
        }
        Some(Meaning::NotReplicated) => {
            return Failure::Unknown(Fault::new(FaultKind::Unsure, Scope::Partition, said));
        }
        Some(Meaning::TimedOut) if perhaps_stored => return Failure::Unknown(Fault::timeout(said)),
        // Never left the client: that says nothing against the message.
        Some(Meaning::TimedOut) => match known {
            Some(known) => self::fault(known, Scope::Partition, doing, "not sent in time"),
            None => Fault::down(format!("{said}: no connection to the partition's leader took it")),
        },
        _ => self::fault(code, Scope::Partition, doing, ""),
    };
    if perhaps_stored { Failure::Unknown(fault) } else { Failure::Refused(fault) }
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

    /// Every error of librdkafka's header.
    fn known_to_the_client() -> Vec<Code> {
        use rdkafka::types::RDKafkaRespErr;
        (-1_000..10_000).filter_map(|number| RDKafkaRespErr::try_from(number).ok()).map(Code::from).collect()
    }

    #[test]
    fn every_error_that_the_client_knows_is_judged() {
        let all = known_to_the_client();
        assert!(all.len() > 150, "{}", all.len());
        let borders = [Code::Begin, Code::End, Code::EndAll];
        let unjudged: Vec<_> = all.iter().filter(|code| !borders.contains(code) && meaning(**code).is_none()).collect();
        assert!(unjudged.is_empty(), "not in the table: {unjudged:?}");
    }

    #[test]
    fn an_error_nobody_knows_is_an_outage() {
        // A border of librdkafka's numbers stands for a code without a row.
        assert_eq!(meaning(Code::EndAll), None);
        let down = Some(FaultKind::Unavailable(Why::Down));
        assert_eq!(kind(Code::EndAll, false, true), ("refused", down.clone(), Some(Scope::Partition)));
        assert_eq!(kind(Code::EndAll, true, true), ("unknown", down, Some(Scope::Partition)));
        assert_eq!(fault(Code::EndAll, Scope::Cluster, "asking", "").kind, FaultKind::Unavailable(Why::Down));
    }

    #[test]
    fn a_batch_above_the_segment_size_is_cut_and_not_tried_for_ever() {
        let too_large = Some(FaultKind::Rejected(Cause::TooLarge));
        assert_eq!(kind(Code::MessageBatchTooLarge, false, false), ("refused", too_large, Some(Scope::Batch)));
    }

    #[test]
    fn a_fetch_size_that_is_not_taken_rejects_no_message() {
        assert_eq!(kind(Code::InvalidMessageSize, false, true).1, Some(FaultKind::Unavailable(Why::Down)));
    }

    #[test]
    fn a_topic_that_was_deleted_is_told_by_its_id_as_well() {
        assert_eq!(why(Code::UnknownTopicId), Why::UnknownTopic);
    }

    #[test]
    fn a_quota_on_creating_topics_is_waited_for() {
        assert_eq!(
            fault(Code::ThrottlingQuotaExceeded, Scope::Cluster, "x", "").kind,
            FaultKind::Throttled(QUOTA_DELAY)
        );
    }
}
