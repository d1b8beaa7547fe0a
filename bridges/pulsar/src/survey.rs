//! What a cluster says of itself and of many topics. Nothing is changed.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::timeout;
use trestle_core::{Fault, Survey, Surveyed};

use crate::{admin::Admin, connector::PulsarConnector, topic::Topic};

/// Topics that are asked for at a time.
const SIDE_BY_SIDE: usize = 8;
/// For the REST interface's first answer; a topic may take longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

impl PulsarConnector {
    pub(crate) async fn survey(&self, topics: &[String]) -> Result<Survey, Fault> {
        let cluster = &self.cluster;
        let (reached, asked) = tokio::join!(cluster.reach(), ask(cluster.admin.as_ref()));
        let (version, brokers) = match (reached, asked) {
            (Ok(()), Ok(answers)) => answers,
            // Both ways in are closed: both are told.
            (Err(way), Err(fault)) => {
                return Err(Fault { detail: format!("{}; {}", way.detail, fault.detail), ..fault });
            }
            (Err(fault), Ok(_)) | (Ok(()), Err(fault)) => return Err(fault),
        };
        let look = |topic: String| async move { self.look(&topic).await };
        let surveyed = stream::iter(topics.to_vec()).map(look).buffered(SIDE_BY_SIDE).collect().await;
        Ok(Survey { version, brokers, problems: Vec::new(), topics: surveyed })
    }

    async fn look(&self, topic: &str) -> Surveyed {
        let topic = match Topic::of(topic) {
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

/// Version and number of brokers, as the REST interface tells them.
async fn ask(admin: Option<&Admin>) -> Result<(Option<String>, Option<usize>), Fault> {
    let Some(admin) = admin else { return Ok((None, None)) };
    let silent = |_| Fault::down(format!("REST interface {}: no answer within {ANSWER_LIMIT:?}", admin.address()));
    let version = timeout(ANSWER_LIMIT, admin.version()).await.map_err(silent)??;
    // Only a superuser may know.
    let brokers = timeout(ANSWER_LIMIT, admin.brokers()).await.ok().and_then(Result::ok);
    Ok((Some(version), brokers))
}
