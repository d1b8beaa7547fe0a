use std::{
    ffi::CStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    client::ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig},
    types::RDKafkaErrorCode as Code,
};
use trestle_core::{Fault, Scope};

use super::unit::{SharedUnits, Units};
use crate::{
    classify,
    native::{Kind, Queue, Topic},
    source,
};

/// What nobody announces is seen after this time.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// While the last users of a producer let go of it.
const ENDING_WAIT: Duration = Duration::from_millis(10);

pub(super) type Client = BaseProducer<Context>;

/// A producer and the thread that takes its reports. The thread destroys the client, which blocks, after the last user.
pub(super) struct Producer {
    /// Before the client: a queue must not outlive it.
    queue: Queue,
    /// Likewise.
    pub topic: Topic,
    pub client: Arc<Client>,
    pub units: SharedUnits,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    /// A fatal error: nothing can be sent with this client any more.
    dead: AtomicBool,
    /// What the client last said of its connections, since the last stored message.
    trouble: Mutex<Option<Code>>,
}

impl Producer {
    pub(super) fn start(config: &ClientConfig, topic: &CStr, doing: &str) -> Result<Arc<Producer>, Fault> {
        let failed = |error: KafkaError| classify::client_fault(&error, Scope::Cluster, doing);
        let client: Arc<Client> = Arc::new(config.create_with_context(Context).map_err(failed)?);
        let queue = || Queue::of_producer(client.client()).ok_or_else(|| Fault::down("the producer has no queue"));
        let (units, shared) = (SharedUnits::default(), Arc::new(Shared::default()));
        let reports = Reports {
            queue: queue()?,
            client: client.clone(),
            units: units.clone(),
            shared: shared.clone(),
            doing: doing.to_owned(),
        };
        let topic =
            Topic::of(client.client(), topic).ok_or_else(|| Fault::down(format!("{doing}: no such topic name")))?;
        let producer = Producer { queue: queue()?, topic, client, units, shared };
        let spawned = thread::Builder::new().name("kafka-reports".into()).spawn(move || reports.run());
        spawned.map_err(|error| Fault::down(format!("{doing}: starting a thread: {error}")))?;
        Ok(Arc::new(producer))
    }

    pub(super) fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::Acquire)
    }

    pub(super) fn trouble(&self) -> Option<Code> {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
        self.queue.wake();
    }
}

struct Reports {
    queue: Queue,
    client: Arc<Client>,
    units: Arc<Units>,
    shared: Arc<Shared>,
    doing: String,
}

impl Reports {
    fn run(self) {
        let mut batch = Vec::new();
        loop {
            let ending = self.shared.ending.load(Ordering::Acquire);
            if ending && Arc::strong_count(&self.client) == 1 {
                return;
            }
            let Some(event) = self.queue.poll(if ending { ENDING_WAIT } else { LONGEST_WAIT }) else { continue };
            match event.kind() {
                Kind::Delivered => {
                    event.reports(|report| batch.push(report));
                    if batch.iter().any(|report| report.error.is_none()) {
                        self.note(None);
                    }
                    if batch.iter().any(|report| report.error == Some(Code::Fatal)) {
                        self.shared.dead.store(true, Ordering::Release);
                    }
                    if self.units.report(&batch) {
                        // What is behind a failed message must not be stored. Others lose what is queued as well and send
                        // it again; nothing of it has left.
                        self.client.purge(PurgeConfig::default().queue());
                    }
                    batch.clear();
                }
                Kind::Error => {
                    let code = event.error().unwrap_or(Code::Unknown);
                    if event.is_fatal() || code == Code::Fatal {
                        tracing::warn!(text = event.text(), "{}: the producer is built anew", self.doing);
                        self.shared.dead.store(true, Ordering::Release);
                    } else {
                        tracing::debug!(?code, text = event.text(), "{}", self.doing);
                        self.note(Some(code));
                    }
                }
                Kind::Log => {
                    if let Some((level, facility, line)) = event.log() {
                        source::log(level, &facility, &line);
                    }
                }
                Kind::Fetched | Kind::Rebalance | Kind::Committed | Kind::Topic | Kind::Other => {}
            }
        }
    }

    fn note(&self, trouble: Option<Code>) {
        let mut known = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down is said behind the reason.
        let less = trouble == Some(Code::AllBrokersDown) && known.is_some();
        if !less {
            *known = trouble;
        }
    }
}

/// Events are taken from the queue; this hears only what comes during a destroy.
pub(super) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        source::log(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl ProducerContext for Context {
    /// Tags are numbers, of which nothing has to be freed.
    type DeliveryOpaque = usize;

    fn delivery(&self, _: &DeliveryResult<'_>, _: usize) {}
}
