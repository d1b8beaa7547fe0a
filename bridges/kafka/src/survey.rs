//! What a cluster says of itself and of many topics, asked with one client. Nothing is changed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::join_all;
use rdkafka::{
    admin::{OwnedResourceSpecifier, ResourceSpecifier},
    client::{Client, DefaultClientContext},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};
use tokio::{net::TcpStream, time::timeout};
use trestle_core::{Fault, Scope, Survey, Surveyed};

use crate::{
    classify,
    heard::{Admin, explain, open},
    settings::Settings,
    topic::{TopicConfig, blocking, options},
};

/// For a connection.
const REACH_LIMIT: Duration = Duration::from_secs(3);
/// For one answer about metadata.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Brokers that are connected to; more would say nothing new.
const REACHED: usize = 32;
/// Topics in one request for their settings.
const AT_ONCE: usize = 200;
/// Says of older brokers which version they keep to.
const VERSION: &str = "inter.broker.protocol.version";

pub(crate) async fn survey(settings: &Settings, cluster: &str, topics: &[String]) -> Result<Survey, Fault> {
    reach_one(&settings.servers, cluster).await?;
    let doing = format!("asking cluster {cluster} at {}", settings.servers);
    let admin = open(settings.base(&Default::default()), &doing).await?;
    let (asked, names) = (admin.clone(), topics.to_vec());
    let seen = blocking(&doing, move || look(asked.inner(), &names)).await?;
    let seen = seen.map_err(|error| explain(&admin, classify::client_fault(&error, Scope::Cluster, &doing)))?;
    let problems = unreachable(&seen.brokers).await;
    let there = topics.iter().zip(&seen.topics).filter(|(_, found)| found.is_ok()).map(|(topic, _)| topic.as_str());
    // Whoever answers may be one that cannot be reached: that was said, and nothing more can be learnt.
    let configs = if problems.is_empty() { configs(&admin, &there.collect::<Vec<_>>()).await } else { HashMap::new() };
    let version = match seen.brokers.first() {
        Some(broker) if problems.is_empty() => version(&admin, broker.id).await,
        _ => None,
    };
    let surveyed = topics.iter().zip(seen.topics).map(|(topic, found)| match found {
        Ok(partitions) => Surveyed::There(configs.get(topic).cloned().unwrap_or_default().info(partitions)),
        Err(code) => {
            let doing = format!("the topic {topic} on {cluster}");
            Surveyed::from_description(Err(classify::fault(code, Scope::Cluster, &doing, "")))
        }
    });
    let survey = Survey { version, brokers: Some(seen.brokers.len()), problems, topics: surveyed.collect() };
    close(admin);
    Ok(survey)
}

/// One of the servers that the table names takes connections; else what the system said of each.
async fn reach_one(servers: &str, cluster: &str) -> Result<(), Fault> {
    let servers: Vec<&str> = servers.split(',').map(str::trim).collect();
    let reached = join_all(servers.iter().map(|server| reach(server))).await;
    if reached.iter().any(Result::is_ok) {
        return Ok(());
    }
    let said: Vec<String> = servers
        .iter()
        .zip(reached)
        .filter_map(|(server, reached)| Some(format!("{server}: {}", reached.err()?)))
        .collect();
    Err(Fault::down(format!("cluster {cluster} cannot be reached: {}", said.join("; "))))
}

async fn reach(address: &str) -> Result<(), String> {
    match timeout(REACH_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {REACH_LIMIT:?}")),
    }
}

/// Brokers whose own addresses, as they advertise them, lead nowhere from here.
async fn unreachable(brokers: &[Broker]) -> Vec<String> {
    let reached = join_all(brokers.iter().take(REACHED).map(|broker| reach(&broker.address))).await;
    let problem = |(broker, reached): (&Broker, Result<(), String>)| {
        let (id, address, error) = (broker.id, &broker.address, reached.err()?);
        Some(format!(
            "broker {id} says that its address is {address}, which cannot be reached from here: {error}. See `advertised.listeners` of the broker"
        ))
    };
    brokers.iter().zip(reached).filter_map(problem).collect()
}

#[derive(Clone, Debug)]
struct Broker {
    id: i32,
    /// As clients are told to reach it.
    address: String,
}

struct Seen {
    brokers: Vec<Broker>,
    /// Partitions of each topic that was asked for.
    topics: Vec<Result<u32, Code>>,
}

/// Blocks. Asks for all topics at once, and by name for those that are not among them: the list holds only what the user
/// may see.
fn look(client: &Client<DefaultClientContext>, topics: &[String]) -> Result<Seen, KafkaError> {
    let metadata = client.fetch_metadata(None, ANSWER_LIMIT)?;
    let broker = |b: &rdkafka::metadata::MetadataBroker| {
        let host = if b.host().contains(':') { format!("[{}]", b.host()) } else { b.host().to_owned() };
        Broker { id: b.id(), address: format!("{host}:{}", b.port()) }
    };
    let brokers = metadata.brokers().iter().map(broker).collect();
    let partitions = |topic: &rdkafka::metadata::MetadataTopic| match topic.error().map(Code::from) {
        Some(code) => Err(code),
        None if topic.partitions().is_empty() => Err(Code::UnknownTopic),
        None => Ok(topic.partitions().len() as u32),
    };
    let listed: HashMap<&str, _> = metadata.topics().iter().map(|topic| (topic.name(), partitions(topic))).collect();
    let by_name = |topic: &String| match listed.get(topic.as_str()) {
        Some(found) => Ok(*found),
        None => Ok(client
            .fetch_metadata(Some(topic), ANSWER_LIMIT)?
            .topics()
            .first()
            .map_or(Err(Code::UnknownTopic), partitions)),
    };
    Ok(Seen { brokers, topics: topics.iter().map(by_name).collect::<Result<_, KafkaError>>()? })
}

/// Settings of each topic that may be read.
async fn configs(admin: &Admin, topics: &[&str]) -> HashMap<String, TopicConfig> {
    let mut configs = HashMap::new();
    for some in topics.chunks(AT_ONCE) {
        let asked: Vec<_> = some.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let Ok(answers) = admin.describe_configs(&asked, &options()).await else { break };
        for found in answers.iter().flatten() {
            if let OwnedResourceSpecifier::Topic(topic) = &found.specifier {
                configs.insert(topic.clone(), TopicConfig::read(found));
            }
        }
    }
    configs
}

async fn version(admin: &Admin, broker: i32) -> Option<String> {
    let answers = admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options()).await.ok()?;
    let value = answers.into_iter().next()?.ok()?.get(VERSION)?.value.clone()?;
    // "3.9-IV0"
    Some(value.split('-').next().unwrap_or_default().to_owned())
}

/// Destroying a client blocks.
fn close(admin: Arc<Admin>) {
    tokio::task::spawn_blocking(move || drop(admin));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_port_is_told_with_the_address_and_what_the_system_said() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let settings = Settings { servers: free.clone(), options: Default::default() };
        let fault = survey(&settings, "main", &["t".into()]).await.unwrap_err();
        assert!(fault.detail.contains(&free) && fault.detail.contains("refused"), "{fault}");
    }
}
