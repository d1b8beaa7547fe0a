//! What a member of a consumer group asks the brokers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Mutex, Notify};
use trestle_core::{Fault, FaultKind, PartitionId, SourceSpec, Start, Why};

use crate::{
    client::{BROKER_LIMIT, Client, Routes, json},
    pull,
    remoting::{
        Abandoned, Answer, CallError, Request,
        codes::{answer, request},
    },
    route::Queue,
    tags::Tags,
};

/// Beyond the time for which the broker may hold a pull: it looks for expired ones every 5 s only (`PullRequestHoldService.java`).
const PULL_SLACK: Duration = Duration::from_secs(8);

/// So often a first position is set that is not there afterwards.
const FIRST_COMMITS: usize = 5;

/// One member of one group that reads one topic.
pub struct Group {
    pub client: Client,
    pub routes: Routes,
    pub spec: SourceSpec,
    pub tags: Tags,
    /// Our name in the group. Sorted among the others', it decides which queues are ours.
    pub member: String,
    pub pull_suspend: Duration,
    pub first_commits: Mutex<()>,
    /// Somebody saw that our connection was lost, and our membership perhaps with it.
    pub shaken: Notify,
}

/// A queue as brokers are told of it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueName {
    topic: String,
    broker_name: String,
    queue_id: u32,
}

impl Group {
    pub fn about(&self) -> String {
        format!("group {} of {}", self.spec.group, self.client.at(&self.spec.topic))
    }

    pub fn about_queue(&self, queue: &Queue) -> String {
        format!("{}, broker {} queue {}", self.about(), queue.broker, queue.id)
    }

    /// Tells the broker at `address` that we live and what we read.
    pub async fn heartbeat(&self, address: &str) -> Result<(), Fault> {
        let tags = &self.tags;
        let body = json(&json!({
            "clientID": self.member,
            "producerDataSet": [],
            "consumerDataSet": [{
                "groupName": self.spec.group,
                "consumeType": "CONSUME_ACTIVELY",
                "messageModel": "CLUSTERING",
                "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
                "subscriptionDataSet": [{
                    "topic": self.spec.topic, "subString": tags.expression, "tagsSet": tags.wanted().collect::<Vec<_>>(),
                    "codeSet": tags.hashes().collect::<Vec<_>>(), "subVersion": tags.version, "expressionType": "TAG",
                    "classFilterMode": false,
                }],
                "unitMode": false,
            }],
        }))?;
        self.client
            .ask(address, Request::new(request::HEART_BEAT).body(body), BROKER_LIMIT, &self.about())
            .await
            .map(drop)
    }

