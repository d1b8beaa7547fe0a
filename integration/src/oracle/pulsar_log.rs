use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use futures::StreamExt;
use pulsar::{
    Pulsar, TokioExecutor,
    consumer::{ConsumerOptions, InitialPosition},
    reader::Reader,
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    load::{Content, Load},
    verdict::Seen,
};
use crate::http;

const SOON: Duration = Duration::from_secs(30);

/// Ledger and entry.
pub type EntryId = (u64, u64);

/// A Pulsar topic, read from its beginning without a durable subscription, so that nobody's position moves.
pub struct PulsarLog {
    url: String,
    /// `HOST:PORT` of the REST interface.
    admin: String,
}

/// One message; one that came in chunks is put together.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: EntryId,
    pub value: Vec<u8>,
    pub key: Option<String>,
    pub properties: BTreeMap<String, String>,
}

impl PulsarLog {
    /// `url` as `pulsar://HOST:PORT`, `admin` as `http://HOST:PORT`.
    pub fn new(url: &str, admin: &str) -> PulsarLog {
        PulsarLog { url: url.to_owned(), admin: admin.trim_start_matches("http://").to_owned() }
    }

    /// Id of the last entry of a topic without partitions (or of one partition); None when it is empty or not there.
    pub async fn last(&self, topic: &str) -> Result<Option<EntryId>> {
        let path = format!("/admin/v2/{}/lastMessageId", topic.replace("://", "/"));
        let (status, body) = http::request("GET", &self.admin, &path, "").await?;
        if status == 404 {
            return Ok(None);
        }
        anyhow::ensure!(status == 200, "Pulsar answered {path} with {status}: {body}");
        let id: Value = serde_json::from_str(&body)?;
        let part = |name: &str| id[name].as_i64().and_then(|number| u64::try_from(number).ok());
        Ok(part("ledgerId").zip(part("entryId")))
    }

    /// All messages of a topic without partitions, or of one partition, that are there now.
    pub async fn read(&self, topic: &str) -> Result<Vec<Entry>> {
        let Some(last) = self.last(topic).await? else { return Ok(Vec::new()) };
        let client: Pulsar<_> = Pulsar::builder(&self.url, TokioExecutor).build().await?;
        let options = ConsumerOptions::default().durable(false).with_initial_position(InitialPosition::Earliest);
        let mut reader: Reader<Vec<u8>, _> =
            client.reader().with_topic(topic).with_consumer_name("oracle").with_options(options).into_reader().await?;
        let (mut entries, mut chunks) = (Vec::new(), BTreeMap::<String, Vec<Vec<u8>>>::new());
        loop {
            let message = timeout(SOON, reader.next()).await;
            let message =
                message.with_context(|| format!("{topic}: {} came, not all up to {last:?}", entries.len()))?;
            let message = message.context("the reader ended")??;
            let id = (message.message_id().ledger_id, message.message_id().entry_id);
            let metadata = message.metadata();
            let mut entry = Entry {
                id,
                value: message.payload.data.clone(),
                key: metadata.partition_key.clone(),
                properties: metadata.properties.iter().map(|p| (p.key.clone(), p.value.clone())).collect(),
            };
            let index = message.message_id().batch_index();
            let batch_goes_on = metadata.num_messages_in_batch.is_some_and(|count| count > index + 1);
            let parts = metadata.num_chunks_from_msg.unwrap_or(1);
            if parts > 1 {
                // A producer that lost its connection sends the chunks again from the first.
                let got = chunks.entry(metadata.uuid.clone().unwrap_or_default()).or_default();
                got.truncate(metadata.chunk_id.unwrap_or(0).max(0) as usize);
                got.push(entry.value);
                if got.len() as i32 == parts {
                    entry.value = got.concat();
                    entries.push(entry);
                }
            } else {
                entries.push(entry);
            }
            if id >= last && !batch_goes_on {
                return Ok(entries);
            }
        }
    }

    /// The dead letters of a topic with one partition, compared in value and key with what was sent, each with its cause.
    pub async fn letters(&self, topic: &str, load: &Load) -> Result<Vec<(Seen, String)>> {
        let entries = self.read(&format!("{topic}-partition-0")).await?;
        Ok(entries.into_iter().enumerate().map(|(at, entry)| letter(at, entry, load)).collect())
    }
}

fn letter(at: usize, entry: Entry, load: &Load) -> (Seen, String) {
    let cause = entry.properties.get("trestle-dlq-cause").cloned().unwrap_or_default();
    let number = entry.number(load);
    let sent = number.map(|number| load.message(number)).unwrap_or_default();
    let mut differs = Vec::new();
    // Pulsar has no null: the flag beside it is the bridge's business, and checked by its own tests.
    if sent.value.unwrap_or_default() != entry.value {
        differs.push("value");
    }
    if sent.key.and_then(|key| String::from_utf8(key).ok()).is_some_and(|key| entry.key.as_deref() != Some(&key)) {
        differs.push("key");
    }
    (Seen { partition: 0, offset: at as u64, number, differs }, cause)
}

impl Entry {
    /// The number that it says to have; its header occurs once and is plain, so it is a property.
    pub fn number(&self, load: &Load) -> Option<u64> {
        let header = |(name, value): (&String, &String)| (name.clone().into_bytes(), Some(value.clone().into_bytes()));
        load.number(&Content { headers: self.properties.iter().map(header).collect(), ..Content::default() })
    }
}
