//! Asks a cluster again for as long as patience lasts.

use tokio::time::{Duration, Instant, sleep, timeout};
use trestle_core::{BoxFuture, Fault, FaultKind, Why};

/// Between two attempts to reach a cluster.
pub const PAUSE: Duration = Duration::from_millis(500);

/// Opens something of a topic. `None`: there is no such topic.
pub async fn open<'a, T>(
    what: &impl std::fmt::Display,
    patience: Duration,
    mut attempt: impl FnMut() -> BoxFuture<'a, Result<T, Fault>>,
) -> Result<Option<T>, String> {
    let end = Instant::now() + patience;
    loop {
        match timeout(patience, attempt()).await {
            Ok(Ok(opened)) => return Ok(Some(opened)),
            Ok(Err(Fault { kind: FaultKind::Unavailable(Why::UnknownTopic), .. })) => return Ok(None),
            Ok(Err(fault)) if is_passing(&fault) && Instant::now() < end => sleep(PAUSE).await,
            Ok(Err(fault)) => return Err(format!("{what}: {fault}")),
            Err(_) => return Err(format!("{what}: nothing is heard of it for {patience:?}")),
        }
    }
}

/// Clients mend themselves; what a person has to mend is an error.
pub fn is_passing(fault: &Fault) -> bool {
    !matches!(fault.kind, FaultKind::Unavailable(why) if why.needs_a_person())
}
