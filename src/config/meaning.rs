//! What a table means: names that exist, limits that hold, defaults filled in.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use trestle_core::{Guarantee, OptionsOf, PartitionId, Start};

use super::{
    inputs::Inputs,
    instances::Declared,
    mistake::Mistake,
    options::{self, Options},
    policies::{self, Policies},
    quantity::{Size, Time},
    several::{self, Found, Instance},
    shape,
    table::{Cluster, Endpoint, Hop, HopPolicies, Memory, Route, Table},
    topology, transforms,
    written::Written,
    yaml::{Kind, Node, Span},
};
use crate::{
    clusters::{self, Use},
    pipeline::{Edits, MaxAhead, Placement},
    policy::{order::SetAside, rate::Rate, stamp::Stamp},
};

/// Characters of a cluster's or route's name: it becomes part of groups, topics and labels everywhere.
const MAX_NAME: usize = 64;
/// Half of what Kafka's clients allow between two polls, <https://kafka.apache.org/documentation/#consumerconfigs_max.poll.interval.ms>.
const REVOKE_TIMEOUT: RangeInclusive<Time> = Time::millis(100)..=Time::millis(150_000);
const COMMIT_INTERVAL: RangeInclusive<Time> = Time::millis(10)..=Time::millis(60_000);
const MAX_AHEAD: RangeInclusive<Size> = Size(1 << 10)..=Size::mib(1 << 20);
const GRACE: RangeInclusive<Time> = Time::millis(100)..=Time::millis(3_600_000);
const LARGEST_MESSAGE: RangeInclusive<Size> = Size(1 << 10)..=Size::mib(1_024);
const MEMORY: RangeInclusive<Size> = Size::mib(1)..=Size::mib(1 << 20);

/// The table as far as it makes sense; it may be used only when no mistake is an error.
pub fn check(
    file: &Path,
    root: &Node,
    mut value: Value,
    found: &Found,
    inputs: &mut Inputs,
    mistakes: &mut Vec<Mistake>,
) -> Option<Table> {
    policies::inherit(&mut value);
    let shape: shape::Table = match serde_json::from_value(value) {
        Ok(shape) => shape,
        Err(error) => {
            mistakes.push(Mistake::at(root.span, error.to_string()));
            return None;
        }
    };
    let mut checker = Checker { root, mistakes, clusters: BTreeMap::new(), options: options::Checker::default() };
    checker.clusters(&shape.clusters);
    let Declared { mut routes, examples, patterns } = checker.declared(&shape.routes);
    let memory = checker.memory(&shape.memory);
    checker.grace(&shape);
    // What is found later must not undo what is right without it.
    let all = routes.iter().chain(&examples).map(|(name, route)| (name.clone(), route.clone())).collect();
    topology::check(root, &all, checker.mistakes);
    checker.matched(&shape.routes, &patterns, found, &mut routes);
    // A wrong address was reported when its form was checked.
    let listen = shape.admin.listen.parse().ok()?;
    let limits = checker.limits(&shape.admin.limits);
    let auth = checker.auth(&shape.admin, listen, inputs);
    let written = Written::new(&shape, &checker.clusters);
    let (file, clusters, grace) = (file.to_owned(), checker.clusters, shape.shutdown.grace.0);
    Some(Table { file, clusters, routes, patterns, listen, auth, limits, memory, written, grace })
}

pub(super) struct Checker<'a> {
    pub(super) root: &'a Node,
    pub(super) mistakes: &'a mut Vec<Mistake>,
    clusters: BTreeMap<String, Arc<Cluster>>,
    options: options::Checker,
}

/// The `protocol` of a cluster that is not known; whatever uses it was reported already or is not checked.
const UNKNOWN: &str = "";

