//! Reads a topic without a group: queues are pulled at offsets of our own. Of a topic's options only the tags count.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep},
};
use trestle_core::{Excerpt, Fault, PartitionId, Position, Progress, ReadFrom, Reader, ReaderSpec, TaskReader, Why};

use crate::{
    classify,
    client::{BROKER_LIMIT, BrokerRuntime, Client, Routes},
    pull,
    queues::Queues,
    remoting::{
        Abandoned, Request,
        codes::{answer, request},
    },
    route::Queue,
    tags::Tags,
};

/// Answers that may be held at a time, of all queues.
const PULLS: usize = 8;
const WAITING: usize = 2;
/// Before a queue is asked again that had nothing, or was in trouble.
const EMPTY_PACE: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(10);
const CATCH_UP_POLL: Duration = Duration::from_millis(50);

pub async fn open(client: Client, spec: ReaderSpec) -> Result<Box<dyn Reader>, Fault> {
    let tags = Tags::read(&spec.options)
        .map_err(|error| Fault::unavailable(Why::Down, format!("{}: {error}", client.at(&spec.topic))))?;
    let route = client.route(&spec.topic).await?;
    let mut queues = Queues::default();
    queues.grow(route.readable());
    let shared =
        Arc::new(Shared { routes: Routes::new(&spec.topic, route), client, spec, tags, pulls: Semaphore::new(PULLS) });
    if !shared.spec.follow {
        join_all(shared.routes.masters().iter().map(|address| shared.caught_up(address))).await;
    }
    let (progress, heard) = mpsc::channel(WAITING);
    let mut tasks = JoinSet::new();
    for partition in (0..queues.len()).map(PartitionId) {
        let Some(queue) = queues.get(partition).cloned() else { continue };
        let (from, end) = shared.span(&queue).await?;
        let reading = Reading {
            shared: shared.clone(),
            queue,
            partition,
            next: from,
            end: if shared.spec.follow { u64::MAX } else { end },
            told: false,
            progress: progress.clone(),
        };
        tasks.spawn(reading.run());
    }
    Ok(Box::new(TaskReader::new(heard, tasks.len(), tasks)))
}

struct Shared {
    client: Client,
    routes: Routes,
    spec: ReaderSpec,
    tags: Tags,
    pulls: Semaphore,
}

struct Reading {
    shared: Arc<Shared>,
    queue: Queue,
    partition: PartitionId,
    /// The offset to pull next.
    next: u64,
    end: u64,
    /// The fault that lasts was told.
    told: bool,
    progress: mpsc::Sender<Progress>,
}

impl Shared {
    fn about(&self, queue: &Queue) -> String {
        format!("reading {}, broker {} queue {}", self.client.at(&self.spec.topic), queue.broker, queue.id)
    }

    /// Waits until what the broker has stored is in its queues: it confirms a message first and shows it in its queue a
    /// moment later, so that a queue's end is behind (`ReputMessageService`). Who may not ask goes on at once.
    async fn caught_up(&self, address: &str) {
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        let mut stored = None;
        loop {
            let ask = self.client.ask(address, Request::new(request::GET_BROKER_RUNTIME_INFO), BROKER_LIMIT, "").await;
            let Ok(answer) = ask else { return };
            let runtime = BrokerRuntime::parse(&answer.body);
            let Some(end) = runtime.number("commitLogMaxOffset") else { return };
            let queued = end.saturating_sub(runtime.number("dispatchBehindBytes").unwrap_or(0));
            if queued >= *stored.get_or_insert(end) || Instant::now() > deadline {
                return;
            }
            sleep(CATCH_UP_POLL).await;
        }
    }

    /// Where to begin, and where the queue ends now.
    async fn span(&self, queue: &Queue) -> Result<(u64, u64), Fault> {
        let end = self.offset(queue, request::GET_MAX_OFFSET, None).await?;
        let from = match self.spec.from {
            ReadFrom::Earliest => self.offset(queue, request::GET_MIN_OFFSET, None).await?,
            ReadFrom::Time(time) => {
                let first = self.offset(queue, request::SEARCH_OFFSET_BY_TIMESTAMP, Some(time)).await?;
                first.max(self.offset(queue, request::GET_MIN_OFFSET, None).await?)
            }
        };
        Ok((from, end))
    }

    async fn offset(&self, queue: &Queue, code: i32, time: Option<i64>) -> Result<u64, Fault> {
        let about = self.about(queue);
        let address =
            self.routes.master(&queue.broker).ok_or_else(|| Fault::down(format!("{about}: it has no master")))?;
        let mut request = pull::about_queue(code, pull::NO_GROUP, &self.spec.topic, queue);
        if let Some(time) = time {
            request = request.field("timestamp", time.max(0));
        }
        let answer = self.client.ask(&address, request, BROKER_LIMIT, &about).await?;
        let offset = answer.number("offset").and_then(|offset| u64::try_from(offset).ok());
        offset.ok_or_else(|| Fault::down(format!("{about}: an answer without an offset")))
    }
}

impl Reading {
    async fn run(mut self) {
        let shared = self.shared.clone();
        while self.next < self.end {
            // Held until the excerpt is taken: so many answers are in memory, whatever the number of queues.
            let permit = shared.pulls.acquire().await;
            match self.step().await {
                Ok(Some(excerpt)) => self.say(Progress::Read(excerpt)).await,
                Ok(None) => {
                    drop(permit);
                    sleep(EMPTY_PACE).await;
                }
                Err(fault) => {
                    drop(permit);
                    if !std::mem::replace(&mut self.told, true) {
                        self.say(Progress::Disturbed(fault)).await;
                    }
                    sleep(RETRY).await;
                    // The broker may have moved. What the name servers say of it is not this queue's to tell.
                    let _ = shared.routes.refresh(&shared.client).await;
                }
            }
        }
        self.say(Progress::Ended).await;
    }

    /// Whoever reads ends this task when nobody hears it.
    async fn say(&self, progress: Progress) {
        let _ = self.progress.send(progress).await;
    }

    async fn step(&mut self) -> Result<Option<Excerpt>, Fault> {
        let Shared { client, routes, spec, tags, .. } = &*self.shared;
        let about = self.shared.about(&self.queue);
        let address =
            routes.any(&self.queue.broker).ok_or_else(|| Fault::down(format!("{about}: no address is known")))?;
        let wanted = pull::Wanted { group: pull::NO_GROUP, topic: &spec.topic, tags, suspend: None };
        let request = pull::request(&wanted, &self.queue, self.next);
        let answer = client.pool.call(&address, request, BROKER_LIMIT, Abandoned::Keep).await;
        let answer = answer.map_err(|error| classify::unanswered(&error, &about))?;
        let next = answer.number("nextBeginOffset").and_then(|next| u64::try_from(next).ok()).unwrap_or(self.next);
        match answer.code {
            answer::SUCCESS => {
                let mut messages = pull::messages(answer.body, self.next, spec.largest_message, tags);
                self.next = next.max(self.next + u64::from(!messages.is_empty()));
                messages.retain(|message| matches!(message.position, Position::Offset(at) if at < self.end));
                self.told = false;
                Ok((!messages.is_empty()).then_some(Excerpt { partition: self.partition, messages }))
            }
            answer::PULL_NOT_FOUND | answer::PULL_RETRY_IMMEDIATELY | answer::PULL_OFFSET_MOVED => {
                // Forward past what was deleted, and never back: a broker that was just restarted may still be counting.
                self.next = next.max(self.next);
                self.told = false;
                Ok(None)
            }
            _ => Err(classify::answered(&answer, &about)),
        }
    }
}
