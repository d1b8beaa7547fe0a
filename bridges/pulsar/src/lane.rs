//! The ordered way into one partition of a topic.
//!
//! **What is guaranteed.** Frames go out in order on one connection, up to [`WINDOW`] units ahead of their receipts, which
//! must come in that order. After anything but a receipt (an error, no receipt in `send_timeout`, CLOSE_PRODUCER, a lost
//! connection) the producer is closed, frames not yet written are thrown away, everything in flight is answered, and the
//! next call opens a producer under the *same name* (and, on a fenced lane, the same topic epoch). The broker lets it in
//! only once the old one is gone, so nothing sent before can be stored behind what is sent after (`AbstractTopic`:
//! "producer with name ... is already connected", `ProducerFenced`).
//!
//! **Repeats.** Before it sends anything, the reopened lane reads the topic from its last receipt to its end and looks for
//! its own sequence ids: messages that were answered `Unknown` but are there are answered `Stored` when they come again in
//! the same assignment, and not sent a second time. Where it cannot look (no receipt yet, no permission to consume, more
//! than [`tail::LARGEST`] entries by others) they are sent again: at least once.

mod encode;
mod flight;
mod opening;
mod repeats;
mod tail;
mod task;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use trestle_core::{BoxFuture, Fault, Lane, Sent, Slice};

use self::{encode::BATCH_BYTES, task::Task};
pub(crate) use self::{encode::Encoder, opening::LaneSpec};

/// Units in flight. Receipts come in order; more did not make it faster, even far away.
const WINDOW: usize = 8;
/// What the owner should gather into one send: the messages of one batch frame.
pub(crate) const UNIT_MESSAGES: usize = 1000;
pub(crate) const UNIT_BYTES: usize = BATCH_BYTES;

pub(crate) struct PulsarLane {
    jobs: mpsc::Sender<Job>,
    /// The number of failures the owner has been told of. A send made in ignorance of one must not be tried: it would
    /// overtake what failed.
    told: Arc<AtomicU64>,
    topic: String,
    task: JoinHandle<()>,
}

/// One call of `send`.
struct Job {
    unit: Vec<Slice>,
    /// `PulsarLane::told` when it was made.
    told: u64,
    done: oneshot::Sender<Done>,
}

struct Done {
    sent: Sent,
    /// The number of failures that the owner knows of with this one.
    told: u64,
}

impl PulsarLane {
    /// Opens the producer, which takes a fenced lane over.
    pub async fn open(spec: LaneSpec) -> Result<PulsarLane, Fault> {
        let (jobs, queue) = mpsc::channel(WINDOW);
        let topic = spec.topic.clone();
        let task = Task::open(spec, queue).await?;
        Ok(PulsarLane { jobs, told: Arc::default(), topic, task: tokio::spawn(task.run()) })
    }
}

impl Lane for PulsarLane {
    fn window(&self) -> usize {
        WINDOW
    }

    fn send(&mut self, unit: Vec<Slice>) -> BoxFuture<'static, Sent> {
        let messages = unit.iter().map(Slice::len).sum();
        let (done, answer) = oneshot::channel();
        let job = Job { unit, told: self.told.load(Ordering::Acquire), done };
        if self.jobs.try_send(job).is_err() {
            let fault = Fault::down(format!("the lane into {} is closed, or has {WINDOW} sends waiting", self.topic));
            return std::future::ready(Sent::refused(messages, fault)).boxed();
        }
        let (told, topic) = (self.told.clone(), self.topic.clone());
        let resolved = async move {
            match answer.await {
                Ok(done) => {
                    told.fetch_max(done.told, Ordering::AcqRel);
                    done.sent
                }
                Err(_) => Sent::unknown(messages, Fault::down(format!("the lane into {topic} ended"))),
            }
        };
        resolved.boxed()
    }

    /// Waits for what is in flight, then closes the producer.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            let PulsarLane { jobs, task, topic, .. } = *self;
            drop(jobs);
            if let Err(e) = task.await {
                tracing::error!(topic, "the lane's task failed: {e}");
            }
        }
        .boxed()
    }
}
