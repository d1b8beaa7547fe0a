//! What is said with a proxy to read from it (`apache/rocketmq-apis`: `service.proto`, `definition.proto`). Fields that are
//! neither written nor looked at are left out; the protocol allows that.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

pub const QUERY_ROUTE: &str = "/apache.rocketmq.v2.MessagingService/QueryRoute";
pub const TELEMETRY: &str = "/apache.rocketmq.v2.MessagingService/Telemetry";
pub const HEARTBEAT: &str = "/apache.rocketmq.v2.MessagingService/Heartbeat";
pub const RECEIVE: &str = "/apache.rocketmq.v2.MessagingService/ReceiveMessage";
pub const ACKNOWLEDGE: &str = "/apache.rocketmq.v2.MessagingService/AckMessage";
pub const CHANGE_INVISIBLE: &str = "/apache.rocketmq.v2.MessagingService/ChangeInvisibleDuration";
pub const TERMINATE: &str = "/apache.rocketmq.v2.MessagingService/NotifyClientTermination";

/// `enum ClientType`: receives when it asks to.
pub const SIMPLE_CONSUMER: i32 = 3;
/// `enum FilterType`.
pub const TAG_EXPRESSION: i32 = 1;
/// `enum Language`.
pub const RUST: i32 = 5;
/// `enum AddressScheme`.
pub const IPV4: i32 = 1;
pub const IPV6: i32 = 2;
pub const DOMAIN_NAME: i32 = 3;

/// `enum Encoding`; the body is as the producer made it.
pub const UNSPECIFIED: i32 = 0;
pub const IDENTITY: i32 = 1;
/// Compressed, whatever with.
pub const GZIP: i32 = 2;

/// `enum DigestType`.
pub const CRC32: i32 = 1;
pub const MD5: i32 = 2;
pub const SHA1: i32 = 3;

/// `enum Code`.
pub mod code {
    pub const OK: i32 = 20_000;
    pub const ILLEGAL_TOPIC: i32 = 40_002;
    pub const ILLEGAL_CONSUMER_GROUP: i32 = 40_003;
    pub const INVALID_RECEIPT_HANDLE: i32 = 40_013;
    pub const UNRECOGNIZED_CLIENT_TYPE: i32 = 40_015;
    pub const UNAUTHORIZED: i32 = 40_100;
    pub const FORBIDDEN: i32 = 40_300;
    pub const MESSAGE_NOT_FOUND: i32 = 40_401;
    pub const TOPIC_NOT_FOUND: i32 = 40_402;
    pub const CONSUMER_GROUP_NOT_FOUND: i32 = 40_403;
    pub const TOO_MANY_REQUESTS: i32 = 42_900;
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(string, tag = "2")]
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// A duration, or a time since 1970-01-01T00:00Z.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub struct Address {
    #[prost(string, tag = "1")]
    pub host: String,
    #[prost(int32, tag = "2")]
    pub port: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Endpoints {
    #[prost(int32, tag = "1")]
    pub scheme: i32,
    #[prost(message, repeated, tag = "2")]
    pub addresses: Vec<Address>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Broker {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "2")]
    pub id: i32,
    #[prost(message, optional, tag = "3")]
    pub endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Message)]
