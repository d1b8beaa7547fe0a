//! What `options:` of a Pulsar topic that is read may say, by the Java client's names.

use std::collections::BTreeMap;

use trestle_core::{Cause, Fault, FaultKind, Scope};

/// Messages that may be on their way for a partition unless `receiverQueueSize` says otherwise.
pub(super) const RECEIVER_QUEUE: u32 = 100;
/// As many as these bytes hold where messages are small.
pub(super) const RECEIVER_QUEUE_BYTES: u64 = 1 << 20;
/// And never more than this.
pub(crate) const RECEIVER_QUEUE_MOST: u32 = 1_000;

/// Every name.
pub(crate) const NAMES: &[&str] = &["receiverQueueSize", "ackTimeoutMillis", "negativeAckRedeliveryDelayMicros"];

/// - `receiverQueueSize`: messages on their way for a partition. Without it [`RECEIVER_QUEUE`], or as many as 1 MiB holds
///   where messages are small. What the pipeline grants in bytes bounds it further.
/// - `ackTimeoutMillis` (30 s in other clients): a message that nobody holds for so long is delivered again. Here the
///   pipeline says at once when it lets go of a message, and it is asked for again at once; one that a lane still holds is
///   never asked for, so no timer could find anything. Taken for the sake of its name, and without effect.
/// - `negativeAckRedeliveryDelayMicros`: how long a message that was given back waits where order does not matter. A
///   failover subscription keeps order, so it does not wait. Without effect as well.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub receiver_queue: Option<u32>,
}

impl Options {
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Options, Fault> {
        let mut parsed = Options::default();
        for (name, value) in options {
            let number = value.parse::<u64>().map_err(|_| illegal(format!("`{name}: {value}` is not a number")))?;
            match name.as_str() {
                "receiverQueueSize" => {
                    let size = u32::try_from(number).ok().filter(|size| (1..=RECEIVER_QUEUE_MOST).contains(size));
                    let size = size.ok_or_else(|| illegal(format!("`{name}` is from 1 to {RECEIVER_QUEUE_MOST}")))?;
                    parsed.receiver_queue = Some(size);
                }
                "ackTimeoutMillis" | "negativeAckRedeliveryDelayMicros" => {}
                _ => {
                    let known = NAMES.join(", ");
                    return Err(illegal(format!("`{name}` is no option of a Pulsar source; there are {known}")));
                }
            }
        }
        Ok(parsed)
    }
}

fn illegal(detail: String) -> Fault {
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
            assert!(parse(name, "1").is_ok(), "{name}");
        }
        for (name, value) in [("receiverQueueSize", "0"), ("receiverQueueSize", "x"), ("receiverqueuesize", "1")] {
            assert!(parse(name, value).unwrap_err().detail.contains(name), "{name}");
        }
    }
}
