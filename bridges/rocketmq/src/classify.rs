//! What a broker's answer, or its silence, means.

use std::time::Duration;

use trestle_core::{Cause, Fault, FaultKind, Guarantee, Outcome, Scope, Why};

use crate::remoting::{Answer, CallError, codes::answer::*};

/// A broker that says it is busy gets this much time.
const BUSY_DELAY: Duration = Duration::from_millis(200);

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
    match answer.code {
        SUCCESS => Ok(()),
        FLUSH_DISK_TIMEOUT | FLUSH_SLAVE_TIMEOUT | SLAVE_NOT_AVAILABLE if guarantee == Guarantee::Accepted => Ok(()),
        FLUSH_DISK_TIMEOUT | FLUSH_SLAVE_TIMEOUT | SLAVE_NOT_AVAILABLE => {
            Err(Outcome::Unknown(answered(&answer, about)))
        }
        MESSAGE_ILLEGAL => {
            let mut fault = answered(&answer, about);
            fault.scope = if messages > 1 { Scope::Batch } else { Scope::Message };
            Err(Outcome::Refused(fault))
        }
        SYSTEM_BUSY
        | FLOW_CONTROL
        | SERVICE_NOT_AVAILABLE
        | NO_PERMISSION
        | TOPIC_NOT_EXIST
        | NOT_FOUND_TOPIC
        | GO_AWAY => Err(Outcome::Refused(answered(&answer, about))),
        // The broker failed somewhere, perhaps behind the write.
        _ => Err(Outcome::Unknown(answered(&answer, about))),
    }
}

/// The fault that an answer other than success means.
pub fn answered(answer: &Answer, about: &str) -> Fault {
    let remark = if answer.remark.is_empty() { "no remark" } else { answer.remark.as_str() };
    let detail = format!("{about}: {} ({}): {remark}", name(answer.code), answer.code);
    match answer.code {
        FLUSH_DISK_TIMEOUT | FLUSH_SLAVE_TIMEOUT | SLAVE_NOT_AVAILABLE => {
            Fault::new(FaultKind::Unsure, Scope::Partition, detail)
        }
        // One code for both; the remark is the same too.
        MESSAGE_ILLEGAL => Fault::rejected(Cause::Refused, detail),
        SYSTEM_BUSY | FLOW_CONTROL => Fault::new(FaultKind::Throttled(BUSY_DELAY), Scope::Partition, detail),
        TOPIC_NOT_EXIST | NOT_FOUND_TOPIC => {
            Fault::unavailable(Why::UnknownTopic, format!("{detail}. Create the topic, or check its name"))
        }
        NO_PERMISSION if speaks_of_authentication(&answer.remark) => {
            Fault::unavailable(Why::Authentication, format!("{detail}. Check access_key and secret_key"))
        }
        NO_PERMISSION => Fault::unavailable(Why::Permission, detail),
        // ACL 1.0 answers a wrong key or signature as a system error.
        _ if speaks_of_authentication(&answer.remark) => {
            Fault::unavailable(Why::Authentication, format!("{detail}. Check access_key and secret_key"))
        }
        _ => Fault::down(detail),
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
        1 => "SYSTEM_ERROR",
        SYSTEM_BUSY => "SYSTEM_BUSY",
        FLUSH_DISK_TIMEOUT => "FLUSH_DISK_TIMEOUT",
        SLAVE_NOT_AVAILABLE => "SLAVE_NOT_AVAILABLE",
        FLUSH_SLAVE_TIMEOUT => "FLUSH_SLAVE_TIMEOUT",
        MESSAGE_ILLEGAL => "MESSAGE_ILLEGAL",
        SERVICE_NOT_AVAILABLE => "SERVICE_NOT_AVAILABLE, as when its disk is full",
        NO_PERMISSION => "NO_PERMISSION",
        TOPIC_NOT_EXIST | NOT_FOUND_TOPIC => "TOPIC_NOT_EXIST",
        FLOW_CONTROL => "FLOW_CONTROL",
        GO_AWAY => "GO_AWAY",
        _ => "the broker answered code",
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
}
