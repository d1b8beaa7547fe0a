//! One route for each topic that a route of the table has: named, listed, or found by a pattern.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use super::{
    meaning::Checker,
    mistake::{Mistake, Severity},
    quantity::Time,
    several::{self, Found, Instance, Topics, When},
    shape,
    table::{Pattern, Route},
    topology,
};

const LOOK_EVERY: RangeInclusive<Time> = Time::millis(1_000)..=Time::millis(86_400_000);

pub(super) type Routes = BTreeMap<String, Arc<Route>>;
/// Routes as they are written.
type Written = BTreeMap<String, shape::Route>;

#[derive(Default)]
pub(super) struct Declared {
    pub routes: Routes,
    /// What routes with a pattern would be like.
    pub examples: Routes,
    pub patterns: Vec<Pattern>,
}

impl Checker<'_> {
    /// Every route of the table whose topics it names.
    pub(super) fn declared(&mut self, written: &Written) -> Declared {
        let mut declared = Declared::default();
        for (name, route) in written {
            if let Some((key, _)) = self.root.get("routes").and_then(|(_, routes)| routes.get(name)) {
                self.name(&["routes", name], name, key.span);
            }
            self.within(&["routes", name, "from", "look_every"], route.from.look_every, LOOK_EVERY);
            let topics = several::topics(self.root, name, &route.from, self.mistakes);
            match topics {
                Some(Topics::List(topics)) => {
                    let instances = topics.iter().map(|topic| several::instance(name, route, topic, false));
                    self.list(name, route, instances.collect(), &mut declared.routes);
                }
                Some(Topics::Pattern { like, expression }) => {
                    let example = several::instance(name, route, &several::example(&like), false);
                    declared.examples.insert(example.name.clone(), Arc::new(self.route(name, &example)));
                    let (cluster, look_every) = (self.cluster_of(&route.from.cluster), route.from.look_every.0);
                    declared.patterns.push(Pattern { route: name.clone(), cluster, like, expression, look_every });
                }
                one => {
                    // Without a topic the rest of the route is checked all the same.
                    let topic = if let Some(Topics::One(topic)) = one { topic } else { String::new() };
                    let instance = several::instance(name, route, &topic, true);
                    declared.routes.insert(name.clone(), Arc::new(self.route(name, &instance)));
                }
            }
        }
        declared
    }

    /// The routes of topics that the table lists.
    fn list(&mut self, name: &str, written: &shape::Route, instances: Vec<Instance>, routes: &mut Routes) {
        let mut targets: BTreeMap<String, String> = BTreeMap::new();
        for instance in instances {
            let before = self.mistakes.len();
            let route = Arc::new(self.route(name, &instance));
            // What is wrong with all of them is told once.
            for mistake in self.mistakes.split_off(before) {
                if self.mistakes.iter().all(|known| (&known.path, &known.problem) != (&mistake.path, &mistake.problem))
                {
                    self.mistakes.push(mistake);
                }
            }
            let (topic, target) = (reads(&route), writes(&route));
            if written.to.topic.contains(several::TOPIC)
                && let Some(other) = targets.insert(target.clone(), topic.clone())
            {
                let problem = format!("`{other}` and `{topic}` would both become `{target}`");
                self.say(&["routes", name, "to", "topic"], problem);
            }
            if let Some(other) = routes.insert(route.name.clone(), route) {
                let problem = format!("`{}` and `{topic}` would both be the route {}", reads(&other), instance.name);
                self.say(&["routes", name, "from", "topics"], problem);
            }
        }
    }

    /// Adds the routes of what patterns matched. What is found must not undo what is right without it: a topic that cannot be
    /// carried is left out, with a warning.
    pub(super) fn matched(&mut self, written: &Written, patterns: &[Pattern], found: &Found, routes: &mut Routes) {
        for pattern in patterns {
            let (Some(route), Some(topics)) = (written.get(&pattern.route), found.get(&pattern.route)) else {
                continue;
            };
            let topics = topics.iter().filter(|(topic, _)| pattern.expression.is_match(topic));
            let new: Vec<_> = topics.filter_map(|(topic, when)| self.carriable(pattern, route, topic, *when)).collect();
            // A copy is not copied again.
            let copies: BTreeSet<_> = routes.values().chain(&new).flat_map(|route| all_written(route)).collect();
            let new: Vec<_> = new.into_iter().filter(|new| !copies.contains(&place(new))).collect();
            let all: Routes = routes.values().chain(&new).map(|route| (route.name.clone(), route.clone())).collect();
            if all.len() == routes.len() + new.len() && self.clash(&all, routes, written).is_none() {
                *routes = all;
                continue;
            }
            for route in new {
                let mut with = routes.clone();
                let clash = match with.insert(route.name.clone(), route.clone()) {
                    Some(other) => Some(format!("{} would be the route {} as well", reads(&other), route.name)),
                    None => self.clash(&with, routes, written),
                };
                match clash {
                    None => *routes = with,
                    Some(problem) => self.left_out(pattern, &reads(&route), &problem),
                }
            }
        }
    }

    /// The route of a topic that was found, unless something is wrong with it alone.
    fn carriable(&mut self, pattern: &Pattern, written: &shape::Route, topic: &str, when: When) -> Option<Arc<Route>> {
        let before = self.mistakes.len();
        let mut instance = several::instance(&pattern.route, written, topic, false);
        if when == When::Later {
            // What was written until it was found came after the start.
            instance.route.from.start = shape::EARLIEST.to_owned();
        }
        let route = self.route(&pattern.route, &instance);
        let told = self.mistakes.split_off(before);
        match told.into_iter().find(|mistake| mistake.severity == Severity::Error) {
            None => Some(Arc::new(route)),
            Some(mistake) => {
                self.left_out(pattern, topic, &mistake.problem);
                None
            }
        }
    }

    /// What the routes do to each other that they did not do before.
    fn clash(&self, with: &Routes, without: &Routes, written: &Written) -> Option<String> {
        let mut targets = BTreeMap::new();
        let templated =
            |route: &Route| written.get(&route.declared).is_some_and(|of| of.to.topic.contains(several::TOPIC));
        for route in with.values().filter(|route| templated(route)) {
            if let Some(other) = targets.insert((&route.declared, writes(route)), route) {
                return Some(format!("{} and {} would both become {}", reads(other), reads(route), writes(route)));
            }
        }
        let errors = |routes: &Routes| {
            let mut mistakes = Vec::new();
            topology::check(self.root, routes, &mut mistakes);
            mistakes.retain(|mistake| mistake.severity == Severity::Error);
            mistakes
        };
        let before = errors(without);
        errors(with).into_iter().find(|mistake| !before.contains(mistake)).map(|mistake| mistake.problem)
    }

    fn left_out(&mut self, pattern: &Pattern, topic: &str, problem: &str) {
        let problem = format!("the topic {topic} is matched and not carried: {problem}");
        let mistake = Mistake::on(self.root, &["routes", &pattern.route, "from", "pattern"], problem);
        self.mistakes.push(mistake.warning());
    }
}

fn reads(route: &Route) -> String {
    route.hops.first().map(|hop| hop.from.topic.clone()).unwrap_or_default()
}

fn writes(route: &Route) -> String {
    route.hops.last().map(|hop| hop.to.topic.clone()).unwrap_or_default()
}

/// The cluster and topic that it reads.
fn place(route: &Route) -> (String, String) {
    (route.hops.first().map(|hop| hop.from.cluster.name.clone()).unwrap_or_default(), reads(route))
}

/// Clusters and topics of all that it writes.
fn all_written(route: &Route) -> impl Iterator<Item = (String, String)> {
    let ends = route.hops.iter().map(|hop| &hop.to).chain([&route.dead_letter]);
    ends.map(|end| (end.cluster.name.clone(), end.topic.clone()))
}
