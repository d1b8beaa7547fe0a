//! What a cluster says of itself and of many topics. Nothing is changed.

use std::collections::BTreeMap;

use futures::{StreamExt, future::join_all, stream};
use trestle_core::{Fault, FaultKind, Survey, Surveyed, Why};

use crate::{
    admin::{self, Limits},
    client::{BROKER_LIMIT, BrokerConfig, BrokerRuntime, Client},
    remoting::{Request, codes::request},
};

/// Topics that are asked for at a time.
const SIDE_BY_SIDE: usize = 8;

pub async fn survey(client: &Client, topics: &[String]) -> Result<Survey, Fault> {
    let masters = client.masters().await?;
    let asked = join_all(masters.iter().map(|(name, address)| master(client, name, address))).await;
    let (mut problems, mut configs, mut version) = (Vec::new(), BTreeMap::new(), None);
    for ((_, address), answer) in masters.iter().zip(asked) {
        match answer {
            Ok(master) => {
                version = version.or(master.version);
                configs.extend(master.config.map(|config| (address.as_str(), config)));
            }
            Err(fault) => problems.push(fault.detail),
        }
    }
    if masters.is_empty() {
        problems.push("no broker is registered at the name servers".into());
    }
    let configs = &configs;
    let look = |topic: String| async move { look(client, &topic, configs).await };
    let surveyed = stream::iter(topics.to_vec()).map(look).buffered(SIDE_BY_SIDE).collect().await;
    Ok(Survey { version, brokers: Some(masters.len()), problems, topics: surveyed })
}

struct Master {
    version: Option<String>,
    config: Option<BrokerConfig>,
}

async fn master(client: &Client, name: &str, address: &str) -> Result<Master, Fault> {
    let about = format!("broker {name} at {address}, as the name servers know it, on cluster {}", client.cluster);
    let answer = client.ask(address, Request::new(request::GET_BROKER_RUNTIME_INFO), BROKER_LIMIT, &about).await;
    let version = match answer {
        Ok(answer) => version(&answer.body),
        // It answers, and only its administrator may know.
        Err(fault) if matches!(fault.kind, FaultKind::Unavailable(Why::Permission | Why::Authentication)) => None,
        Err(fault) => return Err(fault),
    };
    Ok(Master { version, config: client.broker_config(address).await })
}

async fn look(client: &Client, topic: &str, configs: &BTreeMap<&str, BrokerConfig>) -> Surveyed {
    match client.route(topic).await {
        Ok(route) => {
            let of_topic: Vec<_> = route.masters().filter_map(|(_, address)| configs.get(address)).collect();
            Surveyed::There(admin::info(topic, &route, &Limits::lowest(of_topic.into_iter())))
        }
        Err(fault) if fault.kind == FaultKind::Unavailable(Why::UnknownTopic) => {
            let everywhere = Limits::lowest(configs.values());
            let losses = admin::info(topic, &Default::default(), &everywhere).losses;
            Surveyed::Missing { obstacle: None, losses }
        }
        Err(fault) => Surveyed::Unknown(fault),
    }
}

/// "5.3.1", of the runtime information's `brokerVersionDesc` (`V5_3_1`).
fn version(body: &[u8]) -> Option<String> {
    let runtime = BrokerRuntime::parse(body);
    let version = runtime.text("brokerVersionDesc")?;
    Some(version.trim_start_matches('V').replace('_', "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_as_people_write_it() {
        let body = br#"{"table":{"bootTimestamp":"1","brokerVersionDesc":"V5_3_1"}}"#;
        assert_eq!(version(body).as_deref(), Some("5.3.1"));
        assert_eq!(version(b"{}"), None);
    }

    #[tokio::test]
    async fn a_wrong_port_is_told_with_the_address_and_what_the_system_said() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let client = Client::new("billing", vec![free.clone()], None);
        let fault = survey(&client, &[]).await.unwrap_err();
        assert!(fault.detail.contains(&free) && fault.detail.contains("refused"), "{fault}");
    }
}