    /// The members, sorted, as the broker at `address` knows them.
    pub async fn members(&self, address: &str) -> Result<Vec<String>, Fault> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Members {
            consumer_id_list: Vec<String>,
        }
        let request = Request::new(request::GET_CONSUMER_LIST_BY_GROUP).field("consumerGroup", &self.spec.group);
        let answer = match self.client.pool.call(address, request, BROKER_LIMIT, Abandoned::Close).await {
            Ok(answer) => answer,
            Err(error) => return Err(crate::classify::unanswered(&error, &self.about())),
        };
        // A broker that knows no member of the group answers an error.
        let mut members =
            serde_json::from_slice(&answer.body).map_or_else(|_| Vec::new(), |m: Members| m.consumer_id_list);
        members.sort();
        members.dedup();
        Ok(members)
    }

    /// Leaves the group at this broker.
    pub async fn unregister(&self, address: &str) {
        let request = Request::new(request::UNREGISTER_CLIENT)
            .field("clientID", &self.member)
            .field("consumerGroup", &self.spec.group);
        // The end of the connection says the same.
        let _ = self.client.ask(address, request, BROKER_LIMIT, &self.about()).await;
    }

    /// Asks for the queues' locks, all of one broker, and gives those that are ours now. A lock holds for 60 s
    /// (`RebalanceLockManager.java`); it keeps two members from reading one queue while it changes hands.
    pub async fn lock(&self, broker: &str, queues: &[Queue]) -> Result<Vec<Queue>, Fault> {
        #[derive(Deserialize)]
        struct Locked {
            #[serde(rename = "lockOKMQSet")]
            queues: Vec<QueueName>,
        }
        let answer = self.lock_request(request::LOCK_BATCH_MQ, broker, queues).await?;
        let locked: Locked = serde_json::from_slice(&answer.body)
            .map_err(|error| Fault::down(format!("{}: the answer to a lock is not readable: {error}", self.about())))?;
        Ok(locked.queues.into_iter().map(|name| Queue { broker: name.broker_name, id: name.queue_id }).collect())
    }

    pub async fn unlock(&self, queue: &Queue) {
        // Left alone, it ends after its time.
        let _ = self.lock_request(request::UNLOCK_BATCH_MQ, &queue.broker, std::slice::from_ref(queue)).await;
    }

    async fn lock_request(&self, code: i32, broker: &str, queues: &[Queue]) -> Result<Answer, Fault> {
        let names = queues.iter().map(|queue| QueueName {
            topic: self.spec.topic.clone(),
            broker_name: queue.broker.clone(),
            queue_id: queue.id,
        });
        let body = json(&json!({
            "consumerGroup": self.spec.group,
            "clientId": self.member,
            "onlyThisBroker": false,
            "mqSet": names.collect::<Vec<_>>(),
        }))?;
        let address = self.master(broker)?;
        self.client.ask(&address, Request::new(code).body(body), BROKER_LIMIT, &self.about()).await
    }

    /// The group's position: the offset of the next message, if it has one.
    pub async fn committed(&self, queue: &Queue) -> Result<Option<u64>, Fault> {
        let request = self.queue_request(request::QUERY_CONSUMER_OFFSET, queue).field("setZeroIfNotFound", false);
        let about = self.about_queue(queue);
        match self.client.pool.call(&self.master(&queue.broker)?, request, BROKER_LIMIT, Abandoned::Close).await {
            Ok(answer) if answer.code == answer::SUCCESS => Ok(offset(&answer)),
            Ok(answer) if answer.code == answer::QUERY_NOT_FOUND => Ok(None),
            Ok(answer) => Err(crate::classify::answered(&answer, &about)),
            Err(error) => Err(crate::classify::unanswered(&error, &about)),
        }
    }

    /// Sets the group's position, and returns when the broker confirmed it.
    pub async fn commit(&self, queue: &Queue, next: u64) -> Result<(), Fault> {
        let request = self.queue_request(request::UPDATE_CONSUMER_OFFSET, queue).field("commitOffset", next);
        self.ask_master(queue, request).await.map(drop)
    }

    /// Sets the group's first position in a queue. While a broker has no position of the group in any queue of the topic, it loses
    /// one of two that come together (`ConsumerOffsetManager.commitOffset`): so they go one by one and are looked for, because
    /// other members may be at it as well.
    pub async fn commit_first(&self, queue: &Queue, next: u64) -> Result<(), Fault> {
        let _one_at_a_time = self.first_commits.lock().await;
        for _ in 0..FIRST_COMMITS {
            self.commit(queue, next).await?;
            if self.committed(queue).await?.is_some() {
                return Ok(());
            }
        }
        Err(Fault::down(format!("{}: the broker confirms a position and does not have it", self.about_queue(queue))))
    }

    /// Where a group without a position begins.
    pub async fn beginning(&self, queue: &Queue, partition: PartitionId, start: &Start) -> Result<u64, Fault> {
        match start {
            Start::Earliest => self.offset(queue, request::GET_MIN_OFFSET, None).await,
            Start::Latest => self.offset(queue, request::GET_MAX_OFFSET, None).await,
            Start::Time(time) => {
                let at = self.offset(queue, request::SEARCH_OFFSET_BY_TIMESTAMP, Some(*time)).await?;
                // A queue that is empty, or whose first messages are gone, is searched from 0.
                Ok(at.max(self.offset(queue, request::GET_MIN_OFFSET, None).await?))
            }
            Start::Offsets(offsets) => match offsets.get(&partition) {
                Some(offset) => Ok(*offset),
                None => self.offset(queue, request::GET_MIN_OFFSET, None).await,
            },
        }
    }

    async fn offset(&self, queue: &Queue, code: i32, time: Option<i64>) -> Result<u64, Fault> {
        let mut request = self.queue_request(code, queue);
        if let Some(time) = time {
            request = request.field("timestamp", time.max(0));
        }
        let answer = self.ask_master(queue, request).await?;
        offset(&answer).ok_or_else(|| Fault::down(format!("{}: an answer without an offset", self.about_queue(queue))))
    }

    pub async fn pull(&self, queue: &Queue, from: u64) -> Result<Answer, CallError> {
        let Some(address) = self.routes.any(&queue.broker) else {
            return Err(CallError::NotSent(format!("no address of broker {} is known", queue.broker)));
        };
        let Group { spec, tags, pull_suspend, .. } = self;
        let wanted = pull::Wanted { group: &spec.group, topic: &spec.topic, tags, suspend: Some(*pull_suspend) };
        let request = pull::request(&wanted, queue, from);
        // A pull that is given up does no harm; one that is not answered at all means a dead connection.
        let limit = self.pull_suspend + PULL_SLACK;
        self.client.pool.call(&address, request, limit, Abandoned::Keep).await
    }

    fn queue_request(&self, code: i32, queue: &Queue) -> Request {
        pull::about_queue(code, &self.spec.group, &self.spec.topic, queue)
    }

    async fn ask_master(&self, queue: &Queue, request: Request) -> Result<Answer, Fault> {
        let address = self.master(&queue.broker)?;
        self.client.ask(&address, request, BROKER_LIMIT, &self.about_queue(queue)).await
    }

    fn master(&self, broker: &str) -> Result<String, Fault> {
        let gone = || Fault::down(format!("{}: broker {broker} has no master", self.about()));
        self.routes.master(broker).ok_or_else(gone)
    }
}

fn offset(answer: &Answer) -> Option<u64> {
    answer.number("offset").and_then(|offset| u64::try_from(offset).ok())
}

/// Whether a person has to mend it, so that waiting alone will not.
pub fn needs_a_person(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Unavailable(why) if why != Why::Down)
}
