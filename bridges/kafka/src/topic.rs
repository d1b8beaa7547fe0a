//! What a cluster says of a topic, and making it.

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    admin::{AdminOptions, ConfigResource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use trestle_core::{Ensure, Fault, FaultKind, Scope, TopicInfo, Why};

use crate::{
    classify,
    heard::{Admin, explain, open},
};

/// Every request of this file is answered in this time, or fails.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The cluster's own number of copies.
const DEFAULT_REPLICATION: i32 = -1;

/// The settings of a topic that matter to one who writes or reads it. A setting that the cluster does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    pub max_message_bytes: Option<usize>,
    pub cleanup_policy: Option<String>,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
    pub timestamp_type: Option<String>,
    /// How far in the past and in the future a message's time may lie.
    pub before_ms: Option<i64>,
    pub after_ms: Option<i64>,
}

impl TopicConfig {
    pub(crate) fn compacted(&self) -> bool {
        self.cleanup_policy.as_deref().is_some_and(|policy| policy.contains("compact"))
    }

    fn deletes(&self) -> bool {
        self.cleanup_policy.as_deref().is_some_and(|policy| policy.contains("delete"))
    }

    /// What could drop a message before it is read, and what to do about it.
    fn may_lose(&self) -> Option<&'static str> {
        let limited = |limit: Option<i64>| limit.is_some_and(|limit| limit >= 0);
        match () {
            _ if self.compacted() => Some("cleanup.policy has compact; set it to delete"),
            _ if self.deletes() && limited(self.retention_ms) => Some("retention.ms is limited; set it to -1"),
            _ if self.deletes() && limited(self.retention_bytes) => Some("retention.bytes is limited; set it to -1"),
            _ => None,
        }
    }

    /// What could make messages vanish before they are read.
    fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        if self.compacted() {
            losses.push("cleanup.policy has compact: of messages with the same key only the newest stay".into());
        }
        if self.deletes() {
            if let Some(millis) = self.retention_ms.filter(|millis| *millis >= 0) {
                let hours = millis / 3_600_000;
                losses.push(format!("retention.ms is {millis}: messages vanish after {hours} hours, read or not"));
            }
            if let Some(bytes) = self.retention_bytes.filter(|bytes| *bytes >= 0) {
                losses.push(format!("retention.bytes is {bytes}: the oldest messages of a larger partition vanish"));
            }
        }
        losses
    }

    /// What could refuse or change messages that are written.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.compacted() {
            warnings.push("cleanup.policy has compact: a message without a key is refused".into());
        }
        if self.timestamp_type.as_deref() == Some("LogAppendTime") {
            warnings.push(
                "message.timestamp.type is LogAppendTime: the broker puts its own time in place of the message's"
                    .into(),
            );
        }
        warnings
    }

    pub(crate) fn info(&self, partitions: u32) -> TopicInfo {
        let unread = self == &TopicConfig::default();
        TopicInfo {
            partitions,
            max_message: self.max_message_bytes,
            grows: true,
            losses: self.losses(),
            warnings: self.warnings(),
            unchecked: unread.then(|| UNREAD.to_owned()).into_iter().collect(),
        }
    }

    pub(crate) fn read(found: &ConfigResource) -> Self {
        let value = |name| found.get(name).and_then(|entry| entry.value.clone());
        let number = |name| value(name).and_then(|value| value.parse().ok());
        TopicConfig {
            max_message_bytes: value("max.message.bytes").and_then(|value| value.parse().ok()),
            cleanup_policy: value("cleanup.policy"),
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            timestamp_type: value("message.timestamp.type"),
            before_ms: number("message.timestamp.before.max.ms"),
            after_ms: number("message.timestamp.after.max.ms"),
        }
    }
}

const UNREAD: &str = "the topic's settings could not be read, so nothing is known of its retention and its largest message: \
                      grant the user DescribeConfigs";

pub(crate) async fn describe(config: ClientConfig, cluster: &str, topic: &str) -> Result<TopicInfo, Fault> {
    let doing = format!("describing the topic {topic} on {cluster}");
    let (partitions, settings) = inspect(config, &doing, topic).await?;
    Ok(settings.info(partitions))
}

/// All topics but those that brokers keep for themselves: Kafka's own begin with two underscores.
pub(crate) async fn all(config: ClientConfig, cluster: &str) -> Result<Vec<String>, Fault> {
    let doing = format!("listing the topics of {cluster}");
    let admin = Client::open(config, &doing).await?;
    let client = admin.admin()?.clone();
    let metadata = blocking(&doing, move || client.inner().fetch_metadata(None, REQUEST_TIMEOUT)).await?;
    let metadata = metadata.map_err(|error| admin.fault(&error))?;
    let names = metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| topic.name());
    let names = names.filter(|name| !name.starts_with("__")).map(str::to_owned).collect();
    admin.close();
    Ok(names)
}

/// Number of partitions and settings. The settings are empty where the user may not read them.
pub(crate) async fn inspect(config: ClientConfig, doing: &str, topic: &str) -> Result<(u32, TopicConfig), Fault> {
    let admin = Client::open(config, doing).await?;
    let partitions = admin.partitions(topic).await?;
    let settings = admin.settings(topic).await;
    admin.close();
    Ok((partitions, settings))
}

