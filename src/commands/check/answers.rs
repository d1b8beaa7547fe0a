//! What clusters said of the topics of a table, for commands that say more of it than whether it is right.

use std::path::Path;

use trestle_core::Surveyed;

use super::{
    Exit,
    connect::{self, Asked},
    judge::{self, Finding},
    render::report,
};
use crate::config::{self, Endpoint, Found, Severity, Table};

pub struct Answers {
    asked: Asked,
    findings: Vec<Finding>,
    /// A cluster did not answer, or says no.
    pub failed: bool,
}

/// Reads a table and asks its clusters; says what is wrong with it.
pub fn survey(file: &Path) -> Result<(Table, Answers), Exit> {
    let mut checked = config::load(file, &Found::new());
    let asked = connect::ask(&mut checked, |found| config::load(file, &found));
    report(file, &checked.mistakes);
    let (Some(asked), Some(table)) = (asked, checked.table) else { return Err(Exit::Wrong) };
    let asked = asked.map_err(|problem| {
        eprintln!("error: {problem}");
        Exit::Failed
    })?;
    let findings = judge::judge(&table, &asked.surveys).findings;
    if let Some(problem) = &asked.unknown {
        eprintln!("error: {problem}");
    }
    let failed = asked.unknown.is_some() || findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok((table, Answers { asked, findings, failed }))
}

impl Answers {
    pub fn topic(&self, end: &Endpoint) -> Option<&Surveyed> {
        self.asked.surveys.get(&end.cluster.name)?.as_ref().ok()?.topics.get(&end.topic)
    }

    /// What is worth knowing of a route of the table, and of its clusters, each once.
    pub fn about(&self, declared: &str) -> Vec<String> {
        let about = |finding: &&Finding| match finding.path.as_slice() {
            [routes, route, ..] if routes == "routes" => route == declared,
            _ => true,
        };
        let mut said: Vec<String> = Vec::new();
        for Finding { severity, problem, .. } in self.findings.iter().filter(about) {
            let problem = if *severity == Severity::Error { format!("error: {problem}") } else { problem.clone() };
            if !said.contains(&problem) {
                said.push(problem);
            }
        }
        said
    }
}
