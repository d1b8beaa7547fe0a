use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use trestle_core::{
    BoxFuture, Connector, Ensure, Fault, Reader, ReaderSpec, Sink, SinkSpec, SourcePair, SourceSpec, Survey, TopicInfo,
};

use crate::{reader, settings::Settings, sink, source, survey, topic};

pub(crate) struct Kafka {
    cluster: String,
    settings: Settings,
    /// Partitions of the topics that were asked about: those of routes.
    partitions: Mutex<HashMap<String, u32>>,
}

/// Of a topic that nobody asked about.
const SOME_PARTITIONS: u32 = 16;

impl Kafka {
    pub(crate) fn new(cluster: &str, settings: Settings) -> Self {
        Kafka { cluster: cluster.to_owned(), settings, partitions: Mutex::default() }
    }
}

impl Connector for Kafka {
    fn source(&self, spec: SourceSpec) -> BoxFuture<'_, Result<SourcePair, Fault>> {
        Box::pin(async {
            let known = self.partitions.lock().unwrap_or_else(PoisonError::into_inner).get(&spec.topic).copied();
            let partitions = known.unwrap_or(SOME_PARTITIONS).max(1) as usize;
            source::open(&self.cluster, &self.settings, spec, partitions)
        })
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
        Box::pin(async move {
            let about = topic::describe(self.settings.base(&Default::default()), &self.cluster, topic).await?;
            let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            partitions.insert(topic.to_owned(), about.partitions);
            Ok(about)
        })
    }

    fn ensure<'a>(&'a self, topic: &'a str, ensure: Ensure) -> BoxFuture<'a, Result<TopicInfo, Fault>> {
        Box::pin(topic::ensure(self.settings.base(&Default::default()), &self.cluster, topic, ensure))
    }

    fn survey<'a>(&'a self, topics: &'a [String]) -> BoxFuture<'a, Result<Survey, Fault>> {
        Box::pin(survey::survey(&self.settings, &self.cluster, topics))
    }
}
