//! Questions to name servers and brokers, with the answers read.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use trestle_core::{Fault, Why};

use crate::{
    classify,
    remoting::{
        Abandoned, Answer, CallError, Credentials, Pool, Request,
        codes::{answer, request},
    },
    route::{Route, quote_bare_keys},
};

/// A name server that has not answered by then is passed over for the next.
const NAME_SERVER_LIMIT: Duration = Duration::from_secs(1);
/// For questions that are not a message's send.
pub const BROKER_LIMIT: Duration = Duration::from_secs(3);

/// One cluster, with connections of its own.
pub struct Client {
    pub cluster: String,
    name_servers: Vec<String>,
    /// Index of the name server that answered last.
    preferred: AtomicUsize,
    pub pool: Pool,
}

impl Client {
    pub fn new(cluster: &str, name_servers: Vec<String>, credentials: Option<Credentials>) -> Self {
        Client {
            cluster: cluster.to_owned(),
            name_servers,
            preferred: AtomicUsize::new(0),
            pool: Pool::new(credentials),
        }
    }

    /// Where the topic is now. A name server that was just restarted knows no routes for up to 30 s, so "unknown" is
    /// believed only when all that answer say it, and when any broker is registered at all.
    pub async fn route(&self, topic: &str) -> Result<Route, Fault> {
        let request =
            Request::new(request::GET_ROUTE_INFO_BY_TOPIC).field("topic", topic).field("acceptStandardJsonOnly", true);
        let answer = self.name_server(request).await.map_err(|error| classify::unanswered(&error, &self.at(topic)))?;
        match answer.code {
            answer::SUCCESS => Route::parse(&answer.body).map_err(|error| {
                Fault::down(format!("{}: the name server's route is not readable: {error}", self.at(topic)))
            }),
            answer::TOPIC_NOT_EXIST if self.masters().await.is_ok_and(|masters| masters.is_empty()) => {
                Err(Fault::down(format!("{}: no broker is registered at the name servers", self.at(topic))))
            }
            _ => Err(classify::answered(&answer, &self.at(topic))),
        }
    }

    /// Name and address of every master registered.
    pub async fn masters(&self) -> Result<Vec<(String, String)>, Fault> {
        #[derive(Deserialize)]
        struct Cluster {
            #[serde(rename = "brokerAddrTable", default)]
            brokers: std::collections::BTreeMap<String, Broker>,
        }
        #[derive(Deserialize)]
        struct Broker {
            #[serde(rename = "brokerAddrs", default)]
            addresses: std::collections::BTreeMap<String, String>,
        }
        let about = format!("cluster {}", self.cluster);
        let answer = self.name_server(Request::new(request::GET_BROKER_CLUSTER_INFO)).await;
        let answer = answer.map_err(|error| classify::unanswered(&error, &about))?;
        if answer.code != answer::SUCCESS {
            return Err(classify::answered(&answer, &about));
        }
        let cluster: Cluster =
            serde_json::from_str(&quote_bare_keys(&String::from_utf8_lossy(&answer.body))).map_err(|error| {
                Fault::down(format!("{about}: the name server's list of brokers is not readable: {error}"))
            })?;
        let masters = cluster.brokers.into_iter().filter_map(|(name, mut b)| Some((name, b.addresses.remove("0")?)));
        Ok(masters.collect())
    }

    /// Asks the name servers in turn, the one that answered last first, until one says success.
    async fn name_server(&self, request: Request) -> Result<Answer, CallError> {
        let begin = self.preferred.load(Ordering::Relaxed);
        let mut last = Err(CallError::NotSent("no name server is named".into()));
        for turn in 0..self.name_servers.len() {
            let index = (begin + turn) % self.name_servers.len();
            let Some(address) = self.name_servers.get(index) else { continue };
            let answer = self.pool.call(address, request.clone(), NAME_SERVER_LIMIT, Abandoned::Close).await;
            match answer {
                Ok(answer) if answer.code == answer::SUCCESS => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                // An answer says more than silence.
                Ok(_) => last = answer,
                Err(_) if last.is_err() => last = answer,
                Err(_) => {}
            }
        }
        last
    }

    /// What each name server answers with success; the last trouble when none does.
    pub async fn every_name_server(&self, request: Request, about: &str) -> Result<Vec<Answer>, Fault> {
        let mut asked = Vec::new();
        for address in &self.name_servers {
            asked.push(self.pool.call(address, request.clone(), NAME_SERVER_LIMIT, Abandoned::Close));
        }
        let (mut good, mut trouble) = (Vec::new(), Fault::down(format!("{about}: no name server is named")));
        for answer in join_all(asked).await {
            match answer {
                Ok(answer) if answer.code == answer::SUCCESS => good.push(answer),
                Ok(answer) => trouble = classify::answered(&answer, about),
                Err(error) => trouble = classify::unanswered(&error, about),
            }
        }
        if good.is_empty() { Err(trouble) } else { Ok(good) }
    }

    /// Asks a broker; any answer but success is a fault. `about` begins its detail.
    pub async fn ask(&self, address: &str, request: Request, limit: Duration, about: &str) -> Result<Answer, Fault> {
        match self.pool.call(address, request, limit, Abandoned::Close).await {
            Ok(answer) if answer.code == answer::SUCCESS => Ok(answer),
            Ok(answer) => Err(classify::answered(&answer, about)),
            Err(error) => Err(classify::unanswered(&error, about)),
        }
    }

    /// A setting of the broker's, by name; `None` also when we may not ask.
    pub async fn broker_config(&self, address: &str) -> Option<BrokerConfig> {
        let answer = self.ask(address, Request::new(request::GET_BROKER_CONFIG), BROKER_LIMIT, "").await.ok()?;
        Some(BrokerConfig(String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Begins the detail of a fault about a topic.
    pub fn at(&self, topic: &str) -> String {
        format!("topic {topic} on cluster {}", self.cluster)
    }
}

/// `name=value` lines.
pub struct BrokerConfig(String);

impl BrokerConfig {
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
    }
}

/// What a broker says of how it is doing: names and values of GET_BROKER_RUNTIME_INFO.
#[derive(Default, Deserialize)]
pub struct BrokerRuntime {
    #[serde(default)]
    table: std::collections::BTreeMap<String, String>,
}

impl BrokerRuntime {
    /// Empty where the body is not what it should be.
    pub fn parse(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.table.get(name).map(String::as_str)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// The route of one topic as last heard, shared by all that need an address.
pub struct Routes {
    topic: String,
    latest: Mutex<Route>,
}

impl Routes {
    pub fn new(topic: &str, route: Route) -> Self {
        Routes { topic: topic.to_owned(), latest: Mutex::new(route) }
    }

    /// The master's address, known to the name servers now or when they last knew it.
    pub fn master(&self, broker: &str) -> Option<String> {
        self.lock().master(broker).map(str::to_owned)
    }

    /// As [`Routes::master`], or any slave's.
    pub fn any(&self, broker: &str) -> Option<String> {
        self.lock().any(broker).map(str::to_owned)
    }

    /// Addresses of all masters known.
    pub fn masters(&self) -> Vec<String> {
        self.lock().masters().map(|(_, address)| address.to_owned()).collect()
    }

    /// Asks the name servers again, and gives what they say now.
    pub async fn refresh(&self, client: &Client) -> Result<Route, Fault> {
        let now = client.route(&self.topic).await?;
        let mut latest = self.lock();
        *latest = now.clone().or_older(&latest);
        Ok(now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Route> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body in JSON.
pub fn json(value: &impl Serialize) -> Result<Bytes, Fault> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| Fault::unavailable(Why::Down, error.to_string()))
}
