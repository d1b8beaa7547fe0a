use std::{fmt, time::Duration};

/// Something went wrong at a broker or on the way to it. The kind decides what the pipeline does; the detail is for people.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct Fault {
    pub kind: FaultKind,
    pub scope: Scope,
    /// What failed, on which cluster and topic, in the broker's own words, and what to do about it where that is known.
    pub detail: String,
}

/// How much a fault speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Message,
    Batch,
    Partition,
    Cluster,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The target cannot take anything now. Spends no attempts. An error nobody knows is this one.
    Unavailable(Why),
    /// Not confirmed in `send_timeout`; perhaps stored.
    Timeout,
    /// The broker asks to wait this long.
    Throttled(Duration),
    /// Stored, but not as safely as the cluster promises.
    Unsure,
    /// Will never be accepted.
    Rejected(Cause),
    /// Another instance has taken this lane over: its source partitions are left alone until they are assigned again.
    Fenced,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No connection, no leader, restarting, overloaded, or an error nobody knows.
    Down,
    Authentication,
    Permission,
    UnknownTopic,
}

impl Why {
    /// Needs a person: said loudly in the log, in a metric and in readiness.
    pub fn needs_a_person(self) -> bool {
        self != Why::Down
    }
}

/// Why a message is dead-lettered; the `cause` label and the `trestle-dlq-cause` header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    Timeout,
    TooLarge,
    IllegalProperty,
    Untranslatable,
    /// The broker refused it for a reason of its own.
    Refused,
    /// It has come through more topics than anything should.
    Loop,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Timeout => "timeout",
            Cause::TooLarge => "too_large",
            Cause::IllegalProperty => "illegal_property",
            Cause::Untranslatable => "untranslatable",
            Cause::Refused => "refused",
            Cause::Loop => "loop",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Down => "not reachable",
            Why::Authentication => "authentication failed",
            Why::Permission => "permission denied",
            Why::UnknownTopic => "unknown topic",
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Unavailable(why) => write!(f, "unavailable ({why})"),
            FaultKind::Timeout => f.write_str("timeout"),
            FaultKind::Throttled(delay) => write!(f, "throttled for {delay:?}"),
            FaultKind::Unsure => f.write_str("not stored safely"),
            FaultKind::Rejected(cause) => write!(f, "rejected ({})", cause.as_str()),
            FaultKind::Fenced => f.write_str("fenced by another instance"),
        }
    }
}

impl Fault {
    pub fn new(kind: FaultKind, scope: Scope, detail: impl Into<String>) -> Self {
        Fault { kind, scope, detail: detail.into() }
    }

    /// Nothing can be sent to this partition for now.
    pub fn down(detail: impl Into<String>) -> Self {
        Fault::new(FaultKind::Unavailable(Why::Down), Scope::Partition, detail)
    }

    /// As [`Fault::down`], for a reason that a person has to mend.
    pub fn unavailable(why: Why, detail: impl Into<String>) -> Self {
        Fault::new(FaultKind::Unavailable(why), Scope::Partition, detail)
    }

    pub fn timeout(detail: impl Into<String>) -> Self {
        Fault::new(FaultKind::Timeout, Scope::Partition, detail)
    }

    /// This one message will never be accepted.
    pub fn rejected(cause: Cause, detail: impl Into<String>) -> Self {
        Fault::new(FaultKind::Rejected(cause), Scope::Message, detail)
    }
}

/// What became of one message of a send.
#[derive(Clone, Debug)]
pub enum Outcome {
    Stored,
    /// Not tried, because one before it failed.
    NotSent,
    /// Surely not stored.
    Refused(Fault),
    /// Perhaps stored.
    Unknown(Fault),
}

/// The outcomes of one send, run-length, in the order of its messages. A correct lane stores a prefix: a `Stored` after
/// anything else is an order break, which the pipeline counts.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub runs: Vec<(usize, Outcome)>,
}

impl Sent {
    pub fn stored(messages: usize) -> Self {
        Sent { runs: vec![(messages, Outcome::Stored)] }
    }

    /// All `messages` are perhaps stored.
    pub fn unknown(messages: usize, fault: Fault) -> Self {
        Sent { runs: vec![(messages, Outcome::Unknown(fault))] }
    }

    /// The first `stored` are stored, the next one is refused, and those behind it were not sent.
    pub fn refused_at(stored: usize, fault: Fault, messages: usize) -> Self {
        let mut sent = Sent::default();
        sent.push(stored, Outcome::Stored);
        sent.push(1, Outcome::Refused(fault));
        sent.push(messages.saturating_sub(stored + 1), Outcome::NotSent);
        sent
    }

    /// All `messages` are refused together: surely none is stored.
    pub fn refused(messages: usize, fault: Fault) -> Self {
        Sent { runs: vec![(messages, Outcome::Refused(fault))] }
    }

    pub fn push(&mut self, messages: usize, outcome: Outcome) {
        if messages > 0 {
            self.runs.push((messages, outcome));
        }
    }

    /// Messages spoken of.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|(n, _)| n).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
