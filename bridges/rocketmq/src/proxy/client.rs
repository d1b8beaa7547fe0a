//! A gRPC client for reading. Apache's own hands out compressed bodies as if they were plain, cannot hold a message back for
//! longer, and stays silent for good after a proxy was restarted. Every call is bounded in time, and every answer in size.

use std::{fmt, time::Duration};

use futures::{StreamExt, future, stream};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha1::Sha1;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout;
use tonic::{
    Request, Response, Streaming,
    client::Grpc,
    codec::ProstCodec,
    codegen::http::uri::PathAndQuery,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};

use super::protocol::{self, Address, Endpoints, Status, code};
use crate::remoting::Credentials;

/// For connecting, and for the answer to anything but a receive.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);
/// An answer of more bytes breaks the call it belongs to. Far beyond what brokers store by default (`maxMessageSize`, 4 MiB).
const MOST_ANSWER_BYTES: usize = 64 << 20;
/// Of the protocol (`x-mq-client-version`): what a proxy compares to know what a client understands.
pub const CLIENT_VERSION: &str = "5.0.3";
const PROTOCOL_VERSION: &str = "2.0.0";

/// One client as a proxy knows it, with a connection of its own.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    id: String,
    credentials: Option<Credentials>,
}

#[derive(Debug)]
pub enum CallError {
    Silent(Duration),
    /// No connection, or it was lost, or what came was no answer.
    Broken(Box<tonic::Status>),
    Unreachable(String),
    /// The proxy refuses, and says why.
    Refused {
        code: i32,
        message: String,
    },
}

impl CallError {
    /// Whether the connection is of no more use.
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            CallError::Refused { code, .. } => *code == code::UNRECOGNIZED_CLIENT_TYPE,
            _ => true,
        }
    }

    pub fn is_refused_with(&self, code: i32) -> bool {
        matches!(self, CallError::Refused { code: said, .. } if *said == code)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Silent(limit) => write!(f, "no answer in {limit:?}"),
            CallError::Broken(status) => write!(f, "{:?}: {}", status.code(), status.message()),
            CallError::Unreachable(why) => f.write_str(why),
            CallError::Refused { code, message } => write!(f, "{message} (code {code})"),
        }
    }
}

impl Client {
    /// Connects to `HOST:PORT`. `id` is different for every client there is.
    pub async fn connect(address: &str, id: String, credentials: Option<Credentials>) -> Result<Client, CallError> {
        let unreachable = |error: tonic::transport::Error| {
            // Its own words say nothing but that there was an error.
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            CallError::Unreachable(cause)
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
        let endpoint = endpoint.connect_timeout(CALL_LIMIT).tcp_nodelay(true);
        let channel = timeout(CALL_LIMIT, endpoint.connect()).await.map_err(|_| CallError::Silent(CALL_LIMIT))?;
        Ok(Client { channel: channel.map_err(unreachable)?, id, credentials })
    }

    /// One request, one answer, in [`CALL_LIMIT`].
    pub async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, CallError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let codec = ProstCodec::<Q, A>::default();
            let request = self.signed(request, Some(CALL_LIMIT));
            self.ready().await?.unary(request, PathAndQuery::from_static(path), codec).await.map_err(broken)
        };
        within(CALL_LIMIT, call).await.map(Response::into_inner)
    }

    /// One request, several answers, all of them in `limit`.
    pub async fn call_for_many<Q, A>(
        &self,
        path: &'static str,
        request: Q,
        limit: Duration,
    ) -> Result<Streaming<A>, CallError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let codec = ProstCodec::<Q, A>::default();
            let request = self.signed(request, Some(limit));
            self.ready().await?.server_streaming(request, PathAndQuery::from_static(path), codec).await.map_err(broken)
        };
        within(limit, call).await.map(Response::into_inner)
    }

    /// Says one thing, and then nothing more, for as long as the answers are listened to.
    pub async fn converse<M>(&self, path: &'static str, first: M) -> Result<Streaming<M>, CallError>
    where
        M: Message + Default + 'static,
    {
        let call = async {
            let codec = ProstCodec::<M, M>::default();
            let said = stream::once(future::ready(first)).chain(stream::pending());
            let request = self.signed(said, None);
            self.ready().await?.streaming(request, PathAndQuery::from_static(path), codec).await.map_err(broken)
        };
        within(CALL_LIMIT, call).await.map(Response::into_inner)
    }

    async fn ready(&self) -> Result<Grpc<Channel>, CallError> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MOST_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| CallError::Unreachable(error.to_string()))?;
        Ok(grpc)
    }

    fn signed<T>(&self, message: T, limit: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        sign(request.metadata_mut(), &self.id, self.credentials.as_ref(), &now);
        request
    }
}

