//! `trestle run`: carries messages, by the table as it is at any time, until it is told to stop.

use std::{io::IsTerminal, path::Path, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use super::{Exit, check};
use crate::{
    admin::{self, Admin, Api},
    clusters,
    config::{Auth, Table, Watch, is_loopback},
    supervisor::{self, Supervisor, desk},
};

/// What is logged, as `target=level` pairs; the environment variable of this name says otherwise.
const LOG_VARIABLE: &str = "TRESTLE_LOG";
/// Trestle says each change of state. Clients repeat every failed attempt at lower levels.
const LOG_DEFAULT: &str = "error,trestle=info";

/// Runs every route of the table. Returns after a drain.
pub fn run(file: &Path) -> Exit {
    let checked = check::read(file);
    let Some(table) = checked.table else { return Exit::Wrong };
    let files = Watch::new(file.to_owned(), checked.inputs);
    log();
    #[cfg(feature = "failpoints")]
    let _places = fail::FailScenario::setup();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}")),
    };
    let exit = runtime.block_on(carry(table, files)).map_or_else(|error| failed(&error), |()| Exit::Fine);
    // Whatever still runs belongs to clients that were told to close and did not.
    runtime.shutdown_background();
    exit
}

async fn carry(table: Table, files: Watch) -> Result<(), String> {
    let metrics = admin::metrics::install()?;
    let listener = admin::listen(table.listen).await?;
    let (shutdown, stopping) = watch::channel(false);
    let (drained, finished) = watch::channel(false);
    let reload = Arc::new(Notify::new());
    let signals = on_signals(shutdown, reload.clone()).map_err(|error| format!("signals cannot be heard: {error}"))?;
    let signals = tokio::spawn(signals);
    let connect = |cluster: &_| clusters::connect(cluster).map_err(|error| error.problem);
    let mut supervisor = Supervisor::start(&table, Box::new(connect))?;
    tracing::info!(table = %table.file.display(), routes = table.routes.len(), admin = %table.listen, version = env!("CARGO_PKG_VERSION"), "running");
    let (desk, mut inbox) = desk(supervisor.news());
    let api = Arc::new(Api::new(supervisor.table(), stopping.clone(), desk));
    if table.auth == (Auth::None { explicit: true }) && !is_loopback(table.listen) {
        tracing::warn!(admin = %table.listen, "`admin.auth` is none: everyone who reaches this address reads what this instance tells");
    }
    let statuses = supervisor.statuses();
    let admin = Admin { statuses, metrics: metrics.clone(), listen: table.listen, api, attempts: Arc::default() };
    let pages = tokio::spawn(admin::serve(listener, admin, finished));
    let upkeep = tokio::spawn(admin::metrics::upkeep(metrics));
    supervisor::follow(&mut supervisor, files, &reload, &mut inbox, stopping).await;
    // Orders are refused from now on; a drain is a life as well.
    inbox.orders.close();
    inbox.beat.beside(supervisor.drain()).await;
    tracing::info!("every route has drained");
    drained.send_replace(true);
    upkeep.abort();
    signals.abort();
    pages.await.map_err(|error| error.to_string())?.map_err(|error| format!("the admin server ended: {error}"))
}

/// The first SIGTERM or SIGINT drains. A second one ends the process at once: what was not settled is read again. SIGHUP asks
/// for a reload; several in a row are one.
fn on_signals(shutdown: watch::Sender<bool>, reload: Arc<Notify>) -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    reload.notify_one();
                    continue;
                }
            }
            if shutdown.send_replace(true) {
                tracing::warn!("told to stop a second time: ending at once");
                std::process::exit(Exit::Failed as i32);
            }
            tracing::info!("told to stop: draining; a second signal ends at once");
        }
    })
}

/// Text on a terminal, JSON otherwise.
fn log() {
    let wanted = std::env::var(LOG_VARIABLE).ok().and_then(|text| text.parse::<Targets>().ok());
    let targets = wanted.or_else(|| LOG_DEFAULT.parse().ok()).unwrap_or_default();
    let registry = tracing_subscriber::registry().with(targets);
    if std::io::stderr().is_terminal() {
        registry.with(tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr)).init();
    } else {
        registry.with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
    }
}

fn failed(error: &str) -> Exit {
    tracing::error!(error, "failed");
    Exit::Failed
}
