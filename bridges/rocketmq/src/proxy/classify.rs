//! What a failure of the gRPC client means.

use std::time::Duration;

use rocketmq::error::ClientError;
use trestle_core::{Cause, Fault, FaultKind, Guarantee, Outcome, Scope, Why};

use super::link::Failure;

/// A proxy or broker that says it is busy gets this much time.
const BUSY_DELAY: Duration = Duration::from_millis(200);
/// Names of what the client does while a message may reach the broker (`session.rs`, `client.rs`); all else comes before.
const SENDING: [&str; 2] = ["rpc.send_message", "client.send_message"];
/// Begins what the transport says when it has no connection and gets none.
const NO_CONNECTION: &str = "error trying to connect";
/// What the transport says when the client's own limit has passed.
const TIMEOUTS: [&str; 2] = ["Timeout expired", "DeadlineExceeded"];
/// The panic of a client that opens a session to a broker's address on the way to a send.
const NO_SESSION: &str = "Failed to create session";
/// A broker's remark on a message that is larger than its `maxMessageSize`; the proxy passes it on without the code
/// (`SendMessageProcessor.java`, `LocalMessageService.java`).
const ILLEGAL: &str = "the message is illegal";

/// What the name of an answer's code (`definition.proto`) says, and whether the message is surely not stored. `None` is a name
/// that nobody has judged: [`Why::Down`], and perhaps stored.
fn meaning(code: &str) -> Option<(FaultKind, bool)> {
    use FaultKind::{Rejected, Throttled, Unavailable, Unsure};
    const NOT_STORED: bool = true;
    const PERHAPS: bool = false;
    Some(match code {
        // What the proxy checks before it sends (SendMessageActivity.java, GrpcValidator.java).
        "ILLEGAL_MESSAGE_TAG"
        | "ILLEGAL_MESSAGE_KEY"
        | "ILLEGAL_MESSAGE_GROUP"
        | "ILLEGAL_MESSAGE_PROPERTY_KEY"
        | "MESSAGE_PROPERTIES_TOO_LARGE"
        | "REQUEST_HEADER_FIELDS_TOO_LARGE" => (Rejected(Cause::IllegalProperty), NOT_STORED),
        "MESSAGE_BODY_TOO_LARGE" | "PAYLOAD_TOO_LARGE" => (Rejected(Cause::TooLarge), NOT_STORED),
        // The topic is of the type FIFO and the message has no group, or the other way round: for a person to mend.
        "MESSAGE_PROPERTY_CONFLICT_WITH_TYPE" => (Unavailable(Why::Permission), NOT_STORED),
        "TOPIC_NOT_FOUND" | "ILLEGAL_TOPIC" => (Unavailable(Why::UnknownTopic), NOT_STORED),
        "UNAUTHORIZED" => (Unavailable(Why::Authentication), NOT_STORED),
        "FORBIDDEN" => (Unavailable(Why::Permission), NOT_STORED),
        // The broker's SYSTEM_BUSY, and the proxy's own limits: before anything is written.
        "TOO_MANY_REQUESTS" => (Throttled(BUSY_DELAY), NOT_STORED),
        // FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT, SLAVE_NOT_AVAILABLE.
        "MASTER_PERSISTENCE_TIMEOUT" | "SLAVE_PERSISTENCE_TIMEOUT" | "HA_NOT_AVAILABLE" => (Unsure, PERHAPS),
        "INTERNAL_SERVER_ERROR" | "INTERNAL_ERROR" | "PROXY_TIMEOUT" | "REQUEST_TIMEOUT" | "MULTIPLE_RESULTS" => {
            (Unavailable(Why::Down), PERHAPS)
        }
        _ => return None,
    })
}

/// What became of the message whose sending failed; `None`: it is stored well enough.
pub fn sent(failure: &Failure, guarantee: Guarantee, about: &str) -> Option<Outcome> {
    let (kind, not_stored) = judge(failure);
    if kind == FaultKind::Unsure && guarantee == Guarantee::Accepted {
        return None;
    }
    let scope = if matches!(kind, FaultKind::Rejected(_)) { Scope::Message } else { Scope::Partition };
    let fault = Fault::new(kind, scope, format!("{about}: {failure}{}", advice(failure)));
    Some(if not_stored { Outcome::Refused(fault) } else { Outcome::Unknown(fault) })
}

