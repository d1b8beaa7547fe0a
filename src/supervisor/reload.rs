//! Follows the table's file while its routes run: what is right is applied, what is wrong changes nothing.

use tokio::sync::{Notify, watch};

use super::{Applied, Supervisor, discovery::Discovery};
use crate::config::{Checked, Mistake, Severity, Watch};

/// Applies the table whenever its files have changed, other topics match, or `asked` says so, until `stopping` turns true.
pub async fn follow(
    supervisor: &mut Supervisor,
    mut files: Watch,
    asked: &Notify,
    mut stopping: watch::Receiver<bool>,
) {
    let follow = async {
        let mut discovery = Discovery::default();
        loop {
            let patterns = supervisor.looking();
            let found = tokio::select! {
                biased;
                () = asked.notified() => {
                    tracing::info!("told to read the table again");
                    false
                }
                () = files.changed() => {
                    tracing::info!("the table, or a file that it names, has changed");
                    false
                }
                () = discovery.changed(&patterns) => true,
            };
            match files.load(discovery.found()).await {
                Ok(checked) => reload(supervisor, checked),
                Err(problem) => refused(&problem),
            }
            if !found {
                discovery.again(&supervisor.looking());
            }
        }
    };
    // Whoever is told to stop reads no more tables. What one of them started drains with the rest.
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => {}
        () = follow => {}
    }
}

fn reload(supervisor: &mut Supervisor, checked: Checked) {
    checked.mistakes.iter().for_each(told);
    let Some(table) = checked.table else {
        let errors = checked.mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
        return refused(&format!("it has {errors} mistake{}", if errors == 1 { "" } else { "s" }));
    };
    match supervisor.apply(&table) {
        Ok(Applied { generation, difference, needs_restart }) => {
            for setting in needs_restart {
                tracing::warn!("{setting}");
            }
            let (added, changed) = (difference.added.join(", "), difference.changed.join(", "));
            let (removed, unchanged) = (difference.removed.join(", "), difference.unchanged);
            tracing::info!(generation, added, changed, removed, unchanged, "the table is applied");
        }
        Err(problem) => refused(&problem),
    }
}

fn refused(problem: &str) {
    metrics::counter!("trestle_config_reload_failures_total").increment(1);
    tracing::error!(problem, "the table is not applied: what runs stays as it is");
}

fn told(mistake: &Mistake) {
    let Mistake { line, column, problem, .. } = mistake;
    let (expected, nearest) = (mistake.expected.as_deref(), mistake.nearest.as_deref());
    match mistake.severity {
        Severity::Error => tracing::error!(line, column, expected, nearest, "the table is wrong: {problem}"),
        Severity::Warning => tracing::warn!(line, column, expected, nearest, "in the table: {problem}"),
    }
}
