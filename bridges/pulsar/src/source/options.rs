//! What `options:` of a Pulsar topic that is read may say, by the Java client's names.

use std::collections::BTreeMap;

use pulsar::message::proto::command_subscribe::SubType;
use trestle_core::{Cause, Fault, FaultKind, Scope};

use crate::schema;

/// Messages that may be on their way for a partition unless `receiverQueueSize` says otherwise.
pub(super) const RECEIVER_QUEUE: u32 = 100;
/// As many as these bytes hold where messages are small.
pub(super) const RECEIVER_QUEUE_BYTES: u64 = 1 << 20;
/// And never more than this.
pub(crate) const RECEIVER_QUEUE_MOST: u32 = 1_000;

/// Every name.
pub(crate) const NAMES: &[&str] =
    &["receiverQueueSize", "subscriptionType", "ackTimeoutMillis", "negativeAckRedeliveryDelayMicros", schema::OPTION];

/// Who of a group reads a partition, and what order then means.
///
/// | | who reads a partition | order | after a crash, or when a batch is given back |
/// |---|---|---|---|
/// | `Exclusive` | one instance; the broker refuses any other | of the partition | goes on behind the settled prefix |
/// | `Failover` | one instance, the others stand by | of the partition | the same, in whichever instance is next |
/// | `Shared` | all at the same time | none | what was not settled comes again, to any instance, behind newer messages |
/// | `Key_Shared` | all; each key goes to one | of each key, as long as no instance comes, goes or gives something back | the same |
///
/// The broker finds the key of a whole entry in front of it. `Key_Shared` therefore keeps order only of messages whose producers
/// batch by key (`BatcherBuilder.KEY_BASED`) or not at all; what Trestle itself writes in batches has many keys and no such order.
///
/// With `Shared` and `Key_Shared` each message is acknowledged on its own. A chunked message may be spread over several
/// instances there and so is not put together: each chunk comes as a defect that says so. And an instance's own messages come
/// again, perhaps to another one, while it still delivers them, when its connection breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SubscriptionType {
    Exclusive,
    #[default]
    Failover,
    Shared,
    KeyShared,
}

impl SubscriptionType {
    const ALL: [(SubscriptionType, &str, SubType); 4] = [
        (SubscriptionType::Exclusive, "Exclusive", SubType::Exclusive),
        (SubscriptionType::Failover, "Failover", SubType::Failover),
        (SubscriptionType::Shared, "Shared", SubType::Shared),
        (SubscriptionType::KeyShared, "Key_Shared", SubType::KeyShared),
    ];

    fn parse(text: &str) -> Option<SubscriptionType> {
        Self::ALL.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text)).map(|(it, ..)| *it)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(it, ..)| *it == self).map_or("", |(_, name, _)| name)
    }

    /// As the protocol says it.
    pub fn protocol(self) -> SubType {
        Self::ALL.iter().find(|(it, ..)| *it == self).map_or(SubType::Failover, |(.., sub_type)| *sub_type)
    }

    /// Several instances read one partition at the same time.
    pub fn is_spread(self) -> bool {
        matches!(self, SubscriptionType::Shared | SubscriptionType::KeyShared)
    }
}

/// - `receiverQueueSize`: messages on their way for a partition. Without it [`RECEIVER_QUEUE`], or as many as 1 MiB holds
///   where messages are small. What the pipeline grants in bytes bounds it further.
/// - `subscriptionType`: see [`SubscriptionType`]; large and small letters are the same.
/// - `ackTimeoutMillis` (30 s in other clients): a message that nobody holds for so long is delivered again. Here the
///   pipeline says at once when it lets go of a message, and it is asked for again at once; one that a lane still holds is
///   never asked for, so no timer could find anything. Taken for the sake of its name, and without effect.
/// - `negativeAckRedeliveryDelayMicros`: how long a message that was given back waits where order does not matter. Here what is
///   given back comes again by another consumer in place of the one before, at this source's pace. Without effect as well.
/// - `trestle.schema`: `keep` (the default) has the schema of typed messages travel as a header, `leave` does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub receiver_queue: Option<u32>,
    pub subscription_type: SubscriptionType,
    pub keep_schemas: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { receiver_queue: None, subscription_type: SubscriptionType::default(), keep_schemas: true }
    }
}

impl Options {
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Options, Fault> {
        let mut parsed = Options::default();
        for (name, value) in options {
            let number = || value.parse::<u64>().map_err(|_| illegal(format!("`{name}: {value}` is not a number")));
            match name.as_str() {
                "receiverQueueSize" => {
                    let size = u32::try_from(number()?).ok().filter(|size| (1..=RECEIVER_QUEUE_MOST).contains(size));
                    let size = size.ok_or_else(|| illegal(format!("`{name}` is from 1 to {RECEIVER_QUEUE_MOST}")))?;
                    parsed.receiver_queue = Some(size);
                }
                "subscriptionType" => {
                    let names = SubscriptionType::ALL.map(|(_, name, _)| name).join(", ");
                    let wrong = || illegal(format!("`{name}: {value}` is none of {names}"));
                    parsed.subscription_type = SubscriptionType::parse(value).ok_or_else(wrong)?;
                }
                schema::OPTION => parsed.keep_schemas = schema::option(Some(value), "keep").map_err(illegal)?,
                "ackTimeoutMillis" | "negativeAckRedeliveryDelayMicros" => drop(number()?),
                _ => {
                    let known = NAMES.join(", ");
                    return Err(illegal(format!("`{name}` is no option of a Pulsar source; there are {known}")));
                }
            }
        }
        Ok(parsed)
    }
}

pub(crate) fn illegal(detail: String) -> Fault {
    Fault::new(FaultKind::Rejected(Cause::IllegalProperty), Scope::Cluster, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<Options, Fault> {
        Options::parse(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn what_is_no_option_is_refused_by_name() {
        assert_eq!(parse("receiverQueueSize", "7").unwrap().receiver_queue, Some(7));
        assert_eq!(parse("ackTimeoutMillis", "30000").unwrap(), Options::default());
        for name in NAMES {
            let value = match *name {
                "subscriptionType" => "Shared",
                schema::OPTION => "leave",
                _ => "1",
            };
            assert!(parse(name, value).is_ok(), "{name}");
        }
        for (name, value) in
            [("receiverQueueSize", "0"), ("receiverQueueSize", "x"), ("receiverqueuesize", "1"), (schema::OPTION, "no")]
        {
            assert!(parse(name, value).unwrap_err().detail.contains(name), "{name}");
        }
    }

    #[test]
    fn a_subscription_type_is_named_as_by_javas_client_in_letters_of_any_case() {
        for (value, is) in [
            ("Exclusive", SubscriptionType::Exclusive),
            ("failover", SubscriptionType::Failover),
            ("SHARED", SubscriptionType::Shared),
            ("Key_shared", SubscriptionType::KeyShared),
        ] {
            assert_eq!(parse("subscriptionType", value).unwrap().subscription_type, is);
            assert!(is.name().eq_ignore_ascii_case(value));
        }
        assert_eq!(Options::default().subscription_type, SubscriptionType::Failover);
        let refused = parse("subscriptionType", "KeyShared").unwrap_err();
        assert!(refused.detail.contains("Exclusive, Failover, Shared, Key_Shared"), "{refused}");
    }
}