pub struct MessageQueue {
    #[prost(message, optional, tag = "1")]
    pub topic: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub id: i32,
    #[prost(int32, tag = "3")]
    pub permission: i32,
    #[prost(message, optional, tag = "4")]
    pub broker: Option<Broker>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FilterExpression {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub expression: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Digest {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub checksum: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SystemProperties {
    #[prost(string, optional, tag = "1")]
    pub tag: Option<String>,
    #[prost(string, repeated, tag = "2")]
    pub keys: Vec<String>,
    #[prost(string, tag = "3")]
    pub message_id: String,
    #[prost(message, optional, tag = "4")]
    pub body_digest: Option<Digest>,
    #[prost(int32, tag = "5")]
    pub body_encoding: i32,
    #[prost(message, optional, tag = "7")]
    pub born: Option<Span>,
    #[prost(message, optional, tag = "11")]
    pub deliver_at: Option<Span>,
    #[prost(string, optional, tag = "12")]
    pub receipt_handle: Option<String>,
    /// 1 the first time.
    #[prost(int32, optional, tag = "16")]
    pub delivery_attempt: Option<i32>,
    #[prost(string, optional, tag = "17")]
    pub message_group: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Delivered {
    /// What the protocol itself does not name.
    #[prost(btree_map = "string, string", tag = "2")]
    pub user_properties: BTreeMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub system_properties: Option<SystemProperties>,
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryRouteRequest {
    #[prost(message, optional, tag = "1")]
    pub topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryRouteResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub queues: Vec<MessageQueue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UserAgent {
    #[prost(int32, tag = "1")]
    pub language: i32,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SubscriptionEntry {
    #[prost(message, optional, tag = "1")]
    pub topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub expression: Option<FilterExpression>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Subscription {
    #[prost(message, optional, tag = "1")]
    pub group: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub subscriptions: Vec<SubscriptionEntry>,
    #[prost(message, optional, tag = "5")]
    pub long_polling_timeout: Option<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Settings {
    #[prost(int32, optional, tag = "1")]
    pub client_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub access_point: Option<Endpoints>,
    #[prost(message, optional, tag = "4")]
    pub request_timeout: Option<Span>,
    #[prost(message, optional, tag = "6")]
    pub subscription: Option<Subscription>,
    #[prost(message, optional, tag = "7")]
    pub user_agent: Option<UserAgent>,
}

/// Both ways. What else a proxy may say is for clients that run a user's code.
#[derive(Clone, PartialEq, Message)]
pub struct TelemetryCommand {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub settings: Option<Settings>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HeartbeatRequest {
    #[prost(message, optional, tag = "1")]
    pub group: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub client_type: i32,
}

/// The answer to a heartbeat, and to a farewell.
#[derive(Clone, PartialEq, Message)]
pub struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TerminationRequest {
    #[prost(message, optional, tag = "1")]
    pub group: Option<Resource>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ReceiveRequest {
    #[prost(message, optional, tag = "1")]
    pub group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub queue: Option<MessageQueue>,
    #[prost(message, optional, tag = "3")]
    pub filter: Option<FilterExpression>,
    #[prost(int32, tag = "4")]
    pub batch_size: i32,
    #[prost(message, optional, tag = "5")]
    pub invisible: Option<Span>,
    #[prost(bool, tag = "6")]
    pub auto_renew: bool,
    #[prost(message, optional, tag = "7")]
    pub long_polling_timeout: Option<Span>,
}

/// One of several: a status, each message, the time.
#[derive(Clone, PartialEq, Message)]
pub struct ReceiveResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub message: Option<Delivered>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AckEntry {
    #[prost(string, tag = "1")]
    pub message_id: String,
    #[prost(string, tag = "2")]
    pub receipt_handle: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct AckRequest {
    #[prost(message, optional, tag = "1")]
    pub group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub topic: Option<Resource>,
    #[prost(message, repeated, tag = "3")]
    pub entries: Vec<AckEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AckResult {
    #[prost(string, tag = "1")]
    pub message_id: String,
    #[prost(string, tag = "2")]
    pub receipt_handle: String,
    #[prost(message, optional, tag = "3")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AckResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<AckResult>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ChangeInvisibleRequest {
    #[prost(message, optional, tag = "1")]
    pub group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub topic: Option<Resource>,
    #[prost(string, tag = "3")]
    pub receipt_handle: String,
    #[prost(message, optional, tag = "4")]
    pub invisible: Option<Span>,
    #[prost(string, tag = "5")]
    pub message_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ChangeInvisibleResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// In place of the one before.
    #[prost(string, tag = "2")]
    pub receipt_handle: String,
}

impl Resource {
    pub fn named(name: &str) -> Option<Resource> {
        Some(Resource { name: name.to_owned() })
    }
}

impl Span {
    pub fn of(duration: std::time::Duration) -> Option<Span> {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Some(Span { seconds, nanos: duration.subsec_nanos().cast_signed() })
    }

    pub fn millis(&self) -> i64 {
        self.seconds.saturating_mul(1_000).saturating_add(i64::from(self.nanos) / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field numbers and types as a Java proxy writes them, byte by byte.
    #[test]
    fn a_delivered_message_is_read_from_the_bytes_of_the_protocol() {
        let mut system = b"\x0A\x03red".to_vec(); // tag = 1
        system.extend(b"\x12\x02k1\x12\x02k2"); // keys = 2
        system.extend(b"\x1A\x02id"); // message_id = 3
        system.extend(b"\x22\x06\x08\x02\x12\x02AB"); // body_digest = 4 { MD5, "AB" }
        system.extend(b"\x28\x02"); // body_encoding = 5
        system.extend(b"\x3A\x06\x08\x05\x10\xC0\x84\x3D"); // born_timestamp = 7 { 5 s, 1,000,000 ns }
        system.extend(b"\x62\x01h\x80\x01\x03"); // receipt_handle = 12, delivery_attempt = 16
        let mut message = b"\x12\x06\x0A\x01k\x12\x01v\x1A".to_vec(); // user_properties = 2, system_properties = 3
        message.push(system.len() as u8);
        message.extend(&system);
        message.extend(b"\x22\x02\x00\xFF"); // body = 4
        let mut response = vec![0x12, message.len() as u8]; // message = 2
        response.extend(&message);
        let read = ReceiveResponse::decode(&response[..]).unwrap().message.unwrap();
        let system = read.system_properties.unwrap();
        assert_eq!(read.user_properties, BTreeMap::from([("k".to_owned(), "v".to_owned())]));
        assert_eq!((&read.body[..], system.tag.as_deref()), (&b"\x00\xFF"[..], Some("red")));
        assert_eq!((system.keys.join(" "), system.message_id.as_str()), ("k1 k2".to_owned(), "id"));
        assert_eq!(system.body_digest, Some(Digest { kind: MD5, checksum: "AB".into() }));
        assert_eq!((system.body_encoding, system.born.unwrap().millis()), (GZIP, 5_001));
        assert_eq!((system.receipt_handle.as_deref(), system.delivery_attempt), (Some("h"), Some(3)));
    }

    #[test]
    fn a_time_before_1970_and_one_beyond_all_times_are_no_panic() {
        assert_eq!(Span { seconds: -1, nanos: 0 }.millis(), -1_000);
        assert_eq!(Span { seconds: i64::MAX, nanos: i32::MAX }.millis(), i64::MAX);
    }
}
