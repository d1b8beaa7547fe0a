//! `trestle run`: carries messages, by the table as it is at any time, until it is told to stop.

use std::{path::Path, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use super::{Exit, check};
use crate::{
    admin::{self, Admin, Api},
    clusters,
    config::{Auth, Table, Watch, is_loopback},
    logging::{self, Filter},
    supervisor::{self, Supervisor, desk},
};

/// Runs every route of the table. Returns after a drain.
pub fn run(file: &Path) -> Exit {
    let checked = check::read(file);
    let Some(table) = checked.table else { return Exit::Wrong };
    let files = Watch::new(file.to_owned(), checked.inputs);
    let filter = Arc::new(logging::start());
    #[cfg(feature = "failpoints")]
    let _places = fail::FailScenario::setup();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}")),
    };
    let exit = runtime.block_on(carry(table, files, filter)).map_or_else(|error| failed(&error), |()| Exit::Fine);
    // Whatever still runs belongs to clients that were told to close and did not.
    runtime.shutdown_background();
    exit
}

async fn carry(table: Table, files: Watch, filter: Arc<Filter>) -> Result<(), String> {
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
    let admin = Admin {
        statuses,
        metrics: metrics.clone(),
        listen: table.listen,
        api,
        filter,
        attempts: Arc::default(),
        requests: Arc::default(),
    };
    let pages = tokio::spawn(admin::serve_apart(listener, admin, finished));
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

fn failed(error: &str) -> Exit {
    tracing::error!(error, "failed");
    Exit::Failed
}
