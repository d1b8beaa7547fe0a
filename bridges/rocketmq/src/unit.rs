//! One send's messages, written as the requests that carry them.

use bytes::{Bytes, BytesMut};
use trestle_core::{Cause, Fault, Message, Slice};

use crate::{
    stamp::Stamps,
    translate::{self, Extras},
    wire,
};

/// What the broker takes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// `maxMessageSize`: of a body, and of a whole batch.
    pub body: usize,
    pub properties: usize,
}

/// Of `maxMessageSize`, where the broker does not say it (`MessageStoreConfig.java`).
pub const DEFAULT_BODY_BYTES: usize = 4 << 20;
/// Properties are a 16-bit signed length in the store.
const MOST_PROPERTY_BYTES: usize = 32_767;
/// `__CRC32#`, a number and two separators, which some brokers append.
const CHECKSUM_BYTES: usize = 20;
/// UNIQ_KEY, which the broker adds to a message that is not sent in a batch.
const UNIQUE_BYTES: usize = 48;
/// What a message with a delay gets until it is due: REAL_TOPIC (127 bytes at most), REAL_QID and the timer's properties. With
/// no room for it the broker would drop the message when it is due (`TimerMessageStore.doPut`).
const DELAY_BYTES: usize = 384;

impl Sizes {
    /// `cluster`: the broker appends it to the properties.
    pub fn new(max_message_size: Option<u64>, cluster: &str) -> Self {
        let appended = "CLUSTER".len() + cluster.len() + 3 + CHECKSUM_BYTES;
        let body = max_message_size.map_or(DEFAULT_BODY_BYTES, |size| size as usize);
        Sizes { body, properties: MOST_PROPERTY_BYTES.saturating_sub(appended) }
    }

    /// Bytes of one batch request at most: well under what the broker takes, and under the 8 MB above which its answer
    /// tells nothing.
    pub fn request(&self) -> usize {
        self.body.min(DEFAULT_BODY_BYTES) / 8 * 7
    }
}

/// One request, and how many messages it carries.
pub struct Request {
    pub messages: usize,
    pub body: Bytes,
    /// A message too large for a batch, or with a delay: its properties, sent beside the body.
    pub single: Option<Bytes>,
}

/// The unit as requests in order, up to the first message that no broker would take, and the fault of that one.
pub fn requests(unit: &[Slice], sizes: Sizes, stamps: &Stamps) -> (Vec<Request>, Option<Fault>) {
    let mut requests = Vec::new();
    let bytes: usize = unit.iter().map(Slice::bytes).sum();
    let mut open = Open { body: BytesMut::with_capacity(bytes.min(sizes.request())), messages: 0 };
    let mut properties = BytesMut::new();
    for slice in unit {
        for message in slice.iter() {
            let id = || format!("{}/{}/{}", stamps.route, slice.batch().partition, message.position);
            let id = stamps.options.id.then(id);
            properties.clear();
            let alone = match check(message, sizes, stamps, id.as_deref(), &mut properties) {
                Ok(alone) => alone,
                Err(fault) => {
                    open.close(&mut requests);
                    return (requests, Some(fault));
                }
            };
            let body = translate::body(message);
            if alone {
                open.close(&mut requests);
                let body = Bytes::copy_from_slice(body);
                requests.push(Request { messages: 1, body, single: Some(Bytes::copy_from_slice(&properties)) });
                continue;
            }
            if open.body.len() + body.len() + properties.len() + 64 > sizes.request() {
                open.close(&mut requests);
            }
            wire::put_item(&mut open.body, body, &properties);
            open.messages += 1;
        }
    }
    open.close(&mut requests);
    (requests, None)
}

struct Open {
    body: BytesMut,
    messages: usize,
}

impl Open {
    fn close(&mut self, requests: &mut Vec<Request>) {
        if self.messages > 0 {
            requests.push(Request { messages: self.messages, body: self.body.split().freeze(), single: None });
            self.messages = 0;
        }
    }
}

