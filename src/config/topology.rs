//! What routes do to each other and to themselves: groups and topics used twice, and circles.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    mistake::Mistake,
    table::{Endpoint, Route},
    yaml::Node,
};
use crate::clusters;

/// A cluster's name and a topic of it.
type Topic<'a> = (&'a str, &'a str);
type Routes = BTreeMap<String, Arc<Route>>;

pub fn check(root: &Node, routes: &Routes, mistakes: &mut Vec<Mistake>) {
    let mut checker = Checker { root, mistakes };
    checker.groups(routes);
    for route in routes.values() {
        checker.own_topics(route);
    }
    checker.writers(routes);
    checker.collisions(routes);
    checker.circles(routes);
}

struct Checker<'a> {
    root: &'a Node,
    mistakes: &'a mut Vec<Mistake>,
}

/// The keys in the table of what a route writes and reads.
fn ends(route: &Route) -> impl Iterator<Item = (&'static str, &Endpoint)> {
    let (first, last) = (route.hops.first(), route.hops.last());
    let via = first.filter(|hop| hop.fenced).map(|hop| ("via", &hop.to));
    let ends = [first.map(|hop| ("from", &hop.from)), via, last.map(|hop| ("to", &hop.to))];
    // One that is missing was reported already.
    ends.into_iter().flatten().filter(|(_, end)| !end.topic.is_empty())
}

fn topic(end: &Endpoint) -> Topic<'_> {
    (&end.cluster.name, &end.topic)
}

/// Whether the route leaves out what has been at one of its ends before.
fn stamps(route: &Route) -> bool {
    route.hops.first().is_some_and(|hop| hop.edits.stamp.is_some())
}