/// Why there is no link.
pub fn opening(failure: &Failure, about: &str) -> Fault {
    let kind = match judge(failure).0 {
        kind @ (FaultKind::Unavailable(_) | FaultKind::Throttled(_) | FaultKind::Timeout) => kind,
        _ => FaultKind::Unavailable(Why::Down),
    };
    Fault::new(kind, Scope::Partition, format!("{about}: {failure}"))
}

fn judge(failure: &Failure) -> (FaultKind, bool) {
    let down = FaultKind::Unavailable(Why::Down);
    match failure {
        Failure::Client(error) => judge_error(error),
        Failure::Fell(words) => (down, words.contains(NO_SESSION)),
        Failure::Silent(_) => (FaultKind::Timeout, false),
        Failure::NoThread(_) => (down, true),
    }
}

fn judge_error(error: &ClientError) -> (FaultKind, bool) {
    let sending = SENDING.contains(&error.operation());
    let said = |name: &str| error.context().iter().find(|(key, _)| *key == name).map(|(_, said)| said.as_str());
    if let Some(code) = said("code") {
        if said("message").is_some_and(|message| message.contains(ILLEGAL)) {
            return (FaultKind::Rejected(Cause::TooLarge), true);
        }
        let (kind, not_stored) = meaning(code).unwrap_or((FaultKind::Unavailable(Why::Down), false));
        return (kind, not_stored || !sending);
    }
    let text = error.to_string();
    if sending && TIMEOUTS.iter().any(|timeout| text.contains(timeout)) {
        return (FaultKind::Timeout, false);
    }
    (FaultKind::Unavailable(Why::Down), !sending || text.contains(NO_CONNECTION))
}

/// What to do about it, where that is known.
fn advice(failure: &Failure) -> &'static str {
    let Failure::Client(error) = failure else { return "" };
    if error.context().iter().any(|(_, said)| said == "MESSAGE_PROPERTY_CONFLICT_WITH_TYPE") {
        ". A topic of the type FIFO is written with the option messageGroup, any other without it"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_proxy_checks_is_surely_not_stored_and_what_the_broker_answers_perhaps() {
        let sure = |code| meaning(code).map(|(_, sure)| sure);
        for code in ["ILLEGAL_MESSAGE_PROPERTY_KEY", "MESSAGE_BODY_TOO_LARGE", "TOO_MANY_REQUESTS", "UNAUTHORIZED"] {
            assert_eq!(sure(code), Some(true), "{code}");
        }
        for code in ["INTERNAL_SERVER_ERROR", "PROXY_TIMEOUT", "MASTER_PERSISTENCE_TIMEOUT"] {
            assert_eq!(sure(code), Some(false), "{code}");
        }
        assert_eq!(meaning("A_NEW_CODE"), None);
    }

    #[test]
    fn a_client_that_fell_or_is_silent_may_have_sent_the_message() {
        let silent = Failure::Silent(Duration::from_secs(3));
        let Some(Outcome::Unknown(fault)) = sent(&silent, Guarantee::Replicated, "orders") else { panic!() };
        assert_eq!(fault.kind, FaultKind::Timeout);
        let fell = Failure::Fell("called `Option::unwrap()` on a `None` value".into());
        let Some(Outcome::Unknown(fault)) = sent(&fell, Guarantee::Replicated, "orders") else { panic!() };
        assert_eq!(fault.kind, FaultKind::Unavailable(Why::Down));
        let unreached = Failure::Fell(format!("called `Result::unwrap()` on an `Err` value: {NO_SESSION} at x"));
        assert!(matches!(sent(&unreached, Guarantee::Replicated, "orders"), Some(Outcome::Refused(_))));
    }

    #[test]
    fn a_link_that_does_not_open_is_no_fault_of_a_message() {
        let fault = opening(&Failure::Silent(Duration::from_secs(3)), "orders");
        assert_eq!((fault.kind, fault.scope), (FaultKind::Timeout, Scope::Partition));
    }
}
