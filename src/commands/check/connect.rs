//! Asks the clusters of a table, all side by side, and changes nothing on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::timeout;
use trestle_core::Survey;

use super::judge::{self, Surveys};
use crate::{
    clusters,
    config::{Checked, Cluster, Found, Table},
    discovery::look_once,
};

/// A cluster that has not said everything by then is asked no longer.
const CLUSTER_LIMIT: Duration = Duration::from_secs(10);
/// Topics that are asked for in that time; each further one has a little more.
const TOPICS_WITHIN: usize = 100;
const FURTHER_TOPIC: Duration = Duration::from_millis(50);

/// What the clusters of a table said.
pub struct Asked {
    pub surveys: Surveys,
    /// Why the topics of a pattern are not known.
    pub unknown: Option<String>,
}

/// Asks the clusters of a table that is right, if it is; `again` reads it with the topics that its patterns match.
pub fn ask(checked: &mut Checked, again: impl FnOnce(Found) -> Checked) -> Option<Result<Asked, String>> {
    let table = checked.table.as_ref()?;
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Err(format!("the runtime does not start: {error}"))),
    };
    let mut unknown = None;
    if !table.patterns.is_empty() {
        match runtime.block_on(look_once(table)) {
            Ok(found) => *checked = again(found),
            Err(problem) => unknown = Some(problem),
        }
    }
    let surveys = checked.table.as_ref().map(|table| runtime.block_on(surveys(table)));
    // Clients of clusters that do not answer may not end either.
    runtime.shutdown_background();
    Some(Ok(Asked { surveys: surveys?, unknown }))
}

async fn surveys(table: &Table) -> Surveys {
    let mut topics: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for route in table.routes.values() {
        let ends = route.hops.iter().flat_map(|hop| [&hop.from, &hop.to]).chain([&route.dead_letter]);
        for end in ends {
            topics.entry(&end.cluster.name).or_default().insert(&end.topic);
        }
    }
    let ask = async |cluster: &Cluster| {
        let topics = topics.get(cluster.name.as_str()).into_iter().flatten().map(|topic| (*topic).to_owned()).collect();
        (cluster.name.clone(), survey(cluster, topics).await)
    };
    join_all(table.clusters.values().map(|cluster| ask(cluster))).await.into_iter().collect()
}

async fn survey(cluster: &Cluster, topics: Vec<String>) -> Result<judge::Asked, String> {
    let connector = clusters::connect(cluster).map_err(|error| error.problem)?;
    let limit = CLUSTER_LIMIT + FURTHER_TOPIC * topics.len().saturating_sub(TOPICS_WITHIN) as u32;
    match timeout(limit, connector.survey(&topics)).await {
        Ok(Ok(survey)) => Ok(asked(topics, survey)),
        Ok(Err(fault)) => Err(fault.detail),
        Err(_) => Err(format!("cluster {} has not answered everything within {limit:?}", cluster.name)),
    }
}

fn asked(topics: Vec<String>, mut survey: Survey) -> judge::Asked {
    let surveyed = std::mem::take(&mut survey.topics);
    judge::Asked { topics: topics.into_iter().zip(surveyed).collect(), survey }
}