pub(crate) async fn ensure(
    config: ClientConfig,
    cluster: &str,
    topic: &str,
    ensure: Ensure,
) -> Result<TopicInfo, Fault> {
    let doing = format!("making sure of the topic {topic} on {cluster}");
    let admin = Client::open(config, &doing).await?;
    let wanted = ensure.partitions.max(1);
    let there = match admin.partitions(topic).await {
        Err(fault) if fault.kind == FaultKind::Unavailable(Why::UnknownTopic) => {
            admin.create(topic, wanted, ensure.durable.is_some()).await?;
            admin.partitions(topic).await?
        }
        other => other?,
    };
    if there < wanted {
        admin.grow(topic, wanted).await?;
    }
    let settings = admin.settings(topic).await;
    admin.close();
    if let Some(danger) = ensure.durable.and(settings.may_lose()) {
        let detail = format!("{doing}: messages that wait here could vanish: {danger}");
        return Err(Fault::new(FaultKind::Unavailable(Why::Permission), Scope::Cluster, detail));
    }
    Ok(settings.info(there.max(wanted)))
}

/// An admin client that is made and destroyed off the runtime: both may block.
struct Client<'a> {
    admin: Option<std::sync::Arc<Admin>>,
    doing: &'a str,
}

impl<'a> Client<'a> {
    async fn open(config: ClientConfig, doing: &'a str) -> Result<Client<'a>, Fault> {
        Ok(Client { admin: Some(open(config, doing).await?), doing })
    }

    fn fault(&self, error: &KafkaError) -> Fault {
        let fault = classify::client_fault(error, Scope::Cluster, self.doing);
        match &self.admin {
            Some(admin) => explain(admin, fault),
            None => fault,
        }
    }

    fn admin(&self) -> Result<&std::sync::Arc<Admin>, Fault> {
        self.admin.as_ref().ok_or_else(|| Fault::down(self.doing))
    }

    fn close(self) {}

    async fn partitions(&self, topic: &str) -> Result<u32, Fault> {
        let (admin, name) = (self.admin()?.clone(), topic.to_owned());
        let metadata = blocking(self.doing, move || admin.inner().fetch_metadata(Some(&name), REQUEST_TIMEOUT)).await?;
        let metadata = metadata.map_err(|error| self.fault(&error))?;
        let found = metadata.topics().first();
        let error = found.map_or(Some(Code::UnknownTopic), |topic| topic.error().map(Code::from));
        match (error, found) {
            (None, Some(found)) if !found.partitions().is_empty() => Ok(found.partitions().len() as u32),
            (error, _) => Err(classify::fault(error.unwrap_or(Code::UnknownTopic), Scope::Cluster, self.doing, "")),
        }
    }

    async fn settings(&self, topic: &str) -> TopicConfig {
        let Ok(admin) = self.admin() else { return TopicConfig::default() };
        let answer = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()).await;
        let Some(Ok(found)) = answer.ok().and_then(|all| all.into_iter().next()) else {
            return TopicConfig::default();
        };
        TopicConfig::read(&found)
    }

    async fn create(&self, topic: &str, partitions: u32, durable: bool) -> Result<(), Fault> {
        let mut new = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(DEFAULT_REPLICATION));
        if durable {
            new = new.set("cleanup.policy", "delete").set("retention.ms", "-1").set("retention.bytes", "-1");
        }
        self.answer(self.admin()?.create_topics([&new], &options()).await, Code::TopicAlreadyExists)?;
        self.appeared(topic, partitions).await
    }

    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Fault> {
        let grown = NewPartitions::new(topic, partitions as usize);
        // Another instance may have been quicker; then the number is not raised.
        self.answer(self.admin()?.create_partitions([&grown], &options()).await, Code::InvalidPartitions)?;
        self.appeared(topic, partitions).await
    }

    /// A broker may learn of what the controller made a moment later.
    async fn appeared(&self, topic: &str, partitions: u32) -> Result<(), Fault> {
        const POLL: Duration = Duration::from_millis(50);
        let deadline = tokio::time::Instant::now() + REQUEST_TIMEOUT;
        loop {
            match self.partitions(topic).await {
                Ok(there) if there >= partitions => return Ok(()),
                Err(fault) if tokio::time::Instant::now() >= deadline => return Err(fault),
                _ if tokio::time::Instant::now() >= deadline => {
                    return Err(Fault::down(format!("{}: it has fewer than {partitions} partitions", self.doing)));
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    fn answer(&self, answer: Result<Vec<TopicResult>, KafkaError>, fine: Code) -> Result<(), Fault> {
        let answer = answer.map_err(|error| self.fault(&error))?;
        match answer.into_iter().next() {
            Some(Err((_, code))) if code != fine => Err(classify::fault(code, Scope::Cluster, self.doing, "")),
            _ => Ok(()),
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if let (Some(admin), Ok(runtime)) = (self.admin.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(admin));
        }
    }
}

/// Runs what blocks off the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Fault::down(format!("{doing}: {error}")))
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_make_messages_vanish_is_said() {
        let config = TopicConfig {
            cleanup_policy: Some("compact,delete".into()),
            retention_ms: Some(7_200_000),
            retention_bytes: Some(-1),
            timestamp_type: Some("LogAppendTime".into()),
            max_message_bytes: None,
            ..TopicConfig::default()
        };
        let info = config.info(1);
        let (losses, warnings) = (info.losses.join("\n"), info.warnings.join("\n"));
        assert!(losses.contains("compact") && losses.contains("after 2 hours"), "{losses}");
        assert!(warnings.contains("without a key") && warnings.contains("LogAppendTime"), "{warnings}");
        assert_eq!(!info.losses.is_empty(), config.may_lose().is_some(), "what is said is what is refused");
        let unread = TopicConfig::default().info(1);
        assert!(unread.losses.is_empty() && unread.unchecked.len() == 1);
    }
}
