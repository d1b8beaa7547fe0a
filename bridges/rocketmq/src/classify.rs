//! What a broker's answer, or its silence, means.

use std::time::Duration;

use trestle_core::{Cause, Fault, FaultKind, Guarantee, Outcome, Scope, Why};

use crate::remoting::{
    Answer, CallError,
    codes::answer::{self, *},
};

/// A broker that says it is busy gets this much time.
const BUSY_DELAY: Duration = Duration::from_millis(200);

/// What a code says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Unavailable(Why),
    Throttled,
    /// Stored by the master, and not as safely as it is told to.
    Unsure,
    Rejected,
    /// No error: an answer that its caller takes before it asks here.
    Answer,
}

/// The table: what a code says, and whether a send that was answered so is surely not stored. `None` is a code that nobody has
/// judged: [`Why::Down`], and perhaps stored.
///
/// Codes are those of `RemotingSysResponseCode` and `ResponseCode`; who answers them is named at each row (5.5).
fn meaning(code: i32) -> Option<(Meaning, bool)> {
    use Meaning::*;
    const NOT_STORED: bool = true;
    const PERHAPS: bool = false;
    Some(match code {
        SUCCESS => (Answer, PERHAPS),
        // SendMessageProcessor.handlePutMessageResult: FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE of PutMessageStatus.
        FLUSH_DISK_TIMEOUT | FLUSH_SLAVE_TIMEOUT | SLAVE_NOT_AVAILABLE => (Unsure, PERHAPS),
        // SendMessageProcessor: too large, too many properties, no key for a compacted topic, a delay out of range. One code for all, and
        // often one remark.
        MESSAGE_ILLEGAL => (Rejected, NOT_STORED),
        // BrokerFastFailure and SendMessageProcessor (OS_PAGE_CACHE_BUSY): taken out of the queue before it was begun. NettyRemotingAbstract:
        // the same when a thread pool is full.
        SYSTEM_BUSY => (Throttled, NOT_STORED),
        // ProxyException and the broker's own limits on requests.
        FLOW_CONTROL => (Throttled, NOT_STORED),
        // HookUtils.checkBeforePutMessage: a slave, a store that shuts down, a disk that is full.
        SERVICE_NOT_AVAILABLE => (Unavailable(Why::Down), NOT_STORED),
        // AbstractSendMessageProcessor.msgCheck: the broker or the topic does not take messages; ACL 2.0 (AuthorizationPipeline).
        NO_PERMISSION => (Unavailable(Why::Permission), NOT_STORED),
        // AuthAdmin's, for rights that are not there.
        POLICY_NOT_EXIST => (Unavailable(Why::Permission), PERHAPS),
        USER_NOT_EXIST => (Unavailable(Why::Authentication), PERHAPS),
        // AbstractSendMessageProcessor.msgCheck, RouteInfoManager; the second is the Java client's (ClientErrorCode).
        TOPIC_NOT_EXIST | NOT_FOUND_TOPIC => (Unavailable(Why::UnknownTopic), NOT_STORED),
        // PullMessageProcessor: the group is not there and `autoCreateSubscriptionGroup` is off. A person has to make it.
        SUBSCRIPTION_GROUP_NOT_EXIST => (Unavailable(Why::UnknownTopic), PERHAPS),
        // NettyRemotingServer: it shuts down, and has not begun.
        GO_AWAY => (Unavailable(Why::Down), NOT_STORED),
        // NettyRemotingAbstract.processRequestCommand: no processor has begun.
        REQUEST_CODE_NOT_SUPPORTED => (Unavailable(Why::Down), NOT_STORED),
        // Whatever threw, behind the write or before it; IN_SYNC_REPLICAS_NOT_ENOUGH and CREATE_MAPPED_FILE_FAILED too.
        SYSTEM_ERROR => (Unavailable(Why::Down), PERHAPS),
        // AbstractSendMessageProcessor.msgCheck: a name or a queue that is not legal here, as when the topic has shrunk.
        INVALID_PARAMETER => (Unavailable(Why::Down), PERHAPS),
        // SendMessageProcessor.rewriteResponseForStaticTopic, which comes after the write.
        NOT_LEADER_FOR_QUEUE | LMQ_QUOTA_EXCEEDED => (Unavailable(Why::Down), PERHAPS),
        // PullMessageProcessor, AdminBrokerProcessor, ConsumerManageProcessor: for whoever pulled or asked.
        PULL_NOT_FOUND | PULL_RETRY_IMMEDIATELY | PULL_OFFSET_MOVED | QUERY_NOT_FOUND => (Answer, PERHAPS),
        // PullMessageProcessor: the heartbeat that tells the subscription has not come yet.
        SUBSCRIPTION_PARSE_FAILED
        | SUBSCRIPTION_NOT_EXIST
        | SUBSCRIPTION_NOT_LATEST
        | FILTER_DATA_NOT_EXIST
        | FILTER_DATA_NOT_LATEST => (Unavailable(Why::Down), PERHAPS),
        // PopMessageProcessor, AdminBrokerProcessor, EndTransactionProcessor: not asked for.
        VERSION_NOT_SUPPORTED
        | TRANSACTION_FAILED
        | TOPIC_EXIST_ALREADY
        | TRANSACTION_SHOULD_COMMIT
        | TRANSACTION_SHOULD_ROLLBACK
        | TRANSACTION_STATE_UNKNOW
        | TRANSACTION_STATE_GROUP_WRONG
        | NO_BUYER_ID
        | NOT_IN_CURRENT_UNIT
        | CONSUMER_NOT_ONLINE
        | CONSUME_MSG_TIMEOUT
        | NO_MESSAGE
        | POLLING_FULL
        | POLLING_TIMEOUT
        | BROKER_NOT_EXIST
        | BROKER_DISPATCH_NOT_COMPLETE
        | BROADCAST_CONSUMPTION
        | ILLEGAL_OPERATION
        | LITE_SUBSCRIPTION_QUOTA_EXCEEDED => (Unavailable(Why::Down), PERHAPS),
        // RpcClient, between brokers.
        RPC_UNKNOWN | RPC_ADDR_IS_NULL | RPC_SEND_TO_CHANNEL_FAILED | RPC_TIME_OUT => (Unavailable(Why::Down), PERHAPS),
        // ControllerManager, between brokers and their controller.
        CONTROLLER_FENCED_MASTER_EPOCH..=CONTROLLER_BROKER_LIVE_INFO_NOT_EXISTS => (Unavailable(Why::Down), PERHAPS),
        _ => return None,
    })
}

