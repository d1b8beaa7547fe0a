//! What the brokers' own Java clients read of what the bridge wrote, and what becomes of what they wrote.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokio::sync::OnceCell;
use trestle_core::{Header, Message};
use trestle_integration::{Brokers, Native};

use super::{
    nasty::{BROKERS_OWN, Nasty},
    routes::{Route, start},
    site::{Protocol, Site, Topic},
};
use crate::parts::unique;

type Bytes = Vec<u8>;

/// A message as a native client sees it.
#[derive(Debug)]
struct Seen {
    key: Option<Bytes>,
    /// Length and Java's `Arrays.hashCode`.
    value: Option<(usize, i32)>,
    headers: Vec<(Bytes, Option<Bytes>)>,
    time: i64,
    /// Whatever else the program says of it.
    line: Value,
}

impl Seen {
    fn read(line: Value) -> Result<Seen> {
        let pairs = line["headers"].as_array().context("no headers")?;
        let headers = pairs.iter().map(|pair| Ok((bytes(&pair[0])?.context("no name")?, bytes(&pair[1])?)));
        let value = line["value"].as_array().map(|value| {
            let [length, hash] = &value[..] else { return None };
            Some((length.as_u64()? as usize, hash.as_i64()? as i32))
        });
        Ok(Seen {
            key: bytes(&line["key"])?,
            value: value.map(|value| value.context("no hash")).transpose()?,
            headers: headers.collect::<Result<_>>()?,
            time: line["time"].as_i64().context("no time")?,
            line,
        })
    }

    fn header(&self, name: &[u8]) -> Option<&Bytes> {
        self.headers.iter().find(|(known, _)| known == name)?.1.as_ref()
    }

    fn sorted(&self) -> Vec<(Bytes, Option<Bytes>)> {
        let mut headers = self.headers.clone();
        headers.sort();
        headers
    }
}

fn bytes(hex: &Value) -> Result<Option<Bytes>> {
    let Some(hex) = hex.as_str() else { return Ok(None) };
    let digits = |at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).context("no hex");
    (0..hex.len()).step_by(2).map(digits).collect::<Result<_>>().map(Some)
}

fn hash(value: &[u8]) -> (usize, i32) {
    (value.len(), value.iter().fold(1, |hash: i32, byte| hash.wrapping_mul(31).wrapping_add(i32::from(*byte as i8))))
}

struct Natives {
    kafka: Native<'static>,
    pulsar: Native<'static>,
    rocketmq: Native<'static>,
    brokers: &'static Brokers,
}

impl Natives {
    /// Compiled once. Without a [`Site`]: its connections live in the runtime of the test that opens them.
    async fn shared() -> Result<&'static Natives> {
        static SHARED: OnceCell<Result<Natives, String>> = OnceCell::const_new();
        let compile = || async {
            let brokers = Brokers::shared().await?;
            let Brokers { kafka, pulsar, rocketmq, .. } = brokers;
            let (kafka, pulsar, rocketmq) = tokio::try_join!(
                Native::compile(&kafka.broker, "KafkaMessages", "/opt/kafka/lib"),
                Native::compile(&pulsar.broker, "PulsarMessages", "/opt/pulsar/lib"),
                Native::compile(&rocketmq.broker, "RocketMqMessages", "/opt/rocketmq/lib"),
            )?;
            anyhow::Ok(Natives { kafka, pulsar, rocketmq, brokers })
        };
        let shared = || async { compile().await.map_err(|error| format!("{error:#}")) };
        SHARED.get_or_init(shared).await.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// `what`: read or write.
    async fn run(&self, what: &str, topic: &Topic) -> Result<Vec<Seen>> {
        self.lines(what, topic).await?.into_iter().map(Seen::read).collect()
    }

    async fn lines(&self, what: &str, topic: &Topic) -> Result<Vec<Value>> {
        let Brokers { kafka, pulsar, rocketmq, .. } = self.brokers;
        match topic.protocol {
            Protocol::Kafka => self.kafka.run(&[what, &kafka.servers, &topic.name]).await,
            Protocol::Pulsar => self.pulsar.run(&[what, &pulsar.url, &topic.name]).await,
            Protocol::RocketMq => {
                let inside = rocketmq.broker.exec(&["printenv", "NAMESRV"]).await?;
                self.rocketmq.run(&[what, &inside, &topic.name]).await
            }
        }
    }
}

