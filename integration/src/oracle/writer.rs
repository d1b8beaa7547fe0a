use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

use super::load::{Content, Load};

/// Where the source's broker says that it stored a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Confirmed {
    pub partition: i32,
    pub offset: i64,
}

/// What was sent, and what of it the broker confirmed. The rest may be stored or not.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub load: Load,
    pub confirmed: BTreeMap<u64, Confirmed>,
    pub failed: u64,
}

/// Sends a load to Kafka, in order and idempotently, on a thread of its own.
pub struct Writer {
    load: Load,
    notes: Arc<Notes>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Notes {
    confirmed: Mutex<BTreeMap<u64, Confirmed>>,
    failed: AtomicU64,
    /// Numbers from here on are not sent any more.
    end: AtomicU64,
}

/// Longer than any broker is down in a test: a message that was given up might still arrive, and out of order.
const PATIENCE: Duration = Duration::from_secs(300);
/// Without a key, messages are spread over this many partitions.
const KEYLESS_PARTITIONS: u64 = 4;

impl Writer {
    /// `rate`: messages a second; None for as fast as it goes.
    pub fn start(servers: &str, topic: &str, load: Load, rate: Option<u64>) -> Result<Writer> {
        let notes = Arc::new(Notes { end: AtomicU64::new(load.count), ..Notes::default() });
        let producer: BaseProducer<Reports> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("message.max.bytes", "8000000")
            .set("queue.buffering.max.messages", "10000")
            .set("linger.ms", "5")
            .set("partitioner", "murmur2_random")
            // New partitions are used, and a silent connection is given up, while a test lasts.
            .set("topic.metadata.refresh.interval.ms", "2000")
            .set("socket.timeout.ms", "5000")
            .create_with_context(Reports(notes.clone()))?;
        let (topic, of, told) = (topic.to_owned(), load.clone(), notes.clone());
        let thread =
            thread::Builder::new().name("writer".into()).spawn(move || write(&producer, &topic, &of, rate, &told))?;
        Ok(Writer { load, notes, thread })
    }

    /// Messages confirmed so far.
    pub fn confirmed(&self) -> u64 {
        self.notes.confirmed.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// The highest number confirmed so far; 0 before the first.
    pub fn reached(&self) -> u64 {
        let confirmed = self.notes.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Sends no further messages; [`finish`](Self::finish) then waits only for those under way.
    pub fn stop(&self) {
        self.notes.end.store(0, Ordering::Relaxed);
    }

    /// Waits until the last message was confirmed or given up.
    pub async fn finish(self) -> Result<Ledger> {
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
        joined.map_err(|_| anyhow!("the writer panicked"))??;
        let confirmed = self.notes.confirmed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Ledger { load: self.load, confirmed, failed: self.notes.failed.load(Ordering::Relaxed) })
    }
}

fn write(producer: &BaseProducer<Reports>, topic: &str, load: &Load, rate: Option<u64>, notes: &Notes) -> Result<()> {
    let begin = Instant::now();
    let mut number = 0;
    while number < notes.end.load(Ordering::Relaxed) {
        if let Some(rate) = rate {
            let due = begin + Duration::from_secs_f64(number as f64 / rate as f64);
            while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                producer.poll(left.min(Duration::from_millis(20)));
            }
        }
        send(producer, topic, number, &load.message(number))?;
        number += 1;
        if number.is_multiple_of(100) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(PATIENCE).context("the last messages were not confirmed")
}

fn send(producer: &BaseProducer<Reports>, topic: &str, number: u64, content: &Content) -> Result<()> {
    let mut headers = OwnedHeaders::new();
    for (name, value) in &content.headers {
        headers = headers.insert(Header { key: std::str::from_utf8(name)?, value: value.as_ref() });
    }
    let mut record: BaseRecord<'_, [u8], [u8], Box<u64>> =
        BaseRecord::with_opaque_to(topic, Box::new(number)).headers(headers);
    record = match &content.key {
        Some(key) => record.key(key),
        None => record.partition((number % KEYLESS_PARTITIONS) as i32),
    };
    if let Some(value) = &content.value {
        record = record.payload(value);
    }
    if let Some(time) = content.time {
        record = record.timestamp(time);
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                producer.poll(Duration::from_millis(20));
            }
            Err((error, _)) => bail!("message {number}: {error}"),
        }
    }
}

/// Notes what becomes of each message.
struct Reports(Arc<Notes>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => {
                let confirmed = Confirmed { partition: message.partition(), offset: message.offset() };
                self.0.confirmed.lock().unwrap_or_else(PoisonError::into_inner).insert(*number, confirmed);
            }
            Err(_) => {
                self.0.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
