use std::sync::Arc;

use trestle_core::{
    BoxFuture, Connector, Ensure, Fault, Reader, ReaderSpec, Sink, SinkSpec, SourcePair, SourceSpec, Survey, TopicInfo,
};

use crate::{reader, settings::Settings, sink, source, survey, topic};

pub(crate) struct Kafka {
    cluster: String,
    settings: Settings,
}

impl Kafka {
    pub(crate) fn new(cluster: &str, settings: Settings) -> Self {
        Kafka { cluster: cluster.to_owned(), settings }
    }
}

impl Connector for Kafka {
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<SourcePair, Fault>> {
        Box::pin(async { source::open(&self.cluster, &self.settings, spec) })
    }

    fn sink(&self, spec: SinkSpec) -> BoxFuture<'_, Result<Arc<dyn Sink>, Fault>> {
        Box::pin(sink::open(&self.cluster, &self.settings, spec))
    }

    fn reader(&self, spec: ReaderSpec) -> BoxFuture<'_, Result<Box<dyn Reader>, Fault>> {
        Box::pin(reader::open(&self.cluster, &self.settings, spec))
    }

    fn topics<'a>(&'a self, _like: &'a str) -> BoxFuture<'a, Result<Vec<String>, Fault>> {
        Box::pin(topic::all(self.settings.base(&Default::default()), &self.cluster))
    }

    fn describe<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(topic::describe(self.settings.base(&Default::default()), &self.cluster, topic))
    }

    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(topic::ensure(self.settings.base(&Default::default()), &self.cluster, topic, ensure))
    }

    fn survey<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<Survey, Fault>> {
        Box::pin(survey::survey(&self.settings, &self.cluster, topics))
    }
}