/// Who asks, and the proof: HMAC-SHA1 of the time (`MQv2-HMAC-SHA1`).
fn sign(metadata: &mut MetadataMap, id: &str, credentials: Option<&Credentials>, now: &str) {
    let mut insert = |name: &'static str, value: &str| {
        // Text that no header takes is left out: the proxy then says what it misses.
        if let Ok(value) = AsciiMetadataValue::try_from(value) {
            metadata.insert(name, value);
        }
    };
    insert("x-mq-client-id", id);
    insert("x-mq-language", "RUST");
    insert("x-mq-client-version", CLIENT_VERSION);
    insert("x-mq-protocol-version", PROTOCOL_VERSION);
    insert("x-mq-date-time", now);
    let Some(Credentials { access_key, secret_key }) = credentials else { return };
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret_key.as_bytes()) else { return };
    mac.update(now.as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let scheme = format!("MQv2-HMAC-SHA1 Credential={access_key}, SignedHeaders=x-mq-date-time, Signature={signature}");
    insert("authorization", &scheme);
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    timeout(limit, call).await.unwrap_or(Err(CallError::Silent(limit)))
}

pub fn broken(status: tonic::Status) -> CallError {
    CallError::Broken(Box::new(status))
}

/// An answer's status, which every answer has.
pub fn granted(status: Option<Status>) -> Result<(), CallError> {
    match status {
        Some(Status { code: code::OK, .. }) => Ok(()),
        Some(Status { code, message }) => Err(CallError::Refused { code, message }),
        None => Err(CallError::Refused { code: 0, message: "an answer without a status".into() }),
    }
}

/// An address as the protocol wants to have it.
pub fn endpoints(address: &str) -> Option<Endpoints> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let scheme = match host.parse() {
        Ok(std::net::IpAddr::V4(_)) => protocol::IPV4,
        Ok(std::net::IpAddr::V6(_)) => protocol::IPV6,
        Err(_) => protocol::DOMAIN_NAME,
    };
    let address = Address { host: host.to_owned(), port: i32::from(port.parse::<u16>().ok()?) };
    Some(Endpoints { scheme, addresses: vec![address] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_time_and_without_credentials_there_is_none() {
        let credentials = Credentials { access_key: "ak".into(), secret_key: "secret".into() };
        let mut metadata = MetadataMap::new();
        sign(&mut metadata, "me", Some(&credentials), "2026-01-31T12:00:00Z");
        // printf '2026-01-31T12:00:00Z' | openssl dgst -sha1 -hmac secret
        assert_eq!(
            metadata.get("authorization").unwrap(),
            "MQv2-HMAC-SHA1 Credential=ak, SignedHeaders=x-mq-date-time, Signature=16002419a39af8285dbd6b26b6a8b34834ea1a7e"
        );
        assert_eq!(metadata.get("x-mq-client-id").unwrap(), "me");
        let mut metadata = MetadataMap::new();
        sign(&mut metadata, "me\n", None, "now");
        assert!(metadata.get("authorization").is_none() && metadata.get("x-mq-client-id").is_none());
    }

    #[test]
    fn addresses_are_told_with_their_kind() {
        let kind = |address| endpoints(address).map(|e| (e.scheme, e.addresses[0].host.clone(), e.addresses[0].port));
        assert_eq!(kind("127.0.0.1:8081"), Some((protocol::IPV4, "127.0.0.1".into(), 8081)));
        assert_eq!(kind("[::1]:8081"), Some((protocol::IPV6, "::1".into(), 8081)));
        assert_eq!(kind("proxy:8081"), Some((protocol::DOMAIN_NAME, "proxy".into(), 8081)));
        assert_eq!(kind("proxy"), None);
    }

    #[test]
    fn an_answer_is_granted_or_says_why_not() {
        assert!(granted(Some(Status { code: code::OK, message: String::new() })).is_ok());
        let refused = granted(Some(Status { code: code::FORBIDDEN, message: "no".into() })).unwrap_err();
        assert!(refused.is_refused_with(code::FORBIDDEN) && !refused.is_of_the_connection());
        assert!(granted(None).is_err());
    }
}
