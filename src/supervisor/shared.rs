//! What all routes on one cluster share.

use std::{collections::BTreeMap, sync::Arc};

use trestle_core::Connector;

use crate::{
    config::{Cluster, Route, Table},
    policy::rate::Limiter,
};

/// Makes the connector of a cluster, or says what is wrong with it. Opens no connection.
pub type Connect = Box<dyn Fn(&Cluster) -> Result<Arc<dyn Connector>, String> + Send + Sync>;

/// One cluster in use.
#[derive(Clone)]
pub(super) struct Shared {
    cluster: Arc<Cluster>,
    pub connector: Arc<dyn Connector>,
    /// Of all who write to it.
    pub limiter: Option<Arc<Limiter>>,
}

/// The clusters in use, by name.
pub(super) type AllShared = BTreeMap<String, Shared>;

/// What the routes and patterns of a table need. A cluster that is the same as before keeps what its routes share, so that those that run and those
/// that come go under one limit.
pub(super) fn of(table: &Table, before: &AllShared, connect: &Connect) -> Result<AllShared, String> {
    let mut all = AllShared::new();
    let looked_through = table.patterns.iter().map(|pattern| &pattern.cluster);
    for cluster in table.routes.values().flat_map(|route| clusters(route)).chain(looked_through) {
        if all.contains_key(&cluster.name) {
            continue;
        }
        let shared = match before.get(&cluster.name) {
            Some(shared) if shared.cluster == *cluster => shared.clone(),
            _ => {
                let connector = connect(cluster).map_err(|problem| format!("cluster {}: {problem}", cluster.name))?;
                Shared { cluster: cluster.clone(), connector, limiter: Limiter::new(cluster.rate) }
            }
        };
        all.insert(cluster.name.clone(), shared);
    }
    Ok(all)
}

fn clusters(route: &Route) -> impl Iterator<Item = &Arc<Cluster>> {
    let ends = route.hops.iter().flat_map(|hop| [&hop.from, &hop.to]).chain([&route.dead_letter]);
    ends.map(|end| &end.cluster)
}
