//! What it means that a proxy does not do what a source asks.

use tonic::Code;
use trestle_core::{Fault, Why};

use crate::proxy::{client::CallError, protocol::code};

const MAKE_THE_GROUP: &str =
    ". A gRPC proxy makes no groups: `mqadmin updateSubGroup -n NAMESRV -c CLUSTER -g GROUP` does";
/// What a proxy says of a group when it is told the settings of a client, without a code (`ClientActivity.java`, 5.5.0).
const NO_GROUP: &str = "group not found";

pub fn fault(error: &CallError, about: &str) -> Fault {
    let (why, advice) = match error {
        CallError::Refused { code, .. } => match *code {
            code::TOPIC_NOT_FOUND | code::ILLEGAL_TOPIC => (Why::UnknownTopic, ""),
            code::CONSUMER_GROUP_NOT_FOUND | code::ILLEGAL_CONSUMER_GROUP => (Why::UnknownTopic, MAKE_THE_GROUP),
            code::UNAUTHORIZED => (Why::Authentication, ""),
            code::FORBIDDEN => (Why::Permission, ""),
            _ => (Why::Down, ""),
        },
        CallError::Broken(status) => match status.code() {
            Code::Unauthenticated => (Why::Authentication, ""),
            Code::PermissionDenied => (Why::Permission, ""),
            Code::InvalidArgument if status.message().contains(NO_GROUP) => (Why::UnknownTopic, MAKE_THE_GROUP),
            _ => (Why::Down, ""),
        },
        CallError::Silent(_) | CallError::Unreachable(_) => (Why::Down, ""),
    };
    Fault::unavailable(why, format!("{about}: {error}{advice}"))
}

#[cfg(test)]
mod tests {
    use trestle_core::FaultKind;

    use super::*;
    use crate::proxy::client::broken;

    #[test]
    fn what_a_person_has_to_mend_is_told_apart_from_an_outage() {
        let refused = |code| fault(&CallError::Refused { code, message: "no".into() }, "orders");
        let why = |code| refused(code).kind;
        assert_eq!(why(code::TOPIC_NOT_FOUND), FaultKind::Unavailable(Why::UnknownTopic));
        assert_eq!(why(code::UNAUTHORIZED), FaultKind::Unavailable(Why::Authentication));
        assert_eq!(why(code::FORBIDDEN), FaultKind::Unavailable(Why::Permission));
        assert_eq!(why(50_001), FaultKind::Unavailable(Why::Down));
        assert!(refused(code::CONSUMER_GROUP_NOT_FOUND).detail.contains("updateSubGroup"));
        let told = tonic::Status::invalid_argument("process client telemetryCommand failed. group not found: g");
        let told = fault(&broken(told), "orders");
        assert!(told.kind == FaultKind::Unavailable(Why::UnknownTopic) && told.detail.contains("updateSubGroup"));
        let other = tonic::Status::invalid_argument("something else");
        assert_eq!(fault(&broken(other), "orders").kind, FaultKind::Unavailable(Why::Down));
    }
}
