//! One producer of the gRPC client, on a thread and a runtime of its own.
//!
//! When a send fails, all of it ends before the failure is told: the runtime is dropped with every task and connection of the
//! client, so that none of them can send what is sent again. What the system already has of it may still arrive: the client's
//! connections cannot be told to discard it.

use std::{fmt, future::Future, panic::AssertUnwindSafe, thread, time::Duration};

use futures::FutureExt;
use rocketmq::{
    Producer,
    conf::{ClientOption, ProducerOption},
    error::ClientError,
    model::message::MessageBuilder,
};
use tokio::{
    runtime::Builder,
    select,
    sync::{mpsc, oneshot},
    time::timeout,
};
use trestle_core::Fault;

use super::{classify, message::Outgoing};
use crate::remoting::Credentials;

/// For telling the proxy that the producer leaves.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Target {
    pub cluster: String,
    /// `HOST:PORT`
    pub address: String,
    pub credentials: Option<Credentials>,
    pub topic: String,
    /// For opening, for connecting and for sending one message.
    pub limit: Duration,
}

/// Open, and gone with the first failure of a send.
pub struct Link {
    jobs: mpsc::Sender<Job>,
    /// Closed once the thread has nothing left.
    ended: oneshot::Receiver<()>,
}

struct Job {
    messages: Vec<Outgoing>,
    answer: oneshot::Sender<Sends>,
}

/// How far a job came: the first `stored` messages are stored, and the next one met the failure.
pub struct Sends {
    pub stored: usize,
    pub failure: Option<Failure>,
}

#[derive(Debug)]
pub enum Failure {
    Client(ClientError),
    /// The client fell; with its last words.
    Fell(String),
    Silent(Duration),
    /// The thread or its runtime could not be had.
    NoThread(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Client(error) => error.fmt(f),
            Failure::Fell(words) => write!(f, "the gRPC client fell: {words}"),
            Failure::Silent(limit) => write!(f, "no answer in {limit:?}"),
            Failure::NoThread(error) => write!(f, "no thread for the gRPC client: {error}"),
        }
    }
}

impl Link {
    /// Connects, and asks the proxy for the topic's route. Answers within the target's limit.
    pub async fn open(target: Target) -> Result<Link, Fault> {
        let about = target.to_string();
        let (opened, opening) = oneshot::channel();
        let (jobs, receiver) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let run = move || {
            run(target, opened, receiver);
            drop(end);
        };
        let failure = match thread::Builder::new().name("rocketmq-proxy".into()).spawn(run) {
            Err(error) => Failure::NoThread(error.to_string()),
            Ok(_) => match opening.await {
                Ok(Ok(())) => return Ok(Link { jobs, ended }),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Fell("without a word".into()),
            },
        };
        Err(classify::opening(&failure, &about))
    }

    /// Sends one after the other. After a failure nothing in this process has a copy of any message, and the link is over; the
    /// same when the future is dropped, a moment later.
    pub async fn send(&self, messages: Vec<Outgoing>) -> Sends {
        let (answer, answered) = oneshot::channel();
        let gone = || Sends { stored: 0, failure: Some(Failure::Fell("without a word".into())) };
        match self.jobs.send(Job { messages, answer }).await {
            Ok(()) => answered.await.unwrap_or_else(|_| gone()),
            Err(_) => gone(),
        }
    }

    pub async fn close(self) {
        drop(self.jobs);
        let _ = self.ended.await;
    }
}

/// What is left to say once the client is gone.
enum End {
    Quiet,
    NotOpened(oneshot::Sender<Result<(), Failure>>, Failure),
    Failed(oneshot::Sender<Sends>, Sends),
}

fn run(target: Target, opened: oneshot::Sender<Result<(), Failure>>, jobs: mpsc::Receiver<Job>) {
    let end = match Builder::new_current_thread().enable_all().build() {
        Err(error) => End::NotOpened(opened, Failure::NoThread(error.to_string())),
        Ok(runtime) => {
            let end = runtime.block_on(serve(&target, opened, jobs));
            // Without waiting for a name that is still being looked up.
            runtime.shutdown_background();
            end
        }
    };
    // Whoever asked may have gone.
    match end {
        End::Quiet => {}
        End::NotOpened(opened, failure) => drop(opened.send(Err(failure))),
        End::Failed(answer, sends) => drop(answer.send(sends)),
    }
}

async fn serve(target: &Target, opened: oneshot::Sender<Result<(), Failure>>, mut jobs: mpsc::Receiver<Job>) -> End {
    let producer = match guarded(target.limit, start(target)).await {
        Ok(producer) => producer,
        Err(failure) => return End::NotOpened(opened, failure),
    };
    if opened.send(Ok(())).is_err() {
        return End::Quiet;
    }
    while let Some(Job { messages, mut answer }) = jobs.recv().await {
        let mut stored = 0;
        for message in messages {
            // It may have to connect first, and then has its own limit for each.
            let sent = guarded(target.limit * 2, send(&producer, &target.topic, message));
            let result = select! {
                result = sent => result,
                () = answer.closed() => return End::Quiet,
            };
            match result {
                Ok(()) => stored += 1,
                Err(failure) => return End::Failed(answer, Sends { stored, failure: Some(failure) }),
            }
        }
        let _ = answer.send(Sends { stored, failure: None });
    }
    let _ = guarded(CLOSE_LIMIT, producer.shutdown()).await;
    End::Quiet
}

async fn start(target: &Target) -> Result<Producer, ClientError> {
    let mut client = ClientOption::default();
    client.set_access_url(&target.address);
    client.set_timeout(target.limit);
    if let Some(credentials) = &target.credentials {
        client.set_access_key(&credentials.access_key);
        client.set_secret_key(&credentials.secret_key);
    }
    let mut options = ProducerOption::default();
    options.set_topics(vec![target.topic.clone()]);
    let mut producer = Producer::new(options, client)?;
    producer.start().await?;
    Ok(producer)
}

async fn send(producer: &Producer, topic: &str, message: Outgoing) -> Result<(), ClientError> {
    let mut builder =
        MessageBuilder::builder().set_topic(topic).set_body(message.body).set_properties(message.properties);
    if let Some(keys) = message.keys {
        builder = builder.set_keys(vec![keys]);
    }
    if let Some(tag) = message.tag {
        builder = builder.set_tag(tag);
    }
    if let Some(group) = message.group {
        builder = builder.set_message_group(group);
    }
    producer.send(builder.build()?).await.map(drop)
}

/// The client's answer, or what became of it instead.
async fn guarded<T>(limit: Duration, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    match timeout(limit, AssertUnwindSafe(call).catch_unwind()).await {
        Err(_) => Err(Failure::Silent(limit)),
        Ok(Err(panic)) => Err(Failure::Fell(words(&*panic))),
        Ok(Ok(result)) => result.map_err(Failure::Client),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a word").to_owned()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}, topic {}, gRPC proxy {}", self.cluster, self.topic, self.address)
    }
}
