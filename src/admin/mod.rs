//! HTTP for operators: health, readiness, metrics, the API, and a page that shows it.

mod api;
mod audit;
mod auth;
mod guard;
pub mod metrics;
mod origin;
mod page;
mod problem;
#[cfg(test)]
mod rig;
mod server;
#[cfg(test)]
mod slow;
mod throttle;

use std::{io::ErrorKind, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    middleware,
    routing::{MethodRouter, get},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    sync::{oneshot, watch},
    time::{Duration, Instant, sleep},
};

pub use self::{
    api::{Api, PLAN},
    auth::Attempts,
};
use crate::{config::AdminLimits, logging::Filter, supervisor::Statuses};

/// What the pages are made of.
#[derive(Clone)]
pub struct Admin {
    /// Of the hops there are now.
    pub statuses: watch::Receiver<Statuses>,
    pub metrics: PrometheusHandle,
    /// Where it is served.
    pub listen: SocketAddr,
    pub api: Arc<Api>,
    /// Of the log.
    pub filter: Arc<Filter>,
    /// What was refused.
    pub attempts: Arc<Attempts>,
    /// What was asked.
    pub requests: Arc<Attempts>,
}

/// What is served under one path.
pub struct Page {
    pub path: &'static str,
    /// As the API's document names them.
    pub methods: &'static [&'static str],
    pub handler: MethodRouter<Admin>,
}

impl Admin {
    fn statuses(&self) -> Statuses {
        self.statuses.borrow().clone()
    }

    fn limits(&self) -> AdminLimits {
        self.api.table().limits
    }
}

/// Serves until `stop` turns true.
pub async fn serve(listener: TcpListener, admin: Admin, stop: watch::Receiver<bool>) {
    let limits = {
        let admin = admin.clone();
        move || admin.limits()
    };
    server::serve(listener, router(admin), limits, stop).await;
}

/// Serves on a runtime of its own, so that health is told whatever becomes of the one that calls. Resolves when it has
/// stopped, or says why it never began.
pub async fn serve_apart(listener: TcpListener, admin: Admin, stop: watch::Receiver<bool>) -> Result<(), String> {
    let listener = listener.into_std().map_err(|error| error.to_string())?;
    let (ended, end) = oneshot::channel();
    let serving = move || -> std::io::Result<()> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("admin").enable_all().build()?;
        let served = runtime.block_on(async {
            serve(TcpListener::from_std(listener)?, admin, stop).await;
            Ok(())
        });
        // Whatever still reads letters is not waited for.
        runtime.shutdown_background();
        served
    };
    // Nobody waits for the outcome when the process ends at once.
    let run = move || drop(ended.send(serving().map_err(|error| error.to_string())));
    std::thread::Builder::new().name("admin".into()).spawn(run).map_err(|error| error.to_string())?;
    end.await.unwrap_or_else(|_| Err("its thread ended unexpectedly".into()))
}

/// Of the admin server's own runtime: one may read letters while the other tells of health.
const THREADS: usize = 2;
/// How long a taken address is waited for: an instance that was just killed may hold it while the system buries it.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);
const LISTEN_AGAIN: Duration = Duration::from_millis(50);

/// Listens on the admin address; the error names it.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let give_up = Instant::now() + LISTEN_PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < give_up => sleep(LISTEN_AGAIN).await,
            bound => return bound.map_err(|error| format!("cannot listen on {address} (admin.listen): {error}")),
        }
    }
}

fn router(admin: Admin) -> Router {
    let pages = pages().into_iter().fold(Router::new(), |router, page| router.route(page.path, page.handler));
    pages
        .merge(page::router())
        .fallback(api::nothing_here)
        .layer(middleware::from_fn_with_state(admin.clone(), guard::guarded))
        .with_state(admin)
}

/// All that is served. The API's document has the same.
fn pages() -> Vec<Page> {
    let page = |path, handler| Page { path, methods: &["get"], handler };
    let page_of_metrics = async |State(admin): State<Admin>| metrics::of(&admin.metrics.render(), &admin.statuses());
    let mut pages =
        vec![page("/livez", get(livez)), page("/readyz", get(readyz)), page("/metrics", get(page_of_metrics))];
    pages.extend(api::pages());
    pages
}

/// How long the supervisor may give no sign of life.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// 200 while the supervisor is polled, on the runtime that the routes run on.
async fn livez(State(admin): State<Admin>) -> (StatusCode, String) {
    let silence = admin.api.desk.beat.silence();
    if silence < SILENCE_LIMIT {
        return (StatusCode::OK, "ok\n".into());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("the supervisor has given no sign of life for {} s\n", silence.as_secs()))
}

/// 200 when every hop flows; else 503, and a line for each reason.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    let mut lines = String::new();
    for status in admin.statuses().iter() {
        for (name, reason) in status.reasons() {
            lines.push_str(&format!("{}/{}: {name}: {reason}\n", status.route, status.hop));
        }
    }
    if lines.is_empty() { (StatusCode::OK, "ok\n".into()) } else { (StatusCode::SERVICE_UNAVAILABLE, lines) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pipeline::Status, supervisor::desk};

    fn admin() -> (Admin, watch::Sender<Statuses>) {
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let (sender, statuses) = watch::channel(Statuses::from([]));
        let table =
            crate::config::check(std::path::Path::new("t"), "clusters: {}\nroutes: {}", &|_| None).table.unwrap();
        let api = Arc::new(Api::new(
            watch::channel(Arc::new(table)).1,
            watch::channel(false).1,
            desk(watch::channel(Default::default()).1).0,
        ));
        let (listen, filter) = (([127, 0, 0, 1], 9464).into(), Arc::new(Filter::new("off", |_| Ok(()))));
        let (attempts, requests) = (Arc::default(), Arc::default());
        (Admin { statuses, metrics, listen, api, filter, attempts, requests }, sender)
    }

    #[tokio::test]
    async fn readiness_says_which_hop_waits_for_what() {
        let (admin, statuses) = admin();
        let status = Arc::new(Status::new("orders", "deliver"));
        statuses.send_replace(Arc::from([status.clone()]));
        assert_eq!(readyz(State(admin.clone())).await.0, StatusCode::SERVICE_UNAVAILABLE);
        status.started();
        assert_eq!(readyz(State(admin.clone())).await.0, StatusCode::OK);
        status.set("partition 3", "no answer to a probe");
        let (code, body) = readyz(State(admin)).await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "orders/deliver: partition 3: no answer to a probe\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_gives_no_sign_of_life_is_not_alive() {
        let (admin, _statuses) = admin();
        let beat = admin.api.desk.beat.clone();
        // Whatever it does, as long as it is polled.
        beat.beside(tokio::time::sleep(10 * SILENCE_LIMIT)).await;
        assert_eq!(livez(State(admin.clone())).await.0, StatusCode::OK);
        tokio::time::sleep(SILENCE_LIMIT).await;
        let (code, body) = livez(State(admin)).await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("no sign of life"), "{body}");
    }

    #[tokio::test]
    async fn readiness_follows_which_hops_there_are() {
        let (admin, statuses) = admin();
        statuses.send_replace(Arc::from([Arc::new(Status::new("gone", "deliver"))]));
        assert!(readyz(State(admin.clone())).await.1.contains("gone"));
        statuses.send_replace(Arc::from([]));
        assert_eq!(readyz(State(admin)).await.0, StatusCode::OK);
    }
}