fn route(name: String, from: &Topic, to: &Topic) -> Route {
    Route { name, from: from.clone(), via: None, to: to.clone(), same_partitions: true }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_clients_read_simple_messages_as_their_own_and_the_rest_in_the_envelope() -> Result<()> {
    let natives = Natives::shared().await?;
    let site = &Site::shared().await?;
    let run = unique("native-read");
    let from = Protocol::Kafka.topic(&format!("{run}-in")).of_any_time();
    site.make(&from, 1).await?;
    let mut routes = Vec::new();
    for target in Protocol::ALL {
        let to = target.topic(&format!("{run}-{}", target.name())).of_any_time();
        site.make(&to, 1).await?;
        routes.push(route(format!("{run}-to-{}", target.name()), &from, &to));
    }
    let bridge = start(site, &routes).await?;
    let all_take = |message: &Message| routes.iter().all(|route| route.to.takes(message));
    let messages: Vec<Message> = Nasty::new(77).messages(40).into_iter().filter(all_take).collect();
    site.write(&from, 0, &messages).await?;
    for route in &routes {
        route.settled(&bridge, messages.len(), 0).await?;
        let seen = natives.run("read", &route.to).await?;
        ensure!(seen.len() == messages.len(), "{}: {} messages, not {}", route.name, seen.len(), messages.len());
        for (message, seen) in messages.iter().zip(&seen) {
            let judged = match route.to.protocol {
                Protocol::Kafka => kafka_shows(message, seen),
                Protocol::Pulsar => pulsar_shows(message, seen),
                Protocol::RocketMq => rocketmq_shows(message, seen),
            };
            let about =
                || format!("{}: key {:?}, time {:?}, {:?}", route.name, message.key, message.time, message.headers);
            judged.with_context(|| format!("{:.3000}\nis seen as {:.3000}", about(), format!("{seen:?}")))?;
        }
    }
    bridge.fine();
    Ok(())
}

const ENVELOPE: &[u8] = b"trestle-envelope";

/// Everything is native to Kafka but the times that librdkafka cannot write.
fn kafka_shows(message: &Message, seen: &Seen) -> Result<()> {
    ensure!(seen.key.as_deref() == message.key.as_deref(), "key");
    ensure!(seen.value == message.value.as_deref().map(hash), "value");
    // Java shows what is no UTF-8 in a name as U+FFFD.
    let name = |header: &Header| String::from_utf8_lossy(&header.name).into_owned().into_bytes();
    let headers = message.headers.iter().map(|h| (name(h), h.value.as_ref().map(|value| value.to_vec())));
    let mut headers: Vec<_> = headers.collect();
    let unsaid = message.time.filter(|time| [0, -1].contains(time));
    if unsaid.is_some() || seen.headers.len() > headers.len() {
        let said = unsaid.map_or("none".to_owned(), |time| time.to_string());
        headers.push((b"trestle-time".to_vec(), Some(said.into_bytes())));
    }
    ensure!(seen.headers == headers, "headers");
    ensure!(seen.time == message.time.filter(|_| unsaid.is_none()).unwrap_or(-1), "time");
    Ok(())
}

fn pulsar_shows(message: &Message, seen: &Seen) -> Result<()> {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    ensure!(seen.key.as_deref() == message.key.as_deref(), "key");
    ensure!(seen.line["encoded"] == message.key.as_ref().is_some_and(|key| !is_text(key)), "the key's encoding");
    ensure!(seen.value == message.value.as_deref().map(hash), "value");
    let native_time = message.time.filter(|time| *time > 0);
    ensure!(seen.time == native_time.unwrap_or(0), "time");
    let mut native = 0;
    let last = message.headers.len().saturating_sub(1);
    for (at, header) in message.headers.iter().enumerate() {
        let text = is_text(&header.name) && header.value.as_ref().is_some_and(|value| is_text(value));
        if at == last && header.name == "trestle-pulsar-ordering-key" && header.value.is_some() {
            ensure!(bytes(&seen.line["ordering"])?.as_deref() == header.value.as_deref(), "ordering key");
            native += 1;
        } else if text && once(message, header) && header.name != ENVELOPE {
            ensure!(
                seen.header(&header.name).map(Vec::as_slice) == header.value.as_deref(),
                "property {:?}",
                header.name
            );
            native += 1;
        }
    }
    let enveloped = native < message.headers.len() || native_time.is_none();
    ensure!(seen.header(ENVELOPE).is_some() == enveloped, "an envelope, or none");
    Ok(())
}

fn rocketmq_shows(message: &Message, seen: &Seen) -> Result<()> {
    let text = |bytes: &[u8]| {
        std::str::from_utf8(bytes)
            .ok()
            .filter(|t| !t.is_empty() && !t.contains(|c: char| c < ' ' || c == '\x7f'))
            .map(str::to_owned)
    };
    let plain_key =
        message.key.as_ref().filter(|key| text(key).is_some_and(|text| !text.contains(char::is_whitespace)));
    ensure!(seen.key.as_deref() == plain_key.map(|key| &key[..]), "KEYS");
    ensure!(
        seen.header(b"trestle-key").is_some() == (message.key.is_some() && plain_key.is_none()),
        "the key's property"
    );
    let value = message.value.as_ref().filter(|value| !value.is_empty());
    ensure!(value.is_none() || seen.value == value.map(|value| hash(value)), "body");
    ensure!(seen.header(b"trestle-value").is_some() == value.is_none(), "the value's property");
    let time = message.time.map_or("none".to_owned(), |time| time.to_string());
    ensure!(seen.header(b"trestle-time").map(Vec::as_slice) == Some(time.as_bytes()), "time");
    let mut native = 0;
    for header in message.headers.iter().filter(|_| message.headers.len() <= 100) {
        let (Some(name), Some(value)) = (text(&header.name), header.value.as_ref().and_then(|value| text(value)))
        else {
            continue;
        };
        let tag = name == "TAGS" && !value.contains(|c: char| c == '|' || c.is_whitespace());
        let free = !name.starts_with("trestle-") && !BROKERS_OWN.contains(&name.as_str());
        if (tag || free) && once(message, header) {
            ensure!(seen.header(&header.name).map(Vec::as_slice) == header.value.as_deref(), "property {name}");
            native += 1;
        }
        ensure!(
            !tag || !once(message, header) || bytes(&seen.line["tag"])?.as_deref() == header.value.as_deref(),
            "tag"
        );
    }
    // Properties have an order of their own where a message was sent alone.
    let large = message.value.as_ref().is_some_and(|value| value.len() > 3 << 20);
    let enveloped = native < message.headers.len() || (large && native > 1);
    ensure!(seen.header(ENVELOPE).is_some() == enveloped, "an envelope, or none");
    Ok(())
}

fn once(message: &Message, header: &Header) -> bool {
    message.headers.iter().filter(|other| other.name == header.name).count() == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_native_clients_write_arrives_with_all_that_they_said() -> Result<()> {
    let natives = Natives::shared().await?;
    let site = &Site::shared().await?;
    let run = unique("native-write");
    let mut routes = Vec::new();
    for source in Protocol::ALL {
        let from = source.topic(&format!("{run}-{}", source.name())).of_any_time();
        // Kafka's own reader shows everything as it is.
        let to = Protocol::Kafka.topic(&format!("{run}-{}-out", source.name())).of_any_time();
        site.make(&from, 1).await?;
        site.make(&to, 1).await?;
        routes.push(route(format!("{run}-from-{}", source.name()), &from, &to));
    }
    let bridge = start(site, &routes).await?;
    for route in &routes {
        let begin = now();
        let written = natives.run("write", &route.from).await?;
        ensure!(written.len() > 50, "{}: only {} messages were written", route.name, written.len());
        route.settled(&bridge, written.len(), 0).await?;
        let seen = natives.run("read", &route.to).await?;
        ensure!(seen.len() == written.len(), "{}: {} messages, not {}", route.name, seen.len(), written.len());
        for (at, (written, seen)) in written.iter().zip(&seen).enumerate() {
            let judged = arrived(route.from.protocol, written, seen, begin);
            judged.with_context(|| format!("{}, message {at}:\n{written:?}\narrived as {seen:?}", route.name))?;
        }
    }
    bridge.fine();
    Ok(())
}

/// A client that computes where a key's messages are has to find them there, whoever wrote them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_placed_where_native_clients_place_them() -> Result<()> {
    let natives = Natives::shared().await?;
    let site = &Site::shared().await?;
    let run = unique("native-place");
    for protocol in Protocol::ALL {
        let topic = protocol.topic(&format!("{run}-{}", protocol.name())).of_any_time();
        site.make(&topic, 7).await?;
        natives.lines("place", &topic).await?;
        let (sink, placed) = (site.sink(&topic).await?, site.read(&topic).await?);
        let all: usize = placed.values().map(Vec::len).sum();
        ensure!(all >= 180 && placed.len() == 7, "{all} messages in {} partitions", placed.len());
        for (partition, messages) in placed {
            for message in messages {
                let key = message.key.context("a message without its key")?;
                ensure!(
                    sink.place(&key).0 == partition,
                    "{protocol:?}: {key:?} is in {partition}, not {:?}",
                    sink.place(&key)
                );
            }
        }
    }
    Ok(())
}

fn arrived(source: Protocol, written: &Seen, seen: &Seen, begin: i64) -> Result<()> {
    ensure!(seen.key == written.key, "key");
    ensure!(seen.value == written.value, "value");
    // A producer's clock where the message has no time of its own.
    let clock = begin..=now();
    match source {
        Protocol::Kafka => {
            ensure!(seen.headers == written.headers, "headers");
            ensure!(seen.time == written.time, "time");
        }
        Protocol::Pulsar => {
            let mut headers: BTreeMap<Bytes, Option<Bytes>> = written.headers.iter().cloned().collect();
            if let Some(key) = bytes(&written.line["ordering"])? {
                headers.insert(b"trestle-pulsar-ordering-key".to_vec(), Some(key));
            }
            ensure!(seen.sorted() == headers.into_iter().collect::<Vec<_>>(), "headers");
            ensure!(if written.time == 0 { clock.contains(&seen.time) } else { seen.time == written.time }, "time");
        }
        Protocol::RocketMq => {
            // What the client notes for the broker says nothing of the message.
            let said = |(name, _): &&(Bytes, _)| ![&b"KEYS"[..], b"WAIT"].contains(&name.as_slice());
            let mut headers: Vec<_> = written.headers.iter().filter(said).cloned().collect();
            headers.sort();
            ensure!(seen.sorted() == headers, "headers");
            ensure!(clock.contains(&seen.time), "time");
        }
    }
    Ok(())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}
