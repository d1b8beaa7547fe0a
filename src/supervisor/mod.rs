//! Carries a route table out: starts the hops of every route, starts again what ended, follows the table, and drains.

mod desk;
mod difference;
mod discovery;
mod pausing;
mod reload;
mod run;
mod setup;
mod shared;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures::future::join_all;
use tokio::{sync::watch, time::Duration};

pub use self::{
    desk::{Desk, Inbox, News, Order, Refused, desk},
    difference::Difference,
    reload::follow,
    shared::Connect,
};
use self::{
    difference::{exclude, needs_restart},
    discovery::Looking,
    run::Run,
    setup::Setup,
    shared::AllShared,
};
use crate::{
    config::{Hop, Pattern, Route, Table},
    pipeline::{Budget, Status},
    policy::{dead_letter_limit::NackWindow, rate::Limiter},
};

/// What the messages in flight may have of `memory.limit`. The rest is for what clients buffer, for the encoded copies of
/// what is being sent, and for the process itself.
const POOL_EIGHTHS: usize = 3;
/// What all sources together may buffer, as part of `memory.limit`.
const BUFFERS_EIGHTHS: usize = 1;
/// A source is allowed to buffer this much however many there are.
const LEAST_BUFFER: usize = 1 << 20;

/// The hops that readiness and metrics speak of: one status each.
pub type Statuses = Arc<[Arc<Status>]>;

/// With one setup a hop.
type NewRoute = (Arc<Route>, Vec<Setup>);

/// Everything that runs a table, and the tables that follow it.
pub struct Supervisor {
    /// What runs. `listen` and `memory` stay those of the start, and `auth` where without it `listen` would be everyone's.
    table: watch::Sender<Arc<Table>>,
    connect: Connect,
    shared: AllShared,
    budget: Arc<Budget>,
    /// How long a drain may take, from now on.
    grace: watch::Sender<Duration>,
    running: BTreeMap<String, Run>,
    /// Told to stop by an earlier table, and perhaps not gone yet.
    leaving: Vec<Run>,
    statuses: watch::Sender<Statuses>,
    /// Whether the topics of a pattern can be listed, by its route.
    listings: BTreeMap<String, Arc<Status>>,
    news: watch::Sender<News>,
}

/// A table was taken over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    pub generation: u64,
    pub difference: Difference,
    /// What stays as it was until the process starts again, in words.
    pub needs_restart: Vec<String>,
}

impl Supervisor {
    /// Starts every hop of the table.
    pub fn start(table: &Table, connect: Connect) -> Result<Self, String> {
        let mut supervisor = Supervisor {
            table: watch::Sender::new(Arc::new(Table { routes: BTreeMap::new(), ..table.clone() })),
            connect,
            shared: AllShared::new(),
            budget: Budget::new(table.memory.limit / 8 * POOL_EIGHTHS, table.memory.largest_message),
            grace: watch::Sender::new(table.grace),
            running: BTreeMap::new(),
            leaving: Vec::new(),
            statuses: watch::Sender::new(Arc::from([])),
            listings: BTreeMap::new(),
            news: watch::Sender::default(),
        };
        supervisor.apply(table)?;
        Ok(supervisor)
    }

    /// Makes the table the one that runs. Routes that mean the same are not touched; those that are gone or mean something
    /// else are told to drain, and what takes their place starts when they have. Waits for nothing, so that the next table,
    /// or the end, can follow at any time. After an error everything is as it was.
    pub fn apply(&mut self, table: &Table) -> Result<Applied, String> {
        // Whatever can fail comes first.
        let shared = shared::of(table, &self.shared, &self.connect)?;
        let running = self.table.borrow().clone();
        let difference = Difference::between(&running.routes, &table.routes);
        let needs_restart = needs_restart(&running, table);
        let new = difference.added.iter().chain(&difference.changed).filter(|name| !self.is_paused(name));
        let new: Vec<_> = new.filter_map(|name| table.routes.get(name)).collect();
        let setups = self.setups(&new, table, &shared)?;
        self.shared = shared;
        self.grace.send_replace(table.grace);
        for name in difference.removed.iter().chain(&difference.changed) {
            if let Some(run) = self.running.remove(name) {
                run.stop();
                self.leaving.push(run);
            }
        }
        self.leaving.retain(|run| !run.ending().is_over());
        for name in difference.removed.iter().filter(|name| self.is_paused(name)) {
            metrics::gauge!("trestle_route_paused", "route" => name.clone()).set(0.0);
        }
        setups.into_iter().for_each(|(route, setups)| self.run(route, setups));
        // What is right on the address that was read may not be on the one that stays.
        let auth = if table.auth.is_missing_on(running.listen) { &running.auth } else { &table.auth };
        let (listen, memory) = (running.listen, running.memory);
        let table = Table { listen, auth: auth.clone(), memory, ..table.clone() };
        self.listings = listings(&table, &self.listings);
        self.table.send_replace(Arc::new(table));
        self.tell_statuses();
        let mut generation = 0;
        self.news.send_modify(|news| {
            news.generation += 1;
            (generation, news.refused) = (news.generation, None);
            news.paused.retain(|route| !difference.removed.contains(route));
        });
        metrics::gauge!("trestle_config_generation").set(generation as f64);
        Ok(Applied { generation, difference, needs_restart })
    }

