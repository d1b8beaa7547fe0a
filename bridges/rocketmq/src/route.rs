//! Which brokers hold a topic, as the name servers tell it (`TopicRouteData.java`).

use std::collections::BTreeMap;

use serde::{Deserialize, de::Error as _};

const PERM_READ: u32 = 4;
const PERM_WRITE: u32 = 2;
const MASTER: &str = "0";

/// A queue of a topic: RocketMQ's partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Queue {
    pub broker: String,
    pub id: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Route {
    #[serde(rename = "brokerDatas", default)]
    brokers: Vec<Broker>,
    #[serde(rename = "queueDatas", default)]
    queues: Vec<QueueData>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Broker {
    broker_name: String,
    #[serde(default)]
    cluster: Option<String>,
    /// By broker id; 0 is the master.
    broker_addrs: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueData {
    broker_name: String,
    read_queue_nums: u32,
    write_queue_nums: u32,
    perm: u32,
}

/// Queues of a topic on one broker at most: more are no route, and would fill the memory.
const MOST_QUEUES: u32 = 1 << 16;

impl Route {
    pub fn parse(body: &[u8]) -> Result<Route, serde_json::Error> {
        let route: Route = serde_json::from_slice(body)
            .or_else(|_| serde_json::from_str(&quote_bare_keys(&String::from_utf8_lossy(body))))?;
        match route.queues.iter().map(|data| data.read_queue_nums.max(data.write_queue_nums)).max() {
            Some(most) if most > MOST_QUEUES => Err(serde_json::Error::custom(format!("a broker with {most} queues"))),
            _ => Ok(route),
        }
    }

    /// Queues that take messages now, of brokers whose master is there, sorted by broker and number: the list that the Java
    /// producer has.
    pub fn writable(&self) -> Vec<Queue> {
        let data = self.queues.iter().filter(|q| q.perm & PERM_WRITE != 0 && self.master(&q.broker_name).is_some());
        sorted(data.map(|q| (q, q.write_queue_nums)))
    }

    /// Queues that can be read now, sorted.
    pub fn readable(&self) -> Vec<Queue> {
        let data = self.queues.iter().filter(|q| q.perm & PERM_READ != 0 && self.any(&q.broker_name).is_some());
        sorted(data.map(|q| (q, q.read_queue_nums)))
    }

    pub fn master(&self, broker: &str) -> Option<&str> {
        self.broker(broker)?.broker_addrs.get(MASTER).map(String::as_str)
    }

    /// The master, or while it is gone the slave with the lowest number.
    pub fn any(&self, broker: &str) -> Option<&str> {
        self.broker(broker)?.broker_addrs.values().next().map(String::as_str)
    }

    pub fn cluster_of(&self, broker: &str) -> Option<&str> {
        self.broker(broker)?.cluster.as_deref()
    }

    /// Name and address of every master that holds the topic.
    pub fn masters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.brokers.iter().filter_map(|b| Some((b.broker_name.as_str(), b.broker_addrs.get(MASTER)?.as_str())))
    }

    /// Queues of one broker, to read and to write.
    pub fn queues_of(&self, broker: &str) -> Option<(u32, u32)> {
        let data = self.queues.iter().find(|q| q.broker_name == broker)?;
        Some((data.read_queue_nums, data.write_queue_nums))
    }

    /// Keeps the addresses of brokers that `newer` no longer knows: they may be back before the name server says so.
    pub fn or_older(mut self, older: &Route) -> Route {
        for broker in &older.brokers {
            match self.brokers.iter_mut().find(|b| b.broker_name == broker.broker_name) {
                None => self.brokers.push(broker.clone()),
                Some(known) if !known.broker_addrs.contains_key(MASTER) => {
                    if let Some(master) = broker.broker_addrs.get(MASTER) {
                        known.broker_addrs.insert(MASTER.into(), master.clone());
                    }
                }
                Some(_) => {}
            }
        }
        self
    }

    fn broker(&self, name: &str) -> Option<&Broker> {
        self.brokers.iter().find(|b| b.broker_name == name)
    }
}

fn sorted<'a>(data: impl Iterator<Item = (&'a QueueData, u32)>) -> Vec<Queue> {
    let queues = data.flat_map(|(data, count)| (0..count).map(|id| Queue { broker: data.broker_name.clone(), id }));
    let mut queues: Vec<Queue> = queues.collect();
    queues.sort();
    queues.dedup();
    queues
}

/// Older name servers write number keys without quotes: `{0:"host:port"}`.
pub fn quote_bare_keys(json: &str) -> String {
    let mut quoted = String::with_capacity(json.len() + 16);
    let (mut in_string, mut escaped, mut previous) = (false, false, ' ');
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if !in_string && c.is_ascii_digit() && matches!(previous, '{' | ',') {
            let mut number = c.to_string();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
            let key = chars.peek() == Some(&':');
            quoted.push_str(&if key { format!("\"{number}\"") } else { number });
            previous = '0';
            continue;
        }
        match c {
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && c == '\\' && !escaped;
        quoted.push(c);
        if !c.is_whitespace() {
            previous = c;
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_BROKERS: &str = r#"{"brokerDatas":[
        {"brokerAddrs":{0:"h:1",1:"h:2"},"brokerName":"b","cluster":"c,0:"},
        {"brokerAddrs":{"0":"h:3"},"brokerName":"a","cluster":"c"},
        {"brokerAddrs":{"2":"h:4"},"brokerName":"slave-only","cluster":"c"}],
      "queueDatas":[
        {"brokerName":"b","perm":6,"readQueueNums":1,"writeQueueNums":2,"topicSysFlag":0},
        {"brokerName":"a","perm":6,"readQueueNums":3,"writeQueueNums":1,"topicSysFlag":0},
        {"brokerName":"slave-only","perm":6,"readQueueNums":1,"writeQueueNums":1,"topicSysFlag":0}]}"#;

    fn names(queues: Vec<Queue>) -> Vec<String> {
        queues.into_iter().map(|q| format!("{}{}", q.broker, q.id)).collect()
    }

    #[test]
    fn queues_are_those_of_all_masters_sorted_by_broker_and_number() {
        let route = Route::parse(TWO_BROKERS.as_bytes()).unwrap();
        assert_eq!(names(route.writable()), ["a0", "b0", "b1"]);
        assert_eq!(names(route.readable()), ["a0", "a1", "a2", "b0", "slave-only0"]);
        assert_eq!((route.master("b"), route.any("slave-only")), (Some("h:1"), Some("h:4")));
        assert_eq!(route.cluster_of("b"), Some("c,0:"), "text is left alone");
    }

    #[test]
    fn a_broker_that_left_the_route_keeps_its_address() {
        let older = Route::parse(TWO_BROKERS.as_bytes()).unwrap();
        let newer = Route::default().or_older(&older);
        assert_eq!(newer.master("a"), Some("h:3"));
        assert!(newer.writable().is_empty());
    }
}
