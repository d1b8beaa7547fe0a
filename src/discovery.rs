//! Finds the topics that a table's patterns match.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::timeout;
use trestle_core::{Connector, Fault};

use crate::{
    clusters,
    config::{Found, Pattern, Table, When},
};

/// A cluster that has not named its topics by then has not answered.
pub const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// The topics that match now, by their full names.
pub async fn look(pattern: &Pattern, connector: &dyn Connector) -> Result<BTreeSet<String>, Fault> {
    let asked = timeout(LOOK_LIMIT, connector.topics(&pattern.like)).await;
    let silent =
        || Fault::timeout(format!("cluster {} has not named its topics in {LOOK_LIMIT:?}", pattern.cluster.name));
    let topics = asked.unwrap_or_else(|_| Err(silent()))?;
    Ok(topics.into_iter().filter(|topic| pattern.expression.is_match(topic)).collect())
}

/// What all patterns of a table match now; for commands, which look once. Says which cluster does not tell.
pub async fn look_once(table: &Table) -> Result<Found, String> {
    let mut found = BTreeMap::new();
    for pattern in &table.patterns {
        let connector = clusters::connect(&pattern.cluster).map_err(|error| error.problem)?;
        let told = |fault: Fault| {
            format!("which topics `{}` of route {} matches is not known: {fault}", pattern.like, pattern.route)
        };
        let topics = look(pattern, &*connector).await.map_err(told)?;
        found.insert(pattern.route.clone(), topics.into_iter().map(|topic| (topic, When::First)).collect());
    }
    Ok(found)
}