    /// Starts a route as soon as whoever is in its way has gone.
    fn run(&mut self, route: Arc<Route>, setups: Vec<Setup>) {
        let in_its_way = self.leaving.iter().filter(|run| exclude(&run.route, &route));
        let run = Run::start(route.clone(), setups, in_its_way.map(Run::ending).collect());
        self.running.insert(route.name.clone(), run);
    }

    fn tell_statuses(&self) {
        let hops = self.running.values().flat_map(|run| run.statuses.iter());
        self.statuses.send_replace(hops.chain(self.listings.values()).cloned().collect());
    }

    /// The patterns of the table that runs.
    fn looking(&self) -> Vec<Looking> {
        let table = self.table.borrow();
        let looking = |pattern: &Pattern| {
            let connector = self.shared.get(&pattern.cluster.name)?.connector.clone();
            Some(Looking { pattern: pattern.clone(), connector, status: self.listings.get(&pattern.route)?.clone() })
        };
        table.patterns.iter().filter_map(looking).collect()
    }

    /// Follows the table that runs.
    pub fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    /// Follows what everyone may know.
    pub fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Follows which hops there are.
    pub fn statuses(&self) -> watch::Receiver<Statuses> {
        self.statuses.subscribe()
    }

    /// Tells every hop to drain, also one that was about to start. Resolves when all have.
    pub async fn drain(self) {
        let runs = || self.running.values().chain(&self.leaving);
        runs().for_each(Run::stop);
        join_all(runs().map(|run| run.ending().wait())).await;
    }

    /// The hops of each new route, to be started beside those that stay.
    fn setups(&self, new: &[&Arc<Route>], table: &Table, shared: &AllShared) -> Result<Vec<NewRoute>, String> {
        let stays = |run: &&Run| table.routes.get(&run.route.name) == Some(&run.route);
        let staying: Vec<&Run> = self.running.values().filter(stays).collect();
        let kept =
            staying.iter().map(|run| (run.statuses.len(), run.buffers)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let buffer_bytes =
            buffer_bytes(self.table.borrow().memory.limit, new.iter().map(|route| route.hops.len()).sum(), kept);
        let setups = |route: &&Arc<Route>| Ok(((*route).clone(), self.setups_of(route, shared, buffer_bytes)?));
        new.iter().map(setups).collect()
    }

    fn setups_of(&self, route: &Arc<Route>, shared: &AllShared, buffer_bytes: usize) -> Result<Vec<Setup>, String> {
        let nack_window = NackWindow::new(route.dead_letter_limit);
        let largest_message = self.table.borrow().memory.largest_message;
        let of = |cluster: &str| shared.get(cluster).ok_or_else(|| format!("cluster {cluster} is not connected"));
        let setup = |(index, hop): (usize, &Hop)| {
            let to = of(&hop.to.cluster.name)?;
            Ok(Setup {
                route: route.clone(),
                index,
                from: of(&hop.from.cluster.name)?.connector.clone(),
                to: to.connector.clone(),
                dead_letters: of(&route.dead_letter.cluster.name)?.connector.clone(),
                budget: self.budget.clone(),
                buffer_bytes,
                largest_message,
                grace: self.grace.subscribe(),
                status: Arc::new(Status::new(&route.name, hop.name)),
                rates: Limiter::new(hop.policies.rate).into_iter().chain(to.limiter.clone()).collect(),
                nack_window: nack_window.clone(),
                warned: Mutex::default(),
            })
        };
        route.hops.iter().enumerate().map(setup).collect()
    }
}

/// One status a pattern; those that there were stay as they are.
fn listings(table: &Table, before: &BTreeMap<String, Arc<Status>>) -> BTreeMap<String, Arc<Status>> {
    let listing = |pattern: &Pattern| {
        let known = before.get(&pattern.route).cloned();
        (pattern.route.clone(), known.unwrap_or_else(|| Arc::new(Status::new(&pattern.route, "discover"))))
    };
    table.patterns.iter().map(listing).collect()
}

/// What each of so many new sources may buffer: an even share of all, as far as those that stay leave it. They keep what
/// they were given: so many sources, and so many bytes.
fn buffer_bytes(memory: usize, new: usize, (sources, kept): (usize, usize)) -> usize {
    let all = memory / 8 * BUFFERS_EIGHTHS;
    let even = all / (sources + new).max(1);
    even.min(all.saturating_sub(kept) / new.max(1)).max(LEAST_BUFFER)
}
