//! A member of a group at one broker, as its proxy knows it: settings once, a sign of life now and then, a farewell.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;

use super::{
    client::{CALL_LIMIT, CLIENT_VERSION, CallError, Client, broken, endpoints, granted},
    protocol::{
        ACKNOWLEDGE, AckEntry, AckRequest, AckResponse, Broker, CHANGE_INVISIBLE, ChangeInvisibleRequest,
        ChangeInvisibleResponse, Delivered, FilterExpression, HEARTBEAT, HeartbeatRequest, MessageQueue, RECEIVE, RUST,
        ReceiveRequest, ReceiveResponse, Resource, SIMPLE_CONSUMER, Settings, Span, StatusResponse, Subscription,
        SubscriptionEntry, TAG_EXPRESSION, TELEMETRY, TERMINATE, TelemetryCommand, TerminationRequest, UserAgent, code,
    },
};
use crate::remoting::Credentials;

/// So long a proxy holds a request for which it has no message. The least it allows
/// (`grpcClientConsumerMinLongPollingTimeoutMillis`): what is popped for a member that has just left comes late to the others.
const POLL: Duration = Duration::from_secs(5);
/// The limit for a receive: the poll, and the messages' way.
pub const RECEIVE_LIMIT: Duration = Duration::from_secs(10);

/// What a source asks for, at every broker the same.
#[derive(Clone, Debug)]
pub struct Membership {
    pub topic: String,
    pub group: String,
    /// A subscription as brokers are told of it.
    pub expression: String,
    /// A message that is received is nobody else's for so long.
    pub invisible: Duration,
    pub credentials: Option<Credentials>,
}

#[derive(Clone)]
pub struct Session {
    client: Client,
    membership: std::sync::Arc<Membership>,
    broker: String,
}

/// Ends when the proxy is gone, or forgets us.
pub struct Telemetry(Streaming<TelemetryCommand>);

impl Session {
    /// Connects to `address`, a proxy of `broker`, and makes itself known.
    pub async fn open(
        membership: std::sync::Arc<Membership>,
        broker: String,
        address: String,
        id: String,
    ) -> Result<(Session, Telemetry), CallError> {
        let client = Client::connect(&address, id, membership.credentials.clone()).await?;
        let settings = settings(&membership, &address);
        let first = TelemetryCommand { status: None, settings: Some(settings) };
        let mut telemetry = Telemetry(client.converse(TELEMETRY, first).await?);
        // The answer says that the settings are known: what comes before them is refused.
        let answer = timeout_at(Instant::now() + CALL_LIMIT, telemetry.0.next());
        match answer.await.map_err(|_| CallError::Silent(CALL_LIMIT))? {
            Some(Ok(command)) => granted(command.status)?,
            Some(Err(status)) => return Err(broken(status)),
            None => return Err(CallError::Unreachable("the proxy takes no settings".into())),
        }
        Ok((Session { client, membership, broker }, telemetry))
    }

    pub async fn heartbeat(&self) -> Result<(), CallError> {
        let request = HeartbeatRequest { group: self.group(), client_type: SIMPLE_CONSUMER };
        granted(self.client.call::<_, StatusResponse>(HEARTBEAT, request).await?.status)
    }

    /// Messages that came, at most `most` of them, and what ended their coming early.
    pub async fn receive(&self, most: usize) -> (Vec<Delivered>, Result<(), CallError>) {
        let request = ReceiveRequest {
            group: self.group(),
            queue: Some(MessageQueue {
                topic: self.topic(),
                broker: Some(Broker { name: self.broker.clone(), ..Broker::default() }),
                ..MessageQueue::default()
            }),
            filter: Some(filter(&self.membership)),
            batch_size: i32::try_from(most).unwrap_or(i32::MAX),
            invisible: Span::of(self.membership.invisible),
            auto_renew: false,
            long_polling_timeout: Span::of(POLL),
        };
        let deadline = Instant::now() + RECEIVE_LIMIT;
        let mut messages = Vec::new();
        let mut answers: Streaming<ReceiveResponse> =
            match self.client.call_for_many(RECEIVE, request, RECEIVE_LIMIT).await {
                Ok(answers) => answers,
                Err(error) => return (messages, Err(error)),
            };
        let mut status = None;
        loop {
            match timeout_at(deadline, answers.next()).await {
                Err(_) => return (messages, Err(CallError::Silent(RECEIVE_LIMIT))),
                Ok(Some(Err(error))) => return (messages, Err(broken(error))),
                Ok(Some(Ok(answer))) => {
                    messages.extend(answer.message);
                    status = answer.status.or(status);
                }
                Ok(None) => break,
            }
        }
        match status {
            Some(status) if status.code == code::MESSAGE_NOT_FOUND => (messages, Ok(())),
            status => (messages, granted(status)),
        }
    }

    /// An answer for each entry, in their order.
    pub async fn acknowledge(&self, entries: Vec<AckEntry>) -> Result<Vec<Result<(), CallError>>, CallError> {
        let handles: Vec<String> = entries.iter().map(|entry| entry.receipt_handle.clone()).collect();
        let request = AckRequest { group: self.group(), topic: self.topic(), entries };
        let mut answer: AckResponse = self.client.call(ACKNOWLEDGE, request).await?;
        if answer.entries.is_empty() {
            granted(answer.status)?;
        }
        let mut of = |handle: &String| {
            let at = answer.entries.iter().position(|entry| entry.receipt_handle == *handle);
            granted(at.and_then(|at| answer.entries.swap_remove(at).status))
        };
        Ok(handles.iter().map(&mut of).collect())
    }

    /// From now on the message is nobody else's for `invisible`; answers its new handle.
    pub async fn change_invisible(&self, entry: AckEntry, invisible: Duration) -> Result<String, CallError> {
        let request = ChangeInvisibleRequest {
            group: self.group(),
            topic: self.topic(),
            receipt_handle: entry.receipt_handle,
            invisible: Span::of(invisible),
            message_id: entry.message_id,
        };
        let answer: ChangeInvisibleResponse = self.client.call(CHANGE_INVISIBLE, request).await?;
        granted(answer.status).map(|()| answer.receipt_handle)
    }

    pub async fn farewell(&self) -> Result<(), CallError> {
        let request = TerminationRequest { group: self.group() };
        granted(self.client.call::<_, StatusResponse>(TERMINATE, request).await?.status)
    }

    fn group(&self) -> Option<Resource> {
        Resource::named(&self.membership.group)
    }

    fn topic(&self) -> Option<Resource> {
        Resource::named(&self.membership.topic)
    }
}

impl Telemetry {
    /// Why it ended. What a proxy says here is for clients that run a user's code.
    pub async fn ended(mut self) -> String {
        loop {
            match self.0.next().await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return broken(status).to_string(),
                None => return "the proxy ended the session".into(),
            }
        }
    }
}

fn settings(membership: &Membership, address: &str) -> Settings {
    let entry = SubscriptionEntry { topic: Resource::named(&membership.topic), expression: Some(filter(membership)) };
    let subscription = Subscription {
        group: Resource::named(&membership.group),
        subscriptions: vec![entry],
        long_polling_timeout: Span::of(POLL),
    };
    Settings {
        client_type: Some(SIMPLE_CONSUMER),
        access_point: endpoints(address),
        request_timeout: Span::of(CALL_LIMIT),
        subscription: Some(subscription),
        user_agent: Some(UserAgent { language: RUST, version: CLIENT_VERSION.into() }),
    }
}

fn filter(membership: &Membership) -> FilterExpression {
    FilterExpression { kind: TAG_EXPRESSION, expression: membership.expression.clone() }
}
