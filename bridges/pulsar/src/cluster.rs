//! One Pulsar cluster: which broker serves a topic, how many partitions it has, and connections to them.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use pulsar::message::proto::{
    BaseCommand, CommandGetTopicsOfNamespace, CommandLookupTopic, CommandPartitionedTopicMetadata, base_command::Type,
    command_lookup_topic_response::LookupType,
};
use tokio::time::Instant;
use trestle_core::{Fault, Why};

use crate::{
    access::Access,
    admin::Admin,
    classify,
    connection::{Connection, RequestError, command},
    pool::{Broker, Pool, Use},
    settings::Settings,
    topic::Topic,
    url::BrokerUrl,
};

/// Java's client follows as many (`ClientConfigurationData.maxLookupRedirects`).
const MAX_REDIRECTS: usize = 20;

/// Lookups wait for topics to be loaded, but for nothing else.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Who gives up sooner than this says nothing about the connection.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct Cluster {
    /// As the route table calls it.
    pub name: String,
    /// The REST interface, where the settings name one.
    pub admin: Option<Admin>,
    service: Vec<BrokerUrl>,
    /// The host of `service` that answered last.
    answering: AtomicUsize,
    listener: Option<String>,
    pool: Pool,
}

impl Cluster {
    pub fn new(name: &str, settings: &Settings) -> Result<Cluster, String> {
        let access = Access::new(settings)?;
        let admin = settings.admin.as_deref().map(|url| Admin::new(name, url, access.clone())).transpose()?;
        Ok(Cluster {
            name: name.into(),
            admin,
            service: BrokerUrl::parse_all(&settings.url)?,
            answering: AtomicUsize::new(0),
            listener: settings.listener.clone(),
            pool: Pool::new(access),
        })
    }

    /// A connection to the broker that serves this topic (its full name, of one partition) now.
    pub async fn connect(&self, topic: &str, purpose: Use) -> Result<Connection, Fault> {
        let broker = self.broker_of(topic).await?;
        let what = || format!("connecting to the broker of {topic} on cluster {}", self.name);
        self.pool.get(&broker, purpose).await.map_err(|e| classify::fault(what(), &e))
    }

    /// Asks for the broker of a topic (its full name, of one partition), following redirects.
    pub async fn broker_of(&self, topic: &str) -> Result<Broker, Fault> {
        let what = || format!("looking up {topic} on cluster {}", self.name);
        let (host, mut connection) = self.ask().await.map_err(|e| classify::fault(what(), &e))?;
        let Some(service) = self.service.get(host) else { return Err(Fault::down(what())) };
        let mut authoritative = false;
        for _ in 0..MAX_REDIRECTS {
            let lookup = |request_id| {
                let mut lookup = command(Type::Lookup);
                lookup.lookup_topic = Some(CommandLookupTopic {
                    topic: topic.into(),
                    request_id,
                    authoritative: Some(authoritative),
                    advertised_listener_name: self.listener.clone(),
                    ..Default::default()
                });
                lookup
            };
            let answer = self.answer(&connection, lookup).await.map_err(|e| classify::fault(what(), &e))?;
            self.answered(host);
            let Some(answer) = answer.lookup_topic_response else {
                return Err(Fault::down(format!("{}: an answer to something else", what())));
            };
            if let Some(error) = answer.error.and_then(|e| e.try_into().ok()) {
                let message = answer.message.unwrap_or_default();
                let refused = RequestError::Refused { address: connection.address().into(), error, message };
                return Err(classify::fault(what(), &refused));
            }
            let url = if service.tls { &answer.broker_service_url_tls } else { &answer.broker_service_url };
            let Some(url) = url.as_ref().filter(|url| !url.is_empty()) else {
                let tls = if service.tls { "with" } else { "without" };
                return Err(Fault::down(format!("{}: the broker that serves it has no address {tls} TLS", what())));
            };
            let url = BrokerUrl::parse_all(url).ok().and_then(|all| all.into_iter().next());
            let Some(url) = url else { return Err(Fault::down(format!("{}: its broker's address is no URL", what()))) };
            let broker = if answer.proxy_through_service_url() {
                Broker { proxy_to: Some(url.address()), url: service.clone() }
            } else {
                Broker { url, proxy_to: None }
            };
            authoritative = answer.authoritative();
            if answer.response() != LookupType::Redirect {
                return Ok(broker);
            }
            connection = self.pool.get(&broker, Use::Ask).await.map_err(|e| classify::fault(what(), &e))?;
        }
        Err(Fault::down(format!("{}: redirected {MAX_REDIRECTS} times", what())))
    }