/// What became of the `messages` of one send.
pub fn sent(
    result: Result<Answer, CallError>,
    messages: usize,
    guarantee: Guarantee,
    about: &str,
) -> Result<(), Outcome> {
    let answer = match result {
        Ok(answer) => answer,
        Err(error @ CallError::NotSent(_)) => return Err(Outcome::Refused(unanswered(&error, about))),
        Err(error) => return Err(Outcome::Unknown(unanswered(&error, about))),
    };
    if answer.code == SUCCESS {
        return Ok(());
    }
    let (meaning, not_stored) = meaning(answer.code).unwrap_or((Meaning::Unavailable(Why::Down), false));
    if meaning == Meaning::Unsure && guarantee == Guarantee::Accepted {
        return Ok(());
    }
    let mut fault = answered(&answer, about);
    if meaning == Meaning::Rejected && messages > 1 {
        fault.scope = Scope::Batch;
    }
    Err(if not_stored { Outcome::Refused(fault) } else { Outcome::Unknown(fault) })
}

/// The fault that an answer other than success means.
pub fn answered(answer: &Answer, about: &str) -> Fault {
    let remark = if answer.remark.is_empty() { "no remark" } else { answer.remark.as_str() };
    let detail = format!("{about}: {} ({}): {remark}", name(answer.code), answer.code);
    let meaning = meaning(answer.code).map_or(Meaning::Unavailable(Why::Down), |(meaning, _)| meaning);
    match meaning {
        Meaning::Unsure => Fault::new(FaultKind::Unsure, Scope::Partition, detail),
        Meaning::Rejected => Fault::rejected(Cause::Refused, detail),
        Meaning::Throttled => Fault::new(FaultKind::Throttled(BUSY_DELAY), Scope::Partition, detail),
        Meaning::Unavailable(Why::UnknownTopic) if answer.code == SUBSCRIPTION_GROUP_NOT_EXIST => Fault::unavailable(
            Why::UnknownTopic,
            format!("{detail}. Create the group, or let the broker do so (autoCreateSubscriptionGroup)"),
        ),
        Meaning::Unavailable(Why::UnknownTopic) => {
            Fault::unavailable(Why::UnknownTopic, format!("{detail}. Create the topic, or check its name"))
        }
        // ACL 1.0 answers a wrong key or signature as a system error, ACL 2.0 as a missing right.
        _ if speaks_of_authentication(&answer.remark) => {
            Fault::unavailable(Why::Authentication, format!("{detail}. Check access_key and secret_key"))
        }
        Meaning::Unavailable(why) => Fault::unavailable(why, detail),
        Meaning::Answer => Fault::down(detail),
    }
}

/// The fault that no answer means.
pub fn unanswered(error: &CallError, about: &str) -> Fault {
    let detail = format!("{about}: {error}");
    match error {
        CallError::Timeout(_) => Fault::timeout(detail),
        CallError::NotSent(_) | CallError::Lost(_) => Fault::down(detail),
    }
}

/// Both generations of ACL have no code of their own for it, only exceptions' texts.
fn speaks_of_authentication(remark: &str) -> bool {
    ["AuthenticationException", "AclException", "signature", "accessKey", "User:", "username"]
        .iter()
        .any(|word| remark.contains(word))
        && !remark.contains("AuthorizationException")
}

