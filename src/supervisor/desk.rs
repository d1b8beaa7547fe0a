//! What a person asks of the supervisor while it runs, what it answers, and what it tells everyone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Duration, Instant, interval},
};

use super::Applied;

/// Orders that wait to be carried out. Each takes no longer than the reading of a table.
const ORDERS: usize = 16;
/// Between two signs of life.
const BEAT_EVERY: Duration = Duration::from_secs(1);

pub enum Order {
    /// The route drains, and stays away until it is resumed.
    Pause {
        route: String,
        answer: Answer<bool>,
    },
    Resume {
        route: String,
        answer: Answer<bool>,
    },
    /// Reads the table again.
    Reload {
        answer: Answer<Applied>,
    },
}

/// Whether anything changed, or what did; an error is for people. Whoever asked may have gone.
pub type Answer<T> = oneshot::Sender<Result<T, Refused>>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There is no such route.
    NoRoute,
    /// The table is wrong, or cannot be read: what runs stays as it is.
    Table(Vec<String>),
    Failed(String),
}

/// What everyone may know.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Tables that were applied.
    pub generation: u64,
    /// Routes that were told to pause.
    pub paused: BTreeSet<String>,
    /// Why the last table that was read is not the one that runs.
    pub refused: Option<(SystemTime, String)>,
}

/// Where orders are given and news are read; cheap to clone.
#[derive(Clone)]
pub struct Desk {
    pub orders: mpsc::Sender<Order>,
    pub news: watch::Receiver<News>,
    pub beat: Arc<Beat>,
}

/// What the supervisor has of it.
pub struct Inbox {
    pub orders: mpsc::Receiver<Order>,
    pub beat: Arc<Beat>,
}

pub fn desk(news: watch::Receiver<News>) -> (Desk, Inbox) {
    let (orders, received) = mpsc::channel(ORDERS);
    let beat = Arc::new(Beat::default());
    (Desk { orders, news, beat: beat.clone() }, Inbox { orders: received, beat })
}

/// The task that supervises is alive: it was polled a moment ago.
pub struct Beat {
    begin: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Default for Beat {
    fn default() -> Self {
        Beat { begin: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Beat {
    /// Beats beside what the task does, until that is done.
    pub async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let mut ticks = interval(BEAT_EVERY);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.last.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed),
            }
        }
    }

    /// For how long there was no sign of life.
    pub fn silence(&self) -> Duration {
        self.begin.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Since the start.
    pub fn uptime(&self) -> Duration {
        self.begin.elapsed()
    }
}
