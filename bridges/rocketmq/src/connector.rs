use std::sync::Arc;

use trestle_core::{
    BoxFuture, Connector, Ensure, Fault, Guarantee, Reader, ReaderSpec, Sink, SinkSpec, Source, SourceControl,
    SourceSpec, Survey, TopicInfo,
};

use crate::{
    admin,
    client::Client,
    reader,
    remoting::Credentials,
    settings::{Durability, Millis, Settings, Way},
    sink, source, survey, topics,
};

/// A RocketMQ cluster called `cluster` in the route table. An error says what is wrong with the settings; nothing is
/// connected yet.
pub fn connector(cluster: &str, settings: Settings) -> Result<Arc<dyn Connector>, String> {
    let credentials = match (settings.access_key.clone(), settings.secret_key.clone()) {
        (Some(access_key), Some(secret_key)) => Some(Credentials { access_key, secret_key }),
        (None, None) => None,
        _ => return Err("access_key and secret_key belong together: one of them is missing".into()),
    };
    match settings.way()? {
        Way::NameServers(name_servers) => {
            Millis::read(&settings.options, &Default::default())?;
            Ok(Arc::new(RocketMq { cluster: cluster.to_owned(), name_servers, credentials, settings }))
        }
        #[cfg(feature = "proxy")]
        Way::Proxy(address) => {
            crate::proxy::connector(cluster, address, credentials, settings.durability, &settings.options)
        }
        #[cfg(not(feature = "proxy"))]
        Way::Proxy(_) => Err("proxy: this program was built without it; build it with \
                              `cargo build --release --features rocketmq-proxy`, or use `namesrv`"
            .into()),
    }
}

struct RocketMq {
    cluster: String,
    name_servers: Vec<String>,
    credentials: Option<Credentials>,
    settings: Settings,
}

impl RocketMq {
    /// Sources and sinks do not share connections, so that a send's timeout, which closes its connection, is no
    /// concern of anybody else's.
    fn client(&self) -> Client {
        Client::new(&self.cluster, self.name_servers.clone(), self.credentials.clone())
    }
}

impl Connector for RocketMq {
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<(Box<dyn Source>, Arc<dyn SourceControl>), Fault>> {
        Box::pin(source::open(self.client(), spec, &self.settings.options))
    }

    fn sink(&self, mut spec: SinkSpec) -> BoxFuture<'_, Result<Arc<dyn Sink>, Fault>> {
        if self.settings.durability == Durability::Accepted {
            spec.guarantee = Guarantee::Accepted;
        }
        Box::pin(sink::open(self.client(), spec))
    }

    fn reader(&self, spec: ReaderSpec) -> BoxFuture<'_, Result<Box<dyn Reader>, Fault>> {
        Box::pin(reader::open(self.client(), spec))
    }

    fn topics<'a>(&'a self, _like: &'a str) -> BoxFuture<'a, Result<Vec<String>, Fault>> {
        Box::pin(async move { topics::topics(&self.client()).await })
    }

    fn describe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(async move { admin::describe(&self.client(), topic).await })
    }

    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(async move { admin::ensure(&self.client(), topic, ensure).await })
    }

    fn survey<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<Survey, Fault>> {
        Box::pin(async move { survey::survey(&self.client(), topics).await })
    }
}

#[cfg(all(test, not(feature = "proxy")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_a_proxy_is_refused_with_what_to_build() {
        let settings = serde_json::from_str(r#"{"proxy": "p:8081"}"#).unwrap();
        let wrong = connector("billing", settings).err().unwrap();
        assert!(wrong.contains("--features rocketmq-proxy"), "{wrong}");
    }
}
