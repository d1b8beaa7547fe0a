use std::{collections::BTreeMap, sync::Arc};

use trestle_core::{
    BoxFuture, Connector, Ensure, Fault, FaultKind, Guarantee, Reader, ReaderSpec, Sink, SinkSpec, SourcePair,
    SourceSpec, TopicInfo, Why,
};

use super::{
    link::{Link, Target},
    sink, source,
};
use crate::{client::BROKER_LIMIT, remoting::Credentials, settings::Durability};

const NO_READER: &str = "a gRPC proxy hands messages only to a group: reading without one takes the cluster's name servers \
     (`namesrv`)";
const NO_TOPICS: &str = "a gRPC proxy does not list topics: name them, or use the cluster's name servers (`namesrv`)";
const ONE_BY_ONE: &str = "through a gRPC proxy, which chooses each message's queue, messages are sent one at a time: some \
     hundred a second. Only messages of one message group come in order (topics of the type FIFO, with the option \
     messageGroup)";
const ANY_BEGINNING: &str = "a gRPC proxy cannot say where a group begins that has never read: brokers give it a queue from its first \
     message while they have that in memory, else its last message and what comes after it. Where older messages matter, set the \
     group to the beginning before the first start: `mqadmin resetOffsetByTime -n NAMESRV -g GROUP -t TOPIC -s 0`";
const UNTOLD: &str = "a gRPC proxy does not tell how long messages are kept (fileReservedTime), how large one may be \
     (maxMessageSize), and how many queues there are";

/// The cluster called `cluster` behind the proxy at `address`, `HOST:PORT`. Nothing is connected yet.
pub fn connector(
    cluster: &str,
    address: String,
    credentials: Option<Credentials>,
    durability: Durability,
    options: &BTreeMap<String, String>,
) -> Result<Arc<dyn Connector>, String> {
    if let Some(name) = options.keys().next() {
        return Err(format!("options: `{name}` speaks of name servers and brokers, and does nothing with `proxy`"));
    }
    Ok(Arc::new(Proxy { cluster: cluster.to_owned(), address, credentials, durability }))
}

struct Proxy {
    cluster: String,
    address: String,
    credentials: Option<Credentials>,
    durability: Durability,
}

impl Proxy {
    fn target(&self, topic: &str) -> Target {
        Target {
            cluster: self.cluster.clone(),
            address: self.address.clone(),
            credentials: self.credentials.clone(),
            topic: topic.to_owned(),
            limit: BROKER_LIMIT,
        }
    }

    fn refuse<T: Send + 'static>(&self, topic: &str, why: &str) -> BoxFuture<'static, Result<T, Fault>> {
        let fault = Fault::down(format!("cluster {}, topic {topic}: {why}", self.cluster));
        Box::pin(std::future::ready(Err(fault)))
    }

    async fn look(&self, topic: &str) -> Result<TopicInfo, Fault> {
        let link = Link::open(self.target(topic)).await?;
        link.close().await;
        Ok(TopicInfo {
            partitions: 1,
            warnings: vec![ONE_BY_ONE.into()],
            unchecked: vec![UNTOLD.into(), ANY_BEGINNING.into()],
            ..TopicInfo::default()
        })
    }
}

impl Connector for Proxy {
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<SourcePair, Fault>> {
        let origin = source::Origin {
            cluster: self.cluster.clone(),
            address: self.address.clone(),
            credentials: self.credentials.clone(),
        };
        Box::pin(source::open(origin, spec))
    }

    fn sink(&self, mut spec: SinkSpec) -> BoxFuture<'_, Result<Arc<dyn Sink>, Fault>> {
        if self.durability == Durability::Accepted {
            spec.guarantee = Guarantee::Accepted;
        }
        let target = Target { limit: spec.send_timeout, ..self.target(&spec.topic) };
        Box::pin(sink::open(target, spec))
    }

    fn reader(&self, spec: ReaderSpec) -> BoxFuture<'_, Result<Box<dyn Reader>, Fault>> {
        self.refuse(&spec.topic, NO_READER)
    }

    fn topics<'a>(&'a self, like: &'a str) -> BoxFuture<'a, Result<Vec<String>, Fault>> {
        self.refuse(like, NO_TOPICS)
    }

    fn describe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(self.look(topic))
    }

    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(async move {
            let info = self.look(topic).await.map_err(|fault| how_to_make(fault, topic, ensure.partitions))?;
            match ensure.durable {
                None => Ok(info),
                Some(durable) => Err(Fault::down(format!(
                    "cluster {}, topic {topic}: a gRPC proxy does not tell whether messages stay until {} has read them. \
                     Choose another cluster for them, or reach this one by its name servers (`namesrv`)",
                    self.cluster, durable.subscription
                ))),
            }
        })
    }
}

fn how_to_make(mut fault: Fault, topic: &str, partitions: u32) -> Fault {
    if fault.kind == FaultKind::Unavailable(Why::UnknownTopic) {
        let queues = partitions.max(1);
        fault.detail += &format!(
            ". A gRPC proxy cannot make topics: `mqadmin updateTopic -n NAMESRV -c CLUSTER -t {topic} -r {queues} -w {queues} -a \
             +message.type=NORMAL` does (FIFO for one that is written with message groups)"
        );
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> Arc<dyn Connector> {
        connector("billing", "127.0.0.1:1".into(), None, Durability::Replicated, &BTreeMap::new()).unwrap()
    }

    #[tokio::test]
    async fn what_a_proxy_cannot_do_is_said_before_anything_is_connected() {
        let fault = proxy().topics("*").await.unwrap_err();
        assert!(fault.detail.contains("billing") && fault.detail.contains("namesrv"), "{fault}");
        let fault = proxy().ensure("orders", Ensure::default()).await.unwrap_err();
        assert!(fault.detail.contains("127.0.0.1:1"), "where it was tried: {fault}");
    }

    #[test]
    fn options_of_the_other_transport_are_refused() {
        let options = BTreeMap::from([("rebalanceInterval".to_owned(), "700".to_owned())]);
        let wrong = connector("billing", "h:1".into(), None, Durability::Replicated, &options).err().unwrap();
        assert!(wrong.contains("rebalanceInterval"), "{wrong}");
    }

    #[test]
    fn only_a_missing_topic_is_said_to_be_made_by_hand() {
        let missing = how_to_make(Fault::unavailable(Why::UnknownTopic, "x"), "orders", 4);
        assert!(missing.detail.contains("-t orders -r 4 -w 4"), "{missing}");
        assert_eq!(how_to_make(Fault::down("x"), "orders", 4).detail, "x");
    }
}