fn name(code: i32) -> &'static str {
    match code {
        SERVICE_NOT_AVAILABLE => "SERVICE_NOT_AVAILABLE, as when its disk is full",
        _ => answer::name(code).unwrap_or("the broker answered code"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: i32, remark: &str, messages: usize, guarantee: Guarantee) -> Result<(), Outcome> {
        let answer = Answer { code, remark: remark.into(), ..Answer::default() };
        sent(Ok(answer), messages, guarantee, "topic t")
    }

    #[test]
    fn only_send_ok_is_stored_unless_accepted_is_enough() {
        assert!(outcome(0, "", 3, Guarantee::Replicated).is_ok());
        for code in [FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE] {
            let Err(Outcome::Unknown(fault)) = outcome(code, "", 3, Guarantee::Replicated) else { panic!("{code}") };
            assert_eq!(fault.kind, FaultKind::Unsure);
            assert!(outcome(code, "", 3, Guarantee::Accepted).is_ok());
        }
    }

    #[test]
    fn codes_tell_refusal_from_doubt() {
        let kind = |code, remark: &str| match outcome(code, remark, 2, Guarantee::Replicated) {
            Err(Outcome::Refused(fault)) => (true, fault.kind, fault.scope),
            Err(Outcome::Unknown(fault)) => (false, fault.kind, fault.scope),
            other => panic!("{other:?}"),
        };
        let unavailable = |why| FaultKind::Unavailable(why);
        assert_eq!(kind(13, ""), (true, FaultKind::Rejected(Cause::Refused), Scope::Batch));
        assert_eq!(kind(14, "disk"), (true, unavailable(Why::Down), Scope::Partition));
        assert_eq!(kind(2, "busy"), (true, FaultKind::Throttled(BUSY_DELAY), Scope::Partition));
        assert_eq!(kind(17, ""), (true, unavailable(Why::UnknownTopic), Scope::Partition));
        assert_eq!(kind(10003, ""), (true, unavailable(Why::UnknownTopic), Scope::Partition));
        assert_eq!(
            kind(16, "the broker's sending is forbidden"),
            (true, unavailable(Why::Permission), Scope::Partition)
        );
        assert_eq!(kind(16, "...AuthenticationException: check signature failed.").1, unavailable(Why::Authentication));
        assert_eq!(
            kind(1, "org.apache.rocketmq.acl.common.AclException: No acl config").1,
            unavailable(Why::Authentication)
        );
        assert_eq!(kind(4711, "?"), (false, unavailable(Why::Down), Scope::Partition));
    }

    #[test]
    fn silence_is_doubt_unless_nothing_was_sent() {
        let sent = |error| sent(Err(error), 1, Guarantee::Replicated, "t");
        assert!(
            matches!(sent(CallError::NotSent("x".into())), Err(Outcome::Refused(f)) if f.kind == FaultKind::Unavailable(Why::Down))
        );
        assert!(
            matches!(sent(CallError::Lost("x".into())), Err(Outcome::Unknown(f)) if f.kind == FaultKind::Unavailable(Why::Down))
        );
        assert!(
            matches!(sent(CallError::Timeout("x".into())), Err(Outcome::Unknown(f)) if f.kind == FaultKind::Timeout)
        );
    }

    #[test]
    fn one_message_that_is_refused_is_refused_alone() {
        let Err(Outcome::Refused(fault)) = outcome(13, "", 1, Guarantee::Replicated) else { panic!() };
        assert_eq!(fault.scope, Scope::Message);
    }

    #[test]
    fn every_code_of_the_protocol_is_judged() {
        let unjudged: Vec<_> = answer::ALL.iter().filter(|code| meaning(**code).is_none()).map(|c| name(*c)).collect();
        assert!(unjudged.is_empty(), "not in the table: {unjudged:?}");
    }

    #[test]
    fn only_what_was_judged_before_the_write_is_surely_not_stored() {
        let not_stored = |code: &&i32| matches!(meaning(**code), Some((_, true)));
        let sure: Vec<_> = answer::ALL.iter().filter(not_stored).map(|code| answer::name(*code).unwrap()).collect();
        let expected = [
            "SYSTEM_BUSY",
            "REQUEST_CODE_NOT_SUPPORTED",
            "MESSAGE_ILLEGAL",
            "SERVICE_NOT_AVAILABLE",
            "NO_PERMISSION",
            "TOPIC_NOT_EXIST",
            "FLOW_CONTROL",
            "GO_AWAY",
            "NOT_FOUND_TOPIC",
        ];
        assert_eq!(sure, expected);
    }

    #[test]
    fn a_code_nobody_knows_is_an_outage_and_perhaps_stored() {
        assert_eq!(meaning(4711), None);
        let Err(Outcome::Unknown(fault)) = outcome(4711, "", 1, Guarantee::Replicated) else { panic!() };
        assert_eq!((fault.kind, fault.scope), (FaultKind::Unavailable(Why::Down), Scope::Partition));
    }

    #[test]
    fn a_group_that_a_person_has_to_make_is_said_loudly() {
        let answer = Answer { code: SUBSCRIPTION_GROUP_NOT_EXIST, ..Answer::default() };
        let FaultKind::Unavailable(why) = answered(&answer, "group g").kind else { panic!() };
        assert!(why.needs_a_person());
    }
}