/// Writes the properties, and says whether the message has to be sent by itself: batches are no place for large ones, nor for
/// those with a delay, which the broker would overlook there (`DefaultMessageStore.asyncPutMessages`).
fn check(
    message: &Message,
    sizes: Sizes,
    stamps: &Stamps,
    id: Option<&str>,
    properties: &mut BytesMut,
) -> Result<bool, Fault> {
    let value = translate::body(message).len();
    if value > sizes.body {
        let detail = format!("a value of {value} bytes; the broker takes {} (maxMessageSize)", sizes.body);
        return Err(Fault::rejected(Cause::TooLarge, detail));
    }
    let stamp = stamps.stamp(message)?;
    let delayed = stamp.delay.is_some();
    let alone = delayed || value + sizes.properties > sizes.request();
    translate::write_properties(message, Extras { stamp, id, unordered: alone }, properties)
        .map_err(|error| Fault::rejected(Cause::Untranslatable, error))?;
    let room = if alone { UNIQUE_BYTES } else { 0 } + if delayed { DELAY_BYTES } else { 0 };
    let most = sizes.properties.saturating_sub(room);
    if properties.len() > most {
        let detail = format!("key and headers come to {} bytes of properties; RocketMQ takes {most}", properties.len());
        return Err(Fault::rejected(Cause::IllegalProperty, detail));
    }
    Ok(alone)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use trestle_core::{FaultKind, Headers, PartitionId, Position, Scope, Tracker};

    use super::*;
    use crate::{sink_options::SinkOptions, stamp::DEFAULT_LEVELS};

    fn unit(values: &[usize], header_bytes: usize) -> Vec<Slice> {
        let message = |(offset, length): (usize, &usize)| {
            let mut headers = Headers::default();
            headers.push("h", Some(vec![b'x'; header_bytes].into()));
            let value = Some(vec![b'v'; *length].into());
            Message {
                key: None,
                value,
                headers,
                time: Some(1),
                position: Position::Offset(offset as u64),
                defect: None,
            }
        };
        let messages = values.iter().enumerate().map(message).collect();
        let tracker = Tracker::new(PartitionId(3), || {});
        vec![Slice::whole(Arc::new(tracker.admit(messages).unwrap()))]
    }

    fn stamps(options: &[(&str, &str)]) -> Stamps {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Stamps { options: SinkOptions::read(&options).unwrap(), route: "orders".into(), levels: DEFAULT_LEVELS }
    }

    fn sizes() -> Sizes {
        Sizes::new(None, "DefaultCluster")
    }

    #[test]
    fn a_request_stays_well_under_what_the_broker_takes() {
        let (requests, fault) = requests(&unit(&[1 << 20; 9], 10), sizes(), &stamps(&[]));
        assert!(fault.is_none());
        assert_eq!(requests.iter().map(|r| r.messages).collect::<Vec<_>>(), [3, 3, 3]);
        assert!(requests.iter().all(|r| r.body.len() < DEFAULT_BODY_BYTES));
    }

    #[test]
    fn a_message_too_large_for_a_batch_travels_alone_and_in_order() {
        let (requests, fault) = requests(&unit(&[10, DEFAULT_BODY_BYTES, 10], 10), sizes(), &stamps(&[]));
        assert!(fault.is_none());
        assert_eq!(
            requests.iter().map(|r| (r.messages, r.single.is_some())).collect::<Vec<_>>(),
            [(1, false), (1, true), (1, false)]
        );
    }

    #[test]
    fn a_message_that_no_broker_takes_cuts_the_unit_there() {
        let (requests_before, fault) =
            requests(&unit(&[10, 10, DEFAULT_BODY_BYTES + 1, 10], 10), sizes(), &stamps(&[]));
        let fault = fault.unwrap();
        assert_eq!((fault.kind, fault.scope), (FaultKind::Rejected(Cause::TooLarge), Scope::Message));
        assert_eq!(requests_before.iter().map(|r| r.messages).sum::<usize>(), 2);
        let (requests, fault) = requests(&unit(&[10], 32_760), sizes(), &stamps(&[]));
        assert_eq!(fault.unwrap().kind, FaultKind::Rejected(Cause::IllegalProperty));
        assert!(requests.is_empty());
    }

    #[test]
    fn the_id_is_made_of_route_partition_and_position() {
        let stamps = stamps(&[("trestleId", "true")]);
        let (requests, _) = requests(&unit(&[10, 10], 1), sizes(), &stamps);
        let body = String::from_utf8_lossy(&requests[0].body).into_owned();
        assert!(body.contains("trestle-id\u{1}orders/3/0\u{2}") && body.contains("trestle-id\u{1}orders/3/1\u{2}"));
    }

    #[test]
    fn a_message_with_a_delay_travels_alone_and_leaves_room_for_what_the_broker_adds() {
        let (requests_now, fault) = requests(&unit(&[10, 10], 1), sizes(), &stamps(&[("delayLevel", "header:h")]));
        assert!(fault.unwrap().detail.contains("delayLevel") && requests_now.is_empty(), "`x` is no level");
        let delayed = stamps(&[("delayLevel", "constant:1")]);
        let (all, fault) = requests(&unit(&[10, 10], 1), sizes(), &delayed);
        assert!(fault.is_none());
        assert_eq!(all.iter().map(|r| (r.messages, r.single.is_some())).collect::<Vec<_>>(), [(1, true), (1, true)]);
        let just = 32_500;
        assert!(requests(&unit(&[10], just), sizes(), &stamps(&[])).1.is_none());
        assert!(requests(&unit(&[10], just), sizes(), &delayed).1.is_some());
    }
}
