use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{load::Load, rocketmq::content, stored::stored, verdict::Seen};
use crate::brokers::remoting::{self, Answer, Connection};

// RequestCode.java, ResponseCode.java
const PULL_MESSAGE: u32 = 11;
const GET_ROUTEINFO_BY_TOPIC: u32 = 105;
const SUCCESS: i64 = 0;
const PULL_NOT_FOUND: i64 = 19;
const PULL_RETRY_IMMEDIATELY: i64 = 20;
const PULL_OFFSET_MOVED: i64 = 21;
/// A subscription travels with each pull, so no group has to be joined.
const SUBSCRIPTION_WITHIN: u32 = 4;

/// A RocketMQ topic, read from its beginning with plain pulls that leave no trace. Each message is compared with what was
/// sent as it comes, and not kept.
pub struct Target {
    address: String,
    topic: String,
    connection: Option<Connection>,
    /// Next offset of each queue.
    next: Vec<u64>,
    pub seen: Vec<Seen>,
}

impl Target {
    pub async fn open(namesrv: &str, topic: &str) -> Result<Target> {
        let first = namesrv.split(';').next().unwrap_or_default();
        let route = remoting::call(first, GET_ROUTEINFO_BY_TOPIC, json!({"topic": topic}), &[]).await?;
        let route = String::from_utf8(route)?;
        // RocketMQ's own JSON may have bare numbers as keys, which no parser takes. The first address is the master's.
        let addresses = between(&route, "\"brokerAddrs\":{", "}").context("no broker in the route")?;
        let address = between(addresses, ":\"", "\"").context("no master in the route")?.to_owned();
        let queues: usize = between(&route, "\"readQueueNums\":", ",").context("no queues in the route")?.parse()?;
        Ok(Target { address, topic: topic.to_owned(), connection: None, next: vec![0; queues], seen: Vec::new() })
    }

    /// Reads all that is there now, and leaves what comes meanwhile: it might come faster than it is read.
    pub async fn read_on(&mut self, load: &Load) -> Result<()> {
        for queue in 0..self.next.len() {
            let mut end = None;
            while end.is_none_or(|end| self.next[queue] < end) && self.pull(load, queue, &mut end).await? {}
        }
        Ok(())
    }

    /// Numbers of the messages seen so far.
    pub fn numbers(&self) -> BTreeSet<u64> {
        self.seen.iter().filter_map(|seen| seen.number).collect()
    }

    /// False when the queue has no more. Notes where it ends, if that is not noted yet.
    async fn pull(&mut self, load: &Load, queue: usize, end: &mut Option<u64>) -> Result<bool> {
        let fields = json!({
            "consumerGroup": "oracle", "topic": self.topic, "queueId": queue.to_string(),
            "queueOffset": self.next[queue].to_string(), "maxMsgNums": "256", "sysFlag": SUBSCRIPTION_WITHIN.to_string(),
            "commitOffset": "0", "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0", "expressionType": "TAG",
        });
        let answer = self.ask(&fields).await?;
        let field = |name: &str| -> Result<u64> {
            let value: &Value = &answer.header["extFields"][name];
            Ok(value.as_str().with_context(|| format!("no {name}"))?.parse()?)
        };
        let next = || field("nextBeginOffset");
        match answer.header["code"].as_i64().unwrap_or(-1) {
            SUCCESS => {
                for message in stored(&answer.body)? {
                    ensure!(message.offset >= self.next[queue], "an offset came twice");
                    let offset = message.offset;
                    let found = content(&message);
                    let number = found.as_ref().ok().and_then(|found| load.number(found));
                    let differs = match (&found, number) {
                        (Ok(found), Some(number)) => load.differences(number, found),
                        _ => Vec::new(),
                    };
                    self.seen.push(Seen { partition: queue as u32, offset, number, differs });
                }
                self.next[queue] = next()?;
                end.get_or_insert(field("maxOffset")?);
                Ok(true)
            }
            PULL_NOT_FOUND => Ok(false),
            PULL_RETRY_IMMEDIATELY => {
                let (before, after) = (self.next[queue], next()?);
                self.next[queue] = after;
                Ok(after > before)
            }
            // The beginning is not 0 after old files were deleted, and a queue that was never written has no beginning.
            PULL_OFFSET_MOVED => {
                let (before, after) = (self.next[queue], next()?);
                ensure!(before == 0 || after == before, "queue {queue} moved from {before} to {after}");
                self.next[queue] = after;
                Ok(after > before)
            }
            code => bail!("a pull was answered with {code}: {}", answer.header),
        }
    }
}

impl Target {
    async fn ask(&mut self, fields: &Value) -> Result<Answer> {
        // Put back only after an answer: a connection that failed is not used again.
        if let Some(mut kept) = self.connection.take()
            && let Ok(answer) = kept.request(PULL_MESSAGE, fields, &[]).await
        {
            self.connection = Some(kept);
            return Ok(answer);
        }
        // A broker closes what was idle for two minutes, and a pull may be asked for again.
        let mut new = Connection::open(&self.address).await?;
        let answer = new.request(PULL_MESSAGE, fields, &[]).await?;
        self.connection = Some(new);
        Ok(answer)
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(found, _)| found)
}
