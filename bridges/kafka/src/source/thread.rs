use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use rdkafka::ClientConfig;
use tokio::sync::{mpsc, watch};
use trestle_core::{Event, Fault, SourceSpec};

use super::{
    Shared,
    identity::Identity,
    outbox::Outbox,
    reader::{Ended, Reader},
};

/// Between the end of one consumer and the start of the next.
const REBUILD_DELAY: Duration = Duration::from_secs(1);

/// Starts the thread that owns the consumer. When the consumer dies, by a fatal error of the client or a panic of ours, its
/// assignments are given up as lost, `next` answers a fault, and a new consumer joins the group. `ended` is dropped last: the
/// identity in the group is free then, and whoever waits for the end hears of it.
pub(super) fn spawn(
    cluster: String,
    config: ClientConfig,
    spec: SourceSpec,
    shared: Arc<Shared>,
    events: mpsc::Sender<Result<Event, Fault>>,
    ended: (Option<Identity>, watch::Sender<()>),
) -> Result<(), Fault> {
    let doing = format!("reading {} on {cluster}", spec.topic);
    let name = format!("kafka-{}", spec.topic);
    let mut outbox = Outbox::new(events, shared.inbox.clone());
    let mut reader = Reader::new(&config, &spec, &doing, shared.clone(), outbox.again())?;
    let work = move || {
        loop {
            let end = catch_unwind(AssertUnwindSafe(|| reader.run()));
            let fault = match end {
                Ok(Ended::Closed) => break,
                Ok(Ended::Fatal(fault)) => fault,
                Err(panic) => Fault::down(format!("{doing}: the reader failed: {}", said(&panic))),
            };
            tracing::error!(%fault, "the consumer is built anew");
            outbox = reader.abandon(fault);
            reader = loop {
                thread::sleep(REBUILD_DELAY);
                outbox.flush();
                if shared.inbox.closing() || outbox.abandoned() {
                    return;
                }
                match Reader::new(&config, &spec, &doing, shared.clone(), outbox.again()) {
                    Ok(reader) => break reader,
                    Err(fault) => tracing::error!(%fault, "the consumer cannot be built"),
                }
            };
        }
        drop(reader);
        drop(outbox);
        drop(ended);
    };
    let spawned = thread::Builder::new().name(name.chars().take(15).collect()).spawn(work);
    spawned.map(drop).map_err(|error| Fault::down(format!("starting a thread: {error}")))
}

fn said(panic: &Box<dyn Any + Send>) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