impl Checker<'_> {
    /// One group, one route: two would take each other's messages away.
    fn groups(&mut self, routes: &Routes) {
        let mut users: HashMap<(&str, &str), &Route> = HashMap::new();
        for route in routes.values() {
            for (hop, key) in route.hops.iter().zip(["from", "via"]) {
                match users.entry((&hop.from.cluster.name, &hop.group)) {
                    Entry::Vacant(free) => drop(free.insert(route)),
                    Entry::Occupied(user) => {
                        let problem = format!("the group `{}` is used by route {} already", hop.group, user.get().name);
                        let mistake = self.on(&["routes", &route.declared, key, "group"], problem);
                        let same = user.get().declared == route.declared;
                        let own = if same { "`{topic}` in it: one for each topic" } else { "a group of its own" };
                        self.mistakes.push(mistake.expected(own));
                    }
                }
            }
        }
    }

    /// What a route reads it must not write, and its dead letters must not be read as messages.
    fn own_topics(&mut self, route: &Route) {
        let ends: Vec<_> = ends(route).collect();
        for (index, (key, end)) in ends.iter().enumerate() {
            if let Some((other, _)) = ends.iter().take(index).find(|(_, other)| topic(other) == topic(end)) {
                self.say(&["routes", &route.declared, key, "topic"], format!("this is the topic of `{other}` as well"));
            }
            if topic(&route.dead_letter) == topic(end) {
                let problem = format!("the dead letters of route {} would go to the topic of its `{key}`", route.name);
                self.say(&["routes", &route.declared, "dead_letter", "topic"], problem);
            }
        }
    }

    /// A topic that several routes write gets their messages mixed; one that stages must have its route alone.
    fn writers(&mut self, routes: &Routes) {
        let mut writers: HashMap<Topic<'_>, (&str, &Route)> = HashMap::new();
        for route in routes.values() {
            for (key, end) in ends(route).filter(|(key, _)| *key != "from") {
                let (other_key, other) = match writers.entry(topic(end)) {
                    Entry::Vacant(free) => {
                        free.insert((key, route));
                        continue;
                    }
                    Entry::Occupied(first) => *first.get(),
                };
                // Several topics of one route may be meant for one target.
                if other.name == route.name || (other.declared == route.declared && (key, other_key) == ("to", "to")) {
                    continue;
                }
                let path = ["routes", &route.declared, key, "topic"];
                if key == "via" || other_key == "via" {
                    let problem = format!("route {} writes this topic as its `{other_key}`", other.name);
                    self.mistakes.push(self.on(&path, problem).expected(
                        "a `via` topic that one route has for itself, with `{topic}` in it where it has several topics",
                    ));
                } else {
                    self.mistakes
                        .push(self.on(&path, format!("route {} writes this topic as well", other.name)).warning());
                }
            }
        }
    }

    /// Topics that a cluster cannot have beside each other.
    fn collisions(&mut self, routes: &Routes) {
        let mut seen: HashMap<(&str, String), &str> = HashMap::new();
        for route in routes.values() {
            let dead_letter = (!route.dead_letter.topic.is_empty()).then_some(("dead_letter", &route.dead_letter));
            for (key, end) in ends(route).chain(dead_letter) {
                let Some(protocol) = clusters::protocol(end.cluster.protocol) else { continue };
                match seen.entry((&end.cluster.name, (protocol.folded)(&end.topic))) {
                    Entry::Vacant(free) => drop(free.insert(&end.topic)),
                    Entry::Occupied(other) if **other.get() != *end.topic => {
                        let problem = format!("`{}` and `{}` cannot both exist on one cluster", end.topic, other.get());
                        self.say(&["routes", &route.declared, key, "topic"], problem);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
    }

    /// Messages that come back to where they were would go round for ever. Dead letters count: a route that reads them
    /// and feeds them in again would retry a poisonous message without end.
    fn circles(&mut self, routes: &Routes) {
        let mut ids: HashMap<Topic<'_>, usize> = HashMap::new();
        let mut edges: Vec<Vec<(usize, &Route)>> = Vec::new();
        for route in routes.values() {
            let ends: Vec<_> = ends(route).collect();
            let pairs = ends.windows(2).filter_map(|pair| Some((pair.first()?.1, pair.last()?.1)));
            let dead = ends.first().map(|(_, from)| (*from, &route.dead_letter)).filter(|(_, to)| !to.topic.is_empty());
            for (from, to) in pairs.chain(dead).filter(|(from, to)| topic(from) != topic(to)) {
                let mut id = |end| {
                    let next = ids.len();
                    *ids.entry(topic(end)).or_insert(next)
                };
                let (from, to) = (id(from), id(to));
                edges.resize_with(ids.len(), Vec::new);
                if let Some(out) = edges.get_mut(from) {
                    out.push((to, route));
                }
            }
        }
        for mut circle in circles(&edges) {
            circle.dedup_by(|a, b| a.name == b.name);
            // A circle may begin in the middle of a route.
            if circle.len() > 1 && circle.first().map(|r| &r.name) == circle.last().map(|r| &r.name) {
                circle.pop();
            }
            if let (Some(last), Some(first)) = (circle.last(), circle.first()) {
                let shown = circle.iter().take(SHOWN).map(|route| route.name.as_str()).collect::<Vec<_>>().join(" -> ");
                let more = if circle.len() > SHOWN { " -> ..." } else { "" };
                let problem = if circle.len() == 1 {
                    format!("route {} feeds itself", last.name)
                } else {
                    format!("the routes {shown}{more} -> {} feed each other in a circle", first.name)
                };
                let mistake = self.on(&["routes", &last.declared, "to", "topic"], problem);
                self.mistakes.push(match circle.iter().all(|route| stamps(route)) {
                    true => mistake.warning().expected("this, if messages are to go once to each of the topics"),
                    false => mistake.expected(
                        "no circle, or `stamp: true` for each of them, which stops a message that comes round",
                    ),
                });
            }
        }
    }

    fn on(&self, path: &[&str], problem: impl Into<String>) -> Mistake {
        Mistake::on(self.root, path, problem)
    }

    fn say(&mut self, path: &[&str], problem: impl Into<String>) {
        self.mistakes.push(self.on(path, problem));
    }
}

/// Routes of a circle that a message names.
const SHOWN: usize = 8;

/// One circle for each edge that leads back, by a depth-first search with a stack of its own.
fn circles<'a>(edges: &[Vec<(usize, &'a Route)>]) -> Vec<Vec<&'a Route>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        /// On the way to where the search is, at this depth.
        Open(usize),
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        // The nodes on the way, the next edge of each, and the route by which each was reached.
        let mut way: Vec<(usize, usize, Option<&Route>)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::Open(0);
            way.push((start, 0, None));
        }
        while let Some((node, next, _)) = way.last_mut() {
            let Some((target, route)) = edges[*node].get(*next).copied() else {
                marks[*node] = Mark::Done;
                way.pop();
                continue;
            };
            *next += 1;
            match marks[target] {
                Mark::New => {
                    marks[target] = Mark::Open(way.len());
                    way.push((target, 0, Some(route)));
                }
                Mark::Open(depth) => {
                    let reached = way.iter().skip(depth + 1).take(SHOWN + 1).filter_map(|(_, _, by)| *by);
                    found.push(reached.chain([route]).collect());
                }
                Mark::Done => {}
            }
        }
    }
    found
}