    /// Partitions of a topic; 0 for one that has none, or that does not exist.
    pub async fn partition_metadata(&self, topic: &Topic) -> Result<u32, Fault> {
        let what = || format!("asking for the partitions of {topic} on cluster {}", self.name);
        let (host, connection) = self.ask().await.map_err(|e| classify::fault(what(), &e))?;
        let ask = |request_id| {
            let mut ask = command(Type::PartitionedMetadata);
            let topic = topic.to_string();
            ask.partition_metadata = Some(CommandPartitionedTopicMetadata { topic, request_id, ..Default::default() });
            ask
        };
        let answer = self.answer(&connection, ask).await.map_err(|e| classify::fault(what(), &e))?;
        self.answered(host);
        let Some(answer) = answer.partition_metadata_response else {
            return Err(Fault::down(format!("{}: an answer to something else", what())));
        };
        match answer.error.and_then(|e| e.try_into().ok()) {
            Some(error) => {
                let message = answer.message.unwrap_or_default();
                let refused = RequestError::Refused { address: connection.address().into(), error, message };
                Err(classify::fault(what(), &refused))
            }
            None => Ok(answer.partitions()),
        }
    }

    /// One of the hosts answers.
    pub async fn reach(&self) -> Result<(), Fault> {
        let what = || format!("cluster {} cannot be reached", self.name);
        self.ask().await.map(drop).map_err(|e| classify::fault(what(), &e))
    }

    /// Whether there is such a topic. Asking for its partitions could make it, where the broker makes topics by itself.
    pub async fn is_there(&self, topic: &Topic) -> Result<bool, Fault> {
        let (whole, first) = (topic.to_string(), topic.partition(0, true));
        Ok(self.topics_of(topic).await?.iter().any(|there| *there == whole || *there == first))
    }

    /// The partitions of a topic that exists; 0 for one without any. [`Why::UnknownTopic`] when there is no such topic.
    pub async fn partitions_of(&self, topic: &Topic) -> Result<u32, Fault> {
        let partitions = self.partition_metadata(topic).await?;
        if partitions > 0 || self.topics_of(topic).await?.contains(&topic.to_string()) {
            return Ok(partitions);
        }
        let detail = format!("there is no topic {topic} on cluster {}; create it", self.name);
        Err(Fault::unavailable(Why::UnknownTopic, detail))
    }

    /// Every topic of the topic's namespace, partitions by themselves.
    pub async fn topics_of(&self, topic: &Topic) -> Result<Vec<String>, Fault> {
        let what = || format!("listing the topics of {} on cluster {}", topic.namespace(), self.name);
        let (host, connection) = self.ask().await.map_err(|e| classify::fault(what(), &e))?;
        let ask = |request_id| {
            let mut ask = command(Type::GetTopicsOfNamespace);
            let namespace = topic.namespace();
            ask.get_topics_of_namespace =
                Some(CommandGetTopicsOfNamespace { request_id, namespace, ..Default::default() });
            ask
        };
        let answer = self.answer(&connection, ask).await.map_err(|e| classify::fault(what(), &e))?;
        self.answered(host);
        Ok(answer.get_topics_of_namespace_response.map(|r| r.topics).unwrap_or_default())
    }

    /// A request on a connection for questions. One that stays without an answer, even if nobody waits to the end, ends
    /// the connection: it may lead nowhere, and would keep everyone from finding the way to brokers that are well.
    async fn answer(
        &self,
        connection: &Connection,
        build: impl FnOnce(u64) -> BaseCommand,
    ) -> Result<BaseCommand, RequestError> {
        let mut suspect = Suspect { connection, since: Instant::now(), answered: false };
        let answer = connection.request_within(ASK_TIMEOUT, build).await;
        suspect.answered = !matches!(answer, Err(RequestError::Timeout { .. }));
        answer
    }

    /// The host with this number has answered.
    fn answered(&self, host: usize) {
        self.answering.store(host, Ordering::Relaxed);
    }

    /// A connection to ask on and the number of its host: the first that takes one, beginning with the one that answered last.
    async fn ask(&self) -> Result<(usize, Connection), RequestError> {
        let first = self.answering.load(Ordering::Relaxed);
        let mut failed = None;
        for at in (0..self.service.len()).map(|i| (first + i) % self.service.len()) {
            let Some(url) = self.service.get(at) else { continue };
            match self.pool.get(&Broker { url: url.clone(), proxy_to: None }, Use::Ask).await {
                Ok(connection) => {
                    // Until it answers the next one is asked first: a frozen host still takes connections.
                    self.answering.store((at + 1) % self.service.len(), Ordering::Relaxed);
                    return Ok((at, connection));
                }
                Err(e) => failed = Some(e),
            }
        }
        Err(failed.unwrap_or_else(|| RequestError::Lost {
            address: self.name.clone(),
            reason: "the cluster has no host".into(),
        }))
    }
}

/// Aborts a connection on which a request was given up.
struct Suspect<'a> {
    connection: &'a Connection,
    since: Instant,
    answered: bool,
}

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        if !self.answered && self.since.elapsed() >= SUSPECT_AFTER {
            self.connection.abort();
        }
    }
}
