//! Follows the table's file while its routes run: what is right is applied, what is wrong changes nothing.

use std::time::SystemTime;

use tokio::sync::{Notify, watch};

use super::{Applied, Inbox, Order, Refused, Supervisor, desk::Answer, discovery::Discovery};
use crate::config::{Checked, Mistake, Severity, Watch};

/// Applies the table whenever its files have changed, other topics match, or `asked` says so, and carries out orders, until
/// `stopping` turns true.
pub async fn follow(
    supervisor: &mut Supervisor,
    mut files: Watch,
    asked: &Notify,
    inbox: &mut Inbox,
    mut stopping: watch::Receiver<bool>,
) {
    let beat = inbox.beat.clone();
    let follow = async {
        let mut discovery = Discovery::default();
        loop {
            let patterns = supervisor.looking();
            let mut asks: Option<Answer<Applied>> = None;
            let found = tokio::select! {
                biased;
                Some(order) = inbox.orders.recv() => match order {
                    Order::Pause { route, answer } => {
                        let _ = answer.send(supervisor.pause(&route));
                        continue;
                    }
                    Order::Resume { route, answer } => {
                        let _ = answer.send(supervisor.resume(&route));
                        continue;
                    }
                    Order::Reload { answer } => {
                        asks = Some(answer);
                        false
                    }
                },
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
            let applied = match files.load(discovery.found()).await {
                Ok(checked) => reload(supervisor, checked),
                Err(problem) => Err(refused(supervisor, problem)),
            };
            if let Some(asks) = asks {
                let _ = asks.send(applied);
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
        () = beat.beside(follow) => {}
    }
}

fn reload(supervisor: &mut Supervisor, checked: Checked) -> Result<Applied, Refused> {
    checked.mistakes.iter().for_each(told);
    let Some(table) = checked.table else {
        let wrong = checked.mistakes.iter().filter(|mistake| mistake.severity == Severity::Error);
        let mistakes: Vec<String> = wrong.map(|wrong| format!("line {}: {}", wrong.line, wrong.problem)).collect();
        let several = if mistakes.len() == 1 { "" } else { "s" };
        refused(supervisor, format!("it has {} mistake{several}", mistakes.len()));
        return Err(Refused::Table(mistakes));
    };
    match supervisor.apply(&table) {
        Ok(applied) => {
            let Applied { generation, difference, needs_restart } = &applied;
            for setting in needs_restart {
                tracing::warn!("{setting}");
            }
            let (added, changed) = (difference.added.join(", "), difference.changed.join(", "));
            let (removed, unchanged) = (difference.removed.join(", "), difference.unchanged);
            tracing::info!(generation, added, changed, removed, unchanged, "the table is applied");
            Ok(applied)
        }
        Err(problem) => Err(refused(supervisor, problem)),
    }
}

fn refused(supervisor: &Supervisor, problem: String) -> Refused {
    metrics::counter!("trestle_config_reload_failures_total").increment(1);
    tracing::error!(problem, "the table is not applied: what runs stays as it is");
    supervisor.news.send_modify(|news| news.refused = Some((SystemTime::now(), problem.clone())));
    Refused::Failed(problem)
}

fn told(mistake: &Mistake) {
    let Mistake { line, column, problem, .. } = mistake;
    let (expected, nearest) = (mistake.expected.as_deref(), mistake.nearest.as_deref());
    match mistake.severity {
        Severity::Error => tracing::error!(line, column, expected, nearest, "the table is wrong: {problem}"),
        Severity::Warning => tracing::warn!(line, column, expected, nearest, "in the table: {problem}"),
    }
}