impl Checker<'_> {
    fn clusters(&mut self, clusters: &BTreeMap<String, Value>) {
        // Also those whose settings are wrong: their names are known.
        let Some((_, Node { kind: Kind::Map(written), .. })) = self.root.get("clusters") else { return };
        for (key, _) in &written.list {
            let name = key.name.as_str();
            self.name(&["clusters", name], name, key.span);
            let cluster = self.cluster(name, clusters.get(name).cloned().unwrap_or_default());
            self.clusters.insert(name.to_owned(), Arc::new(cluster));
        }
    }

    fn cluster(&mut self, name: &str, mut settings: Value) -> Cluster {
        let text = |name| settings.get(name).and_then(Value::as_str);
        let protocol = text("type").and_then(clusters::protocol);
        let guarantee =
            if text("durability") == Some("accepted") { Guarantee::Accepted } else { Guarantee::Replicated };
        let rate = settings.get("rate").and_then(|rate| serde_json::from_value(rate.clone()).ok()).unwrap_or_default();
        let rate = self.policies(&[&["clusters", name]]).rate(&rate);
        if let Some(settings) = settings.as_object_mut() {
            settings.remove("type");
            settings.remove("rate");
            if protocol.is_some_and(|protocol| !clusters::has_setting(protocol, "durability")) {
                settings.remove("durability");
            }
        }
        let written: Options =
            settings.get("options").and_then(|o| serde_json::from_value(o.clone()).ok()).unwrap_or_default();
        if let Some(protocol) = protocol {
            let at = (self.root, &["clusters", name][..]);
            let [taken] = self.options.check(at, protocol, &written, [OptionsOf::Cluster], self.mistakes);
            // What is wrong was said; the rest of the settings is still looked at.
            if let Some(options) = settings.get_mut("options").and_then(Value::as_object_mut) {
                options.retain(|name, _| taken.contains_key(name));
            }
        }
        let protocol = protocol.map_or(UNKNOWN, |protocol| protocol.name);
        let cluster = Cluster { name: name.to_owned(), protocol, guarantee, rate, settings };
        // Settings that do not even have the right form were reported already.
        let under = Mistake::on(self.root, &["clusters", name], "").path;
        let (inside, options) = (format!("{under}/"), format!("{under}/options/"));
        let reported = self
            .mistakes
            .iter()
            .any(|m| m.path == under || (m.path.starts_with(&inside) && !m.path.starts_with(&options)));
        if protocol != UNKNOWN
            && !reported
            && let Err(error) = clusters::connect(&cluster)
        {
            let path: Vec<_> = ["clusters", name].into_iter().chain(error.path.iter().map(String::as_str)).collect();
            self.say(&path, error.problem);
        }
        cluster
    }

    /// One topic's route of the table's route `name`.
    pub(super) fn route(&mut self, name: &str, Instance { name: own_name, route }: &Instance) -> Route {
        let at = |rest: &'static [&'static str]| -> Vec<&str> {
            ["routes", name].into_iter().chain(rest.iter().copied()).collect()
        };
        let (from, to) = (&route.from, &route.to);
        let topic = from.topic.as_deref().unwrap_or_default();
        let [source] = self.endpoint(&at(&["from"]), &from.cluster, topic, &from.options, [OptionsOf::Source]);
        let to_topic = self.filled(&at(&["to"]), &to.cluster, &to.topic, topic);
        let [target] = self.endpoint(&at(&["to"]), &to.cluster, &to_topic, &to.options, [OptionsOf::Sink]);
        let group = from.group.clone().unwrap_or_default();
        self.group(&at(&["from", "group"]), &source, &group);
        let placement = match route.partitioning {
            shape::Partitioning::Key => Placement::Key,
            shape::Partitioning::Same => Placement::Same,
            shape::Partitioning::RoundRobin => Placement::RoundRobin,
        };
        if placement == Placement::RoundRobin && route.hops.deliver.order != shape::Order::None {
            let problem = "`round_robin` spreads each key over all partitions, so that nothing keeps its order";
            let mistake = self.at(&at(&["partitioning"]), problem);
            self.mistakes.push(mistake.expected("`order: none`, which says so").warning());
        }
        let start = self.start(&at(&["from"]), &source, from);
        let transforms = transforms::check(self.root, name, &route.transform, self.mistakes);
        let stamp = route.stamp.then(|| Stamp { from: source.to_string(), to: target.to_string() });
        let edits = Edits { transforms, stamp };
        if route.via.is_none() && self.is_written(&at(&["hops", "stage"])) {
            let mistake = self.at(&at(&["hops", "stage"]), "the route has no `via`, and so no such hop");
            self.mistakes.push(mistake.expected("`deliver`"));
        }
        let hop = |name, from: Endpoint, group, to: Endpoint, policies| Hop {
            name,
            from,
            group,
            start: start.clone(),
            on_gap: route.from.on_gap,
            to,
            edits: edits.clone(),
            placement,
            fenced: false,
            policies,
        };
        let mut staging = None;
        let hops = match &route.via {
            None => {
                let policies = self.hop_policies(name, "deliver", &route.hops.deliver, &source);
                vec![hop("deliver", source.clone(), group, target.clone(), policies)]
            }
            Some(via) => {
                let sides = [OptionsOf::Sink, OptionsOf::Source];
                let via_topic = self.filled(&at(&["via"]), &via.cluster, &via.topic, topic);
                let [stage, staged] = self.endpoint(&at(&["via"]), &via.cluster, &via_topic, &via.options, sides);
                if clusters::protocol(stage.cluster.protocol).is_some_and(|protocol| !protocol.stages) {
                    let stages =
                        clusters::protocols().filter(|p| p.stages).map(|p| p.name).collect::<Vec<_>>().join(" or ");
                    let problem = format!("{} cannot stage messages", stage.cluster.protocol);
                    self.mistakes.push(
                        self.at(&at(&["via", "cluster"]), problem).expected(format!("a cluster of type {stages}")),
                    );
                }
                if spreads(&source) {
                    let problem = "several instances read one partition of the source at the same time, and its staging topic has one \
                                   writer for each: they would take it from each other for ever";
                    let mistake = self.at(&at(&["from", "options"]), problem);
                    self.mistakes
                        .push(mistake.expected("a subscription of one reader a partition, no gRPC proxy, or no `via`"));
                }
                let second = via.group.clone().unwrap_or_default();
                self.group(&at(&["via", "group"]), &stage, &second);
                let policies = self.hop_policies(name, "stage", &route.hops.stage, &source);
                let first = Hop {
                    placement: Placement::Same,
                    fenced: true,
                    ..hop("stage", source.clone(), group, stage.clone(), policies)
                };
                // Whatever was staged is to be delivered, wherever the route began.
                let policies = self.hop_policies(name, "deliver", &route.hops.deliver, &staged);
                let edits = Edits::default();
                let second =
                    Hop { start: Start::Earliest, edits, ..hop("deliver", staged, second, target.clone(), policies) };
                staging = Some(stage);
                vec![first, second]
            }
        };
        let clusters =
            [staging.as_ref(), Some(&source), Some(&target)].into_iter().flatten().map(|e| e.cluster.clone());
        let dead_letter = self.dead_letter(name, &route.dead_letter, clusters.collect());
        let dead_letter_limit =
            self.policies(&[&["routes", name], &["defaults"]]).dead_letter_limit(&route.dead_letter);
        Route { name: own_name.clone(), declared: name.to_owned(), hops, dead_letter, dead_letter_limit }
    }

    /// Where the route begins.
    fn start(&mut self, path: &[&str], source: &Endpoint, from: &shape::From) -> Start {
        let start = self.written_start(path, source, from);
        let begins = clusters::protocol(source.cluster.protocol).is_none_or(|p| (p.begins)(&source.cluster.settings));
        if start != Start::Earliest && !begins {
            let key = if from.start_offsets.is_empty() { "start" } else { "start_offsets" };
            let problem = "a gRPC proxy reads on from where the group is, and cannot be told where to begin";
            self.mistakes.push(self.at(&[path, &[key]].concat(), problem).expected("`start: earliest`, or `namesrv`"));
        }
        start
    }

    fn written_start(&mut self, path: &[&str], source: &Endpoint, from: &shape::From) -> Start {
        let protocol = clusters::protocol(source.cluster.protocol);
        if from.start_offsets.is_empty() {
            return match from.start.as_str() {
                shape::EARLIEST => Start::Earliest,
                shape::LATEST => Start::Latest,
                text => match moment(text).map(|time| time.duration_since(UNIX_EPOCH)) {
                    Ok(Ok(since)) => Start::Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
                    _ => {
                        let known = [shape::EARLIEST, shape::LATEST, "a time such as 2026-01-31T12:00:00Z"];
                        let mistake = self.at(&[path, &["start"]].concat(), format!("`{text}` is not known here"));
                        self.mistakes.push(mistake.one_of(text, known.into_iter()));
                        Start::Earliest
                    }
                },
            };
        }
        let path = [path, &["start_offsets"]].concat();
        if let Some(protocol) = protocol.filter(|protocol| !protocol.offsets) {
            self.say(&path, format!("the positions of {} are no numbers", protocol.name));
        }
        if from.start != shape::EARLIEST {
            self.say(&path, "`start` says where to begin as well");
        }
        if from.topic.is_none() {
            self.say(&path, "several topics cannot have the same offsets");
        }
        let mut offsets = BTreeMap::new();
        for (partition, offset) in &from.start_offsets {
            match partition.parse() {
                Ok(number) => drop(offsets.insert(PartitionId(number), *offset)),
                Err(_) => self.say(&path, format!("`{partition}` is not the number of a partition")),
            }
        }
        Start::Offsets(offsets)
    }

    /// A topic with the source's name in it.
    fn filled(&mut self, path: &[&str], cluster: &str, template: &str, topic: &str) -> String {
        if let Some(unknown) = several::unknown_placeholder(template) {
            let mistake = self.at(&[path, &["topic"]].concat(), format!("`{unknown}` stands for nothing"));
            self.mistakes
                .push(mistake.expected(format!("`{}`, the source topic's name, or no braces", several::TOPIC)));
            return template.replace(['{', '}'], "");
        }
        let protocol = self.clusters.get(cluster).and_then(|cluster| clusters::protocol(cluster.protocol));
        protocol.map_or_else(|| template.to_owned(), |target| several::filled(template, topic, target).into_owned())
    }

    fn hop_policies(&mut self, route: &str, hop: &str, written: &shape::HopPolicies, source: &Endpoint) -> HopPolicies {
        let window = acknowledgement_window(source);
        let places: [&[&str]; 3] = [&["routes", route, "hops", hop], &["routes", route], &["defaults"]];
        let mut policies = self.policies(&places);
        policies.timeouts(written, window);
        policies.within(&["revoke_timeout"], written.revoke_timeout, REVOKE_TIMEOUT);
        policies.within(&["commit_interval"], written.commit_interval, COMMIT_INTERVAL);
        policies.within(&["max_ahead", "bytes"], written.max_ahead.bytes, MAX_AHEAD);
        let shape::MaxAhead { messages, bytes: size } = written.max_ahead;
        HopPolicies {
            retry: policies.retry(&written.retry),
            gate: policies.gate(&written.gate, written.send_timeout),
            set_aside: SetAside { order: written.order.into(), most: written.set_aside as usize },
            rate: policies.rate(&written.rate),
            send_timeout: written.send_timeout.0,
            revoke_timeout: written.revoke_timeout.0,
            hung_after: policies.hung_after(written),
            commit_interval: written.commit_interval.0,
            max_ahead: MaxAhead { messages: messages as usize, bytes: bytes(size) },
        }
    }

    /// The same topic from each side, with the options that are for it.
    fn endpoint<const SIDES: usize>(
        &mut self,
        path: &[&str],
        cluster: &str,
        topic: &str,
        options: &Options,
        sides: [OptionsOf; SIDES],
    ) -> [Endpoint; SIDES] {
        let cluster = self.known(path, cluster);
        let usage = if sides.contains(&OptionsOf::Sink) { Use::Write } else { Use::Read };
        let topic = self.topic(path, &cluster, topic, usage);
        let taken = match clusters::protocol(cluster.protocol) {
            Some(protocol) => self.options.check((self.root, path), protocol, options, sides, self.mistakes),
            None => sides.map(|_| Options::new()),
        };
        taken.map(|options| Endpoint { cluster: cluster.clone(), topic: topic.clone(), options })
    }

    /// In full, as the cluster's protocol names it.
    fn topic(&mut self, path: &[&str], cluster: &Cluster, topic: &str, usage: Use) -> String {
        match clusters::protocol(cluster.protocol) {
            // An empty one was reported already.
            Some(protocol) if !topic.is_empty() => (protocol.topic)(topic, usage).unwrap_or_else(|why| {
                self.say(&[path, &["topic"]].concat(), format!("`{topic}` is not a {} topic: {why}", protocol.name));
                topic.to_owned()
            }),
            _ => topic.to_owned(),
        }
    }

    pub(super) fn known(&mut self, path: &[&str], name: &str) -> Arc<Cluster> {
        if let Some(cluster) = self.clusters.get(name) {
            return cluster.clone();
        }
        if !name.is_empty() && !self.clusters.is_empty() {
            let known = self.clusters.keys().map(String::as_str);
            let mistake =
                self.at(&[path, &["cluster"]].concat(), format!("there is no cluster `{name}`")).one_of(name, known);
            self.mistakes.push(mistake);
        }
        unknown(name)
    }

    pub(super) fn cluster_of(&self, name: &str) -> Arc<Cluster> {
        self.clusters.get(name).cloned().unwrap_or_else(|| unknown(name))
    }

    fn group(&mut self, path: &[&str], at: &Endpoint, group: &str) {
        if let Some(protocol) = clusters::protocol(at.cluster.protocol)
            && let Err(why) = (protocol.group)(group)
        {
            self.say(path, format!("`{group}` is not a {} group: {why}", protocol.name));
        }
    }

    /// As the route says, else on a cluster that keeps dead letters by itself: one of the route's own, or the only one.
    fn dead_letter(&mut self, route: &str, written: &shape::DeadLetter, own: Vec<Arc<Cluster>>) -> Endpoint {
        let path = ["routes", route, "dead_letter"];
        let keeps = |cluster: &Cluster| clusters::protocol(cluster.protocol).and_then(|protocol| protocol.dead_letters);
        let cluster = match &written.cluster {
            Some(cluster) => self.known(&path, cluster),
            None => {
                let mut all = self.clusters.values().filter(|cluster| keeps(cluster).is_some());
                let only = all.next().filter(|_| all.next().is_none());
                match own.iter().find(|cluster| keeps(cluster).is_some()).or(only) {
                    Some(cluster) => cluster.clone(),
                    None => {
                        if own.iter().all(|cluster| cluster.protocol != UNKNOWN) {
                            let expected = "`dead_letter: { cluster: ..., topic: ... }`, on a cluster of this table";
                            self.mistakes.push(self.at(&path, "its dead letters have no place").expected(expected));
                        }
                        return Endpoint { cluster: unknown(""), topic: String::new(), options: BTreeMap::new() };
                    }
                }
            }
        };
        let topic = match (written.topic.as_deref(), keeps(&cluster)) {
            (Some(topic), _) => topic.to_owned(),
            (None, Some(beginning)) => format!("{beginning}{route}"),
            (None, None) => {
                if cluster.protocol != UNKNOWN {
                    let problem =
                        format!("`topic` is missing: {} has no place for dead letters by itself", cluster.protocol);
                    self.say(&path, problem);
                }
                String::new()
            }
        };
        let topic = self.topic(&path, &cluster, &topic, Use::Write);
        Endpoint { cluster, topic, options: BTreeMap::new() }
    }

    fn memory(&mut self, memory: &shape::Memory) -> Memory {
        let fine = self.within(&["memory", "limit"], memory.limit, MEMORY)
            & self.within(&["memory", "largest_message"], memory.largest_message, LARGEST_MESSAGE);
        if fine && memory.limit.0 < memory.largest_message.0 * 2 {
            let problem = format!("two messages of the largest size, {}, do not fit", memory.largest_message);
            self.say(&["memory", "limit"], problem);
        }
        Memory { limit: bytes(memory.limit), largest_message: bytes(memory.largest_message) }
    }

    /// A drain must be able to wait as long as a revoke does.
    fn grace(&mut self, shape: &shape::Table) {
        let (path, grace) = (["shutdown", "grace"], shape.shutdown.grace);
        let slowest = shape.routes.iter().flat_map(|(name, route)| {
            let hops = [&route.hops.deliver].into_iter().chain(route.via.is_some().then_some(&route.hops.stage));
            hops.map(move |hop| (name, hop.revoke_timeout))
        });
        if self.within(&path, grace, GRACE)
            && let Some((name, revoke_timeout)) = slowest.max_by_key(|(_, revoke_timeout)| *revoke_timeout)
            && grace < revoke_timeout
        {
            self.say(&path, format!("{grace} is shorter than the `revoke_timeout` of route {name}, {revoke_timeout}"));
        }
    }

    /// Policies that may stand at any of these places, the first of which wins.
    fn policies<'b>(&'b mut self, at: &'b [&'b [&'b str]]) -> Policies<'b> {
        Policies { root: self.root, mistakes: self.mistakes, at }
    }

    fn is_written(&self, path: &[&str]) -> bool {
        policies::is_written(self.root, path)
    }

    pub(super) fn name(&mut self, path: &[&str], name: &str, at: Span) {
        if let Err(why) = clusters::letters(name, "_-", MAX_NAME) {
            self.mistakes.push(Mistake::at(at, format!("`{name}` is not a name: {why}")).path(path));
        }
    }

    pub(super) fn within<T: PartialOrd + std::fmt::Display>(
        &mut self,
        path: &[&str],
        value: T,
        range: RangeInclusive<T>,
    ) -> bool {
        let within = range.contains(&value);
        if !within {
            let expected = format!("{} to {}", range.start(), range.end());
            self.mistakes.push(self.at(path, format!("{value} is out of range")).expected(expected));
        }
        within
    }

    /// Whether something was said about this place, or about what is under it.
    pub(super) fn is_reported(&self, path: &[&str]) -> bool {
        let under = self.at(path, "").path;
        let inside = format!("{under}/");
        self.root.is_unknown(path)
            || self.mistakes.iter().any(|mistake| mistake.path == under || mistake.path.starts_with(&inside))
    }

    pub(super) fn at(&self, path: &[&str], problem: impl Into<String>) -> Mistake {
        Mistake::on(self.root, path, problem)
    }

    pub(super) fn say(&mut self, path: &[&str], problem: impl Into<String>) {
        self.mistakes.push(self.at(path, problem));
    }
}

