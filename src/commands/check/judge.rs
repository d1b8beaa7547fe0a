//! What the clusters' answers mean for the routes of a table. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use trestle_core::{Survey, Surveyed, TopicInfo};

use super::columns;
use crate::{
    config::{Endpoint, Route, Severity, Table},
    pipeline::Placement,
};

/// By cluster; an error when it did not answer.
pub type Surveys = BTreeMap<String, Result<Asked, String>>;

/// One cluster's answers; those about topics by name.
pub struct Asked {
    pub survey: Survey,
    pub topics: BTreeMap<String, Surveyed>,
}

#[derive(Default)]
pub struct Judgement {
    pub findings: Vec<Finding>,
    pub clusters: Vec<ClusterLine>,
    pub to_be_made: BTreeSet<ToBeMade>,
}

/// Something to say about what stands at this path of the table.
#[derive(Debug)]
pub struct Finding {
    pub path: Vec<String>,
    pub severity: Severity,
    pub problem: String,
}

#[derive(Serialize)]
pub struct ClusterLine {
    cluster: String,
    #[serde(rename = "type")]
    protocol: &'static str,
    reachable: bool,
    version: Option<String>,
    brokers: Option<usize>,
}

/// A topic that the run will make.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ToBeMade {
    cluster: String,
    topic: String,
    partitions: u32,
}

pub fn judge(table: &Table, surveys: &Surveys) -> Judgement {
    let mut judge = Judge { table, surveys, judgement: Judgement::default() };
    judge.clusters();
    for route in table.routes.values() {
        judge.route(route);
    }
    judge.judgement
}

impl Judgement {
    /// Nothing could be asked at all.
    pub fn failed(problem: String) -> Self {
        let finding = Finding { path: vec!["clusters".into()], severity: Severity::Error, problem };
        Judgement { findings: vec![finding], ..Judgement::default() }
    }

    /// What else could not be found out.
    pub fn and(mut self, problem: Option<String>) -> Self {
        let finding = |problem| Finding { path: vec!["clusters".into()], severity: Severity::Error, problem };
        self.findings.extend(problem.map(finding));
        self
    }

    /// For people: who answered, and what the run will make.
    pub fn summary(&self) -> String {
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        let row = |line: &ClusterLine| {
            let answers = if line.reachable { "yes" } else { "no" };
            let brokers = line.brokers.map(|brokers| brokers.to_string());
            [line.cluster.clone(), line.protocol.into(), answers.into(), known(&line.version), known(&brokers)]
        };
        let heading = ["cluster", "type", "answers", "version", "brokers"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(heading).chain(self.clusters.iter().map(row)).collect();
        let made = |made: &ToBeMade| {
            let ToBeMade { cluster, topic, partitions } = made;
            format!(
                "will be made on {cluster}: {topic}, {partitions} partition{}\n",
                if *partitions == 1 { "" } else { "s" }
            )
        };
        format!("\n{}{}", columns(&rows), self.to_be_made.iter().map(made).collect::<String>())
    }
}

struct Judge<'a> {
    table: &'a Table,
    surveys: &'a Surveys,
    judgement: Judgement,
}

impl<'a> Judge<'a> {
    fn clusters(&mut self) {
        for cluster in self.table.clusters.values() {
            let path = ["clusters", &cluster.name];
            let (survey, reachable) = match self.surveys.get(&cluster.name) {
                Some(Ok(asked)) => {
                    for problem in &asked.survey.problems {
                        self.say(&path, Severity::Error, problem);
                    }
                    (Some(&asked.survey), true)
                }
                Some(Err(problem)) => {
                    self.say(&path, Severity::Error, problem);
                    (None, false)
                }
                None => continue,
            };
            self.judgement.clusters.push(ClusterLine {
                cluster: cluster.name.clone(),
                protocol: cluster.protocol,
                reachable,
                version: survey.and_then(|survey| survey.version.clone()),
                brokers: survey.and_then(|survey| survey.brokers),
            });
        }
    }

