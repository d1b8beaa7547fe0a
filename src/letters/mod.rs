//! The dead letters of a table: which ones, and what can be done to them. The commands and the HTTP API share this.

mod counting;
mod filter;
mod giving_up;
mod listing;
mod reading;
mod replaying;
mod wording;

use crate::config::{Endpoint, Table};

pub use self::{
    counting::{ByHour, by_hour},
    filter::Filter,
    giving_up::{GivenUp, give_up},
    listing::{After, Listed, Page, find, page},
    reading::Letters,
    replaying::{Counts, Plan, Replay},
    wording::{as_json, date, hex, readable},
};

/// Which letters, and where they are.
pub struct Pick<'a> {
    pub table: &'a Table,
    pub topics: Vec<Endpoint>,
    pub filter: &'a Filter,
    /// How long a cluster may say nothing.
    pub patience: std::time::Duration,
}

/// Where the table's routes keep their letters, or one of them. Of a route that the table does not have, nothing.
pub fn topics(table: &Table, route: Option<&str>) -> Vec<Endpoint> {
    let mut topics: Vec<Endpoint> = Vec::new();
    for route in table.routes.values().filter(|of| route.is_none_or(|name| name == of.name || name == of.declared)) {
        let same =
            |at: &Endpoint| at.cluster.name == route.dead_letter.cluster.name && at.topic == route.dead_letter.topic;
        if !topics.iter().any(same) {
            topics.push(route.dead_letter.clone());
        }
    }
    topics
}