fn unknown(name: &str) -> Arc<Cluster> {
    let (guarantee, rate, settings) = (Guarantee::default(), Rate::default(), Value::Null);
    Arc::new(Cluster { name: name.to_owned(), protocol: UNKNOWN, guarantee, rate, settings })
}

/// How long the source's group waits for what is not acknowledged yet when it takes a partition away: an option of its client,
/// in milliseconds, of the topic or else of the cluster. Nothing where a protocol has no such time, or where it is not a number.
fn acknowledgement_window(source: &Endpoint) -> Option<(&'static str, Time)> {
    let (option, default) = clusters::protocol(source.cluster.protocol)?.acknowledgement_window?;
    let of_cluster = || source.cluster.settings.get("options")?.get(option)?.as_str();
    let written = source.options.get(option).map(String::as_str).or_else(of_cluster);
    Some((option, Time::millis(written.map_or(Some(default), |written| written.parse().ok())?)))
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

/// Whether several members of its group read one partition at the same time.
fn spreads(source: &Endpoint) -> bool {
    clusters::protocol(source.cluster.protocol)
        .is_some_and(|protocol| (protocol.spreads)(&source.cluster.settings, &source.options))
}

/// A time, or a day at whose beginning it is; UTC unless it says otherwise.
fn moment(text: &str) -> Result<SystemTime, humantime::TimestampError> {
    humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339_weak(&format!("{text}T00:00:00")))
}