    fn route(&mut self, route: &Route) {
        let (Some(first), Some(last)) = (route.hops.first(), route.hops.last()) else { return };
        let path = |key: &'static str| ["routes", route.declared.as_str(), key, "topic"];
        let source = self.source(&path("from"), &first.from);
        let partitions = source.map(|source| source.partitions);
        if route.hops.len() > 1 {
            self.durable(&path("via"), &first.to, partitions, "staged messages");
        }
        self.durable(&path("dead_letter"), &route.dead_letter, Some(1), "dead letters");
        if let Some(target) = self.target(&path("to"), &last.to, partitions) {
            if let (Placement::Same, Some(partitions)) = (last.placement, partitions)
                && target.partitions < partitions
            {
                let problem = format!(
                    "`partitioning: same` puts the {partitions} partitions of {} into {} here: some share one",
                    first.from, target.partitions
                );
                self.say(&path("to"), Severity::Warning, &problem);
            }
            self.sizes(&path("to"), source, target);
        }
    }

    fn source(&mut self, path: &[&str], from: &Endpoint) -> Option<&'a TopicInfo> {
        match self.surveyed(from)? {
            Surveyed::There(info) => {
                self.warn(path, [&info.losses, &info.unchecked]);
                let largest = self.table.memory.largest_message;
                if info.max_message.is_some_and(|max| max > largest) {
                    let problem = format!(
                        "the topic takes messages of up to {} bytes: one over `memory.largest_message`, {largest}, is dead-lettered",
                        info.max_message.unwrap_or_default()
                    );
                    self.say(path, Severity::Warning, &problem);
                }
                return Some(info);
            }
            Surveyed::Missing { .. } => {
                let problem = format!("there is no topic {from}: the route would wait for it");
                self.say(path, Severity::Error, &problem);
            }
            Surveyed::Unknown(fault) => self.say(path, Severity::Error, &fault.detail),
        }
        None
    }

    /// A topic that must keep messages until somebody acknowledged them.
    fn durable(&mut self, path: &[&str], to: &Endpoint, partitions: Option<u32>, what: &str) {
        let Some(surveyed) = self.surveyed(to) else { return };
        let losses = match surveyed {
            Surveyed::There(info) => {
                self.warn(path, [&info.warnings, &info.unchecked]);
                if let Some(partitions) = partitions.filter(|partitions| *partitions > info.partitions && !info.grows) {
                    let problem = format!(
                        "{to} can get no more partitions than the {} it has; {partitions} are needed",
                        info.partitions
                    );
                    self.say(path, Severity::Error, &problem);
                }
                &info.losses
            }
            Surveyed::Missing { obstacle, losses } => {
                self.missing(path, to, obstacle.as_deref(), partitions);
                losses
            }
            Surveyed::Unknown(fault) => return self.say(path, Severity::Error, &fault.detail),
        };
        for loss in losses {
            let problem = format!("{what} would not be safe here, and the route would not start: {loss}");
            self.say(path, Severity::Error, &problem);
        }
    }

    fn target(&mut self, path: &[&str], to: &Endpoint, partitions: Option<u32>) -> Option<&'a TopicInfo> {
        match self.surveyed(to)? {
            Surveyed::There(info) => {
                self.warn(path, [&info.warnings, &info.unchecked]);
                return Some(info);
            }
            Surveyed::Missing { obstacle, .. } => self.missing(path, to, obstacle.as_deref(), partitions),
            Surveyed::Unknown(fault) => self.say(path, Severity::Error, &fault.detail),
        }
        None
    }

    fn missing(&mut self, path: &[&str], to: &Endpoint, obstacle: Option<&str>, partitions: Option<u32>) {
        match (obstacle, partitions) {
            (Some(obstacle), _) => {
                self.say(path, Severity::Error, &format!("{to} is not there and cannot be made: {obstacle}"));
            }
            (None, Some(partitions)) => {
                let made = ToBeMade { cluster: to.cluster.name.clone(), topic: to.topic.clone(), partitions };
                self.judgement.to_be_made.insert(made);
            }
            // The source is not there yet; that was said.
            (None, None) => {}
        }
    }

    /// What the source takes and the target does not.
    fn sizes(&mut self, path: &[&str], source: Option<&TopicInfo>, target: &TopicInfo) {
        let Some(source) = source else { return };
        let largest = self.table.memory.largest_message;
        let comes = source.max_message.map_or(largest, |max| max.min(largest));
        if let Some(max) = target.max_message.filter(|max| *max < comes) {
            let problem = format!(
                "the topic takes messages of up to {max} bytes, and up to {comes} may come: larger ones are dead-lettered"
            );
            self.say(path, Severity::Warning, &problem);
        }
    }

    fn surveyed(&self, end: &Endpoint) -> Option<&'a Surveyed> {
        // Of a cluster that did not answer enough was said.
        self.surveys.get(&end.cluster.name)?.as_ref().ok()?.topics.get(&end.topic)
    }

    fn warn(&mut self, path: &[&str], problems: [&Vec<String>; 2]) {
        for problem in problems.into_iter().flatten() {
            self.say(path, Severity::Warning, problem);
        }
    }

    fn say(&mut self, path: &[&str], severity: Severity, problem: &str) {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        self.judgement.findings.push(Finding { path, severity, problem: problem.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use trestle_core::{Fault, Why};

    use super::*;
    use crate::config;

    const TABLE: &str = r#"
clusters:
  k: { type: kafka, servers: "h:1" }
  p: { type: pulsar, url: "pulsar://h:1" }
  r: { type: rocketmq, namesrv: "h:1" }
routes:
  x:
    from: { cluster: k, topic: in }
    via: { cluster: p, topic: "persistent://public/default/staged" }
    to: { cluster: r, topic: out }
  y:
    from: { cluster: k, topic: in }
    to: { cluster: k, topic: copy }
    partitioning: same
"#;
    const DEAD: &str = "persistent://public/dlq-pulsar-bridge/";

    fn there(partitions: u32, max_message: usize) -> Surveyed {
        let info = TopicInfo { partitions, max_message: Some(max_message), grows: true, ..TopicInfo::default() };
        Surveyed::There(info)
    }

    fn missing() -> Surveyed {
        Surveyed::Missing { obstacle: None, losses: Vec::new() }
    }

    fn answers() -> BTreeMap<&'static str, Vec<(String, Surveyed)>> {
        let (x, y) = (format!("{DEAD}x"), format!("{DEAD}y"));
        let staged = "persistent://public/default/staged".to_owned();
        BTreeMap::from([
            ("k", vec![("in".into(), there(4, 1 << 20)), ("copy".into(), there(4, 1 << 20))]),
            ("p", vec![(staged, missing()), (x, missing()), (y, there(1, 5 << 20))]),
            ("r", vec![("out".into(), there(4, 4 << 20))]),
        ])
    }

    fn judged(answers: BTreeMap<&'static str, Vec<(String, Surveyed)>>) -> Judgement {
        let table = config::check(Path::new("t"), TABLE, &|_| None).table.unwrap();
        let asked = |topics: Vec<_>| Asked { survey: Survey::default(), topics: topics.into_iter().collect() };
        judge(&table, &answers.into_iter().map(|(name, topics)| (name.to_owned(), Ok(asked(topics)))).collect())
    }

    /// Where, how bad, and a word of each finding when one answer is changed.
    fn said(cluster: &'static str, topic: &str, answer: Surveyed) -> Vec<(String, Severity, String)> {
        let mut answers = answers();
        let topics = answers.get_mut(cluster).unwrap();
        topics.iter_mut().find(|(name, _)| name == topic).unwrap().1 = answer;
        judged(answers).findings.into_iter().map(|f| (f.path.join("/"), f.severity, f.problem)).collect()
    }

    #[test]
    fn what_is_fine_is_only_told_of_what_will_be_made() {
        let judgement = judged(answers());
        assert!(judgement.findings.is_empty(), "{:?}", judgement.findings);
        let made: Vec<_> = judgement.to_be_made.iter().map(|made| (made.topic.as_str(), made.partitions)).collect();
        assert_eq!(made, [("persistent://public/default/staged", 4), ("persistent://public/dlq-pulsar-bridge/x", 1)]);
    }

    #[test]
    fn a_source_that_is_missing_is_an_error_of_every_route_that_reads_it() {
        let said = said("k", "in", missing());
        let places: Vec<_> = said.iter().map(|(path, severity, _)| (path.as_str(), *severity)).collect();
        assert_eq!(places, [("routes/x/from/topic", Severity::Error), ("routes/y/from/topic", Severity::Error)]);
    }

    #[test]
    fn what_could_vanish_is_a_warning_where_it_is_read_and_an_error_where_it_must_stay() {
        let lossy = || {
            let losses = vec!["retention".to_owned()];
            Surveyed::There(TopicInfo { partitions: 4, grows: true, losses, ..TopicInfo::default() })
        };
        assert!(said("k", "in", lossy()).iter().all(|(_, severity, _)| *severity == Severity::Warning));
        let staged = "persistent://public/default/staged";
        let said_of_via = said("p", staged, lossy());
        assert_eq!((said_of_via.len(), said_of_via[0].0.as_str()), (1, "routes/x/via/topic"));
        assert_eq!(said_of_via[0].1, Severity::Error);
        let later = Surveyed::Missing { obstacle: None, losses: vec!["TTL".into()] };
        assert_eq!(said("p", &format!("{DEAD}x"), later)[0].0, "routes/x/dead_letter/topic");
        assert!(said("r", "out", lossy()).is_empty(), "what is delivered is somebody else's");
    }

    #[test]
    fn partitions_that_would_share_one_and_topics_that_cannot_grow_are_told() {
        let fewer = said("k", "copy", there(2, 1 << 20));
        assert!(fewer.len() == 1 && fewer[0].0 == "routes/y/to/topic" && fewer[0].2.contains("some share one"));
        let single = TopicInfo { partitions: 1, grows: false, ..TopicInfo::default() };
        let said = said("p", "persistent://public/default/staged", Surveyed::There(single));
        assert!(said[0].1 == Severity::Error && said[0].2.contains("4 are needed"), "{said:?}");
    }

    #[test]
    fn messages_that_only_one_side_takes_are_told() {
        let smaller = said("r", "out", there(4, 1000));
        assert!(smaller.len() == 1 && smaller[0].2.contains("up to 1000 bytes"), "{smaller:?}");
        let larger = said("k", "in", there(4, 64 << 20));
        let about: Vec<_> = larger.iter().map(|(path, ..)| path.as_str()).collect();
        assert!(about.contains(&"routes/x/from/topic") && about.contains(&"routes/x/to/topic"), "{larger:?}");
    }

    #[test]
    fn a_cluster_that_does_not_answer_is_told_once() {
        let table = config::check(Path::new("t"), TABLE, &|_| None).table.unwrap();
        let surveys = table.clusters.keys().map(|name| (name.clone(), Err("refused".to_owned()))).collect();
        let judgement = judge(&table, &surveys);
        let paths: Vec<_> = judgement.findings.iter().map(|finding| finding.path.join("/")).collect();
        assert_eq!(paths, ["clusters/k", "clusters/p", "clusters/r"]);
        assert!(judgement.summary().contains("no"));
        let answers = BTreeMap::from([(
            "k",
            vec![("in".into(), Surveyed::Unknown(Fault::unavailable(Why::Permission, "no right")))],
        )]);
        assert!(judged(answers).findings.iter().any(|finding| finding.problem.contains("no right")));
    }
}
