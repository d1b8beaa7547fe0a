//! What a cluster says of itself and of many topics. Nothing is changed.

use futures::{StreamExt, stream};
use trestle_core::{Fault, Survey, Surveyed};

use crate::{
    connector::{PulsarConnector, parse},
    topic::Topic,
};

/// Topics that are asked for at a time.
const SIDE_BY_SIDE: usize = 8;

impl PulsarConnector {
    pub(crate) async fn survey(&self, topics: &[String]) -> Result<Survey, Fault> {
        let cluster = &self.cluster;
        let reached = cluster.reach().await;
        let (mut version, mut brokers) = (None, None);
        if let Some(admin) = &cluster.admin {
            version = match (admin.version().await, &reached) {
                (Ok(version), _) => Some(version),
                // Both ways in are closed: both are told.
                (Err(fault), Err(first)) => {
                    return Err(Fault { detail: format!("{}; {}", first.detail, fault.detail), ..fault });
                }
                (Err(fault), Ok(())) => return Err(fault),
            };
            // Only a superuser may know.
            brokers = admin.brokers().await.ok();
        }
        reached?;
        let look = |topic: String| async move { self.look(&topic).await };
        let surveyed = stream::iter(topics.to_vec()).map(look).buffered(SIDE_BY_SIDE).collect().await;
        Ok(Survey { version, brokers, problems: Vec::new(), topics: surveyed })
    }

    async fn look(&self, topic: &str) -> Surveyed {
        let topic = match parse(topic) {
            Ok(topic) => topic,
            Err(fault) => return Surveyed::Unknown(fault),
        };
        let there = match &self.cluster.admin {
            Some(admin) => admin.partitions(&topic).await.map(|partitions| partitions.is_some()),
            None => self.cluster.is_there(&topic).await,
        };
        match there {
            Ok(true) => self.describe(&topic).await.map_or_else(Surveyed::Unknown, Surveyed::There),
            Ok(false) => self.prospects(&topic).await.unwrap_or_else(Surveyed::Unknown),
            Err(fault) => Surveyed::Unknown(fault),
        }
    }

    /// What would become of a topic that is not there.
    async fn prospects(&self, topic: &Topic) -> Result<Surveyed, Fault> {
        let Some(admin) = &self.cluster.admin else {
            let obstacle = format!("without an `admin` URL nothing can be made on cluster {}", self.cluster.name);
            return Ok(Surveyed::Missing { obstacle: Some(obstacle), losses: Vec::new() });
        };
        let obstacle = admin.obstacle(topic).await?;
        let losses = admin.namespace_policies(topic).await?.losses(&topic.namespace());
        Ok(Surveyed::Missing { obstacle, losses })
    }
}
