//! Which letters a command is about.

use std::path::PathBuf;

use clap::Args;

use crate::{
    commands::{
        asking::Failure,
        reading::{End, endpoint},
    },
    config::{Table, Time},
    letters::{Filter, Pick, topics},
};

#[derive(Args)]
pub struct Selection {
    /// The route table, YAML or JSON
    pub file: PathBuf,
    /// Letters in this topic, CLUSTER/TOPIC, instead of those where the table's routes keep theirs
    #[arg(long)]
    pub topic: Option<String>,
    #[command(flatten)]
    pub filter: Filter,
    /// How long a cluster may say nothing
    #[arg(long, value_parser = Time::parse, default_value = "30s")]
    pub patience: Time,
}

impl Selection {
    pub fn pick<'a>(&'a self, table: &'a Table) -> Result<Pick<'a>, Failure> {
        let route = self.filter.route.as_deref();
        let topics = match &self.topic {
            Some(topic) => vec![endpoint(table, topic, End::From).map_err(Failure::Wrong)?],
            None => topics(table, route),
        };
        if let (Some(route), true) = (route, topics.is_empty()) {
            let routes = table.routes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Failure::Wrong(format!(
                "the table has no route `{route}`, only {routes}; of a route that is gone, name the --topic as well"
            )));
        }
        Ok(Pick { table, topics, filter: &self.filter, patience: self.patience.0 })
    }
}
