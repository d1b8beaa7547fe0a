//! Pulls one queue at offsets of our own, only while there is credit.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use trestle_core::{Epoch, Event, Fault, Message, Position, Restart, Start};

use super::{
    group::Group,
    passed::Passed,
    reading::{Events, Reading},
};
use crate::{
    classify, pull,
    remoting::{CallError, codes::answer},
};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);
/// A broker that answers at once although it has nothing is not asked more often than this.
const EMPTY_PACE: Duration = Duration::from_millis(50);
/// A broker that was just restarted may still be counting its messages: for so long its "no such offset" is not believed.
const RECOUNT_LIMIT: Duration = Duration::from_secs(5);
/// A lasting fault is told again after this time.
const REMIND: Duration = Duration::from_secs(10);

/// Reads until it is aborted. A fault is told once and the reading goes on.
pub async fn read(reading: Arc<Reading>, group: Arc<Group>, events: Events) {
    let mut reader = Reader {
        reading,
        group,
        events,
        epoch: Epoch(0),
        start: 0,
        cursor: None,
        waiting: VecDeque::new(),
        gap: false,
        doubted: None,
        told: None,
        retry: RETRY_FIRST,
    };
    loop {
        match reader.step().await {
            Ok(()) => {}
            Err(Stop::Fault(fault)) => reader.trouble(fault).await,
            Err(Stop::Closed) => return,
        }
    }
}

struct Reader {
    reading: Arc<Reading>,
    group: Arc<Group>,
    events: Events,
    epoch: Epoch,
    /// Where this assignment began.
    start: u64,
    /// The offset to pull next; none before the start and in a gap.
    cursor: Option<u64>,
    /// Pulled and not handed out: of one pull.
    waiting: VecDeque<Message>,
    gap: bool,
    /// Since when the broker says that our offset is beyond its last.
    doubted: Option<Instant>,
    told: Option<Instant>,
    retry: Duration,
}

enum Stop {
    Fault(Fault),
    /// Nobody takes events any more.
    Closed,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl Reader {
    async fn step(&mut self) -> Result<(), Stop> {
        let order = self.reading.orders().start;
        if let Some(from) = order {
            self.begin(from).await?;
        }
        if let Some(restart) = self.reading.tracker.restart() {
            self.epoch = Epoch(self.epoch.0 + 1);
            self.waiting.clear();
            if self.cursor.is_some() {
                self.cursor = Some(self.position_of(restart));
            }
        }
        let credit = self.reading.orders().credit;
        let readable = credit > 0 && self.reading.tracker.is_current(self.epoch);
        match self.cursor {
            Some(_) if readable && !self.waiting.is_empty() => self.hand_out().await,
            Some(cursor) if readable => self.pull(cursor).await,
            _ => {
                self.reading.wake.notified().await;
                Ok(())
            }
        }
    }

    /// Carries out the order to start.
    async fn begin(&mut self, from: Option<Position>) -> Result<(), Stop> {
        let at = match from {
            Some(Position::Offset(offset)) => offset,
            Some(other) => return Err(Fault::down(format!("{}: {other} is no offset", self.about())).into()),
            None => self.group_position().await?,
        };
        if std::mem::take(&mut self.gap) {
            self.reading.tracker.skip_to(Position::Offset(at));
        }
        let mut orders = self.reading.orders();
        if orders.start == Some(from) {
            orders.start = None;
        }
        drop(orders);
        self.waiting.clear();
        (self.start, self.cursor, self.doubted) = (at, Some(at), None);
        *self.reading.passed() = Passed::begin(at);
        self.reading.next.fetch_max(at, Ordering::Relaxed);
        Ok(())
    }

    async fn group_position(&self) -> Result<u64, Fault> {
        let queue = &self.reading.queue;
        let has_position = &self.reading.has_position;
        if let Some(committed) = self.group.committed(queue).await? {
            has_position.store(true, Ordering::Relaxed);
            return Ok(committed);
        }
        let start = &self.reading.otherwise;
        let at = self.group.beginning(queue, self.reading.tracker.partition(), start).await?;
        if *start != Start::Earliest {
            // Else whoever starts again before the first commit would look anew: at the end, it would skip what came since.
            self.group.commit_first(queue, at).await?;
            has_position.store(true, Ordering::Relaxed);
        }
        Ok(at)
    }

    fn position_of(&self, restart: Restart) -> u64 {
        match restart {
            Restart::At(Position::Offset(offset)) => offset,
            Restart::After(Position::Offset(offset)) => offset + 1,
            _ => self.start,
        }
    }

    /// Hands out what waits, up to the credit.
    async fn hand_out(&mut self) -> Result<(), Stop> {
        let batch = {
            let mut orders = self.reading.orders();
            let (mut messages, mut bytes) = (Vec::with_capacity(self.waiting.len()), 0);
            while bytes < orders.credit {
                let Some(message) = self.waiting.pop_front() else { break };
                bytes += message.size() as u64;
                messages.push(message);
            }
            let batch = self.reading.tracker.admit(messages);
            // Only what is handed out costs credit: what had settled before is left out, and nobody would give that back.
            orders.credit = orders.credit.saturating_sub(batch.as_ref().map_or(0, |batch| batch.bytes as u64));
            batch
        };
        // Nothing to hand out: settled before, or the epoch has just ended and they are read again.
        let Some(batch) = batch else { return Ok(()) };
        self.events.send(Ok(Event::Batch(batch))).await.map_err(|_| Stop::Closed)
    }

    async fn pull(&mut self, cursor: u64) -> Result<(), Stop> {
        let asked = Instant::now();
        let answer = {
            let pull = self.group.pull(&self.reading.queue, cursor);
            tokio::pin!(pull);
            loop {
                tokio::select! {
                    answer = &mut pull => break answer,
                    () = self.reading.wake.notified() => {
                        let started = self.reading.orders().start.is_some();
                        if started || !self.reading.tracker.is_current(self.epoch) {
                            // What wakes us has to be seen again by the next step.
                            self.reading.wake.notify_one();
                            return Ok(());
                        }
                    }
                }
            }
        };
        let answer = answer.map_err(|error| {
            if matches!(error, CallError::Lost(_)) {
                self.group.shaken.notify_one();
            }
            classify::unanswered(&error, &self.about())
        })?;
        if let Some(end) = answer.number("maxOffset") {
            self.reading.end.store(end.max(0) as u64, Ordering::Relaxed);
        }
        let next = answer.number("nextBeginOffset").and_then(|next| u64::try_from(next).ok()).unwrap_or(cursor);
        match answer.code {
            answer::SUCCESS => {
                let Group { spec, tags, .. } = &*self.group;
                self.waiting = pull::messages(answer.body, cursor, spec.largest_message, tags).into();
                let last = self.waiting.back().map(|message| message.position);
                self.passed_over(cursor, last, next);
            }
            _ if next > cursor && pull::has_other_tags(&answer, cursor, &self.group.tags) => {
                self.passed_over(cursor, None, next);
            }
            answer::PULL_NOT_FOUND | answer::PULL_RETRY_IMMEDIATELY if next == cursor => {
                sleep(EMPTY_PACE.saturating_sub(asked.elapsed())).await;
            }
            answer::PULL_NOT_FOUND | answer::PULL_RETRY_IMMEDIATELY | answer::PULL_OFFSET_MOVED => {
                return self.moved(cursor, next).await;
            }
            _ => return Err(classify::answered(&answer, &self.about()).into()),
        }
        self.mended();
        Ok(())
    }

    /// A pull from `cursor` on gave messages up to `last`, and the next one begins at `next`.
    fn passed_over(&mut self, cursor: u64, last: Option<Position>, next: u64) {
        let last = match last {
            Some(Position::Offset(last)) => Some(last),
            _ => None,
        };
        let next = next.max(last.map_or(cursor, |last| last + 1));
        self.cursor = Some(next);
        self.reading.passed().pull(cursor, last, next);
    }

    /// The broker has nothing at `cursor` and names `next` instead.
    async fn moved(&mut self, cursor: u64, next: u64) -> Result<(), Stop> {
        if next < cursor {
            let since = *self.doubted.get_or_insert_with(Instant::now);
            if since.elapsed() < RECOUNT_LIMIT {
                sleep(RETRY_FIRST).await;
                return Ok(());
            }
        }
        (self.cursor, self.gap, self.doubted) = (None, true, None);
        let partition = self.reading.tracker.partition();
        let gap = Event::Gap { partition, from: Position::Offset(cursor), to: Position::Offset(next) };
        self.events.send(Ok(gap)).await.map_err(|_| Stop::Closed)
    }

    fn mended(&mut self) {
        (self.retry, self.doubted) = (RETRY_FIRST, None);
        if self.told.take().is_some() {
            tracing::info!(queue = self.about(), "reading again");
        }
    }

    /// Tells the fault, unless it was told a moment ago, and waits before the next try.
    async fn trouble(&mut self, fault: Fault) {
        if self.told.is_none_or(|told| told.elapsed() > REMIND) {
            self.told = Some(Instant::now());
            // Nobody listens any more when the source is being closed.
            let _ = self.events.send(Err(fault)).await;
        }
        sleep(self.retry).await;
        self.retry = (self.retry * 2).min(RETRY_MOST);
        // The broker may have moved. What the name servers say of it is not this queue's to tell.
        let _ = self.group.routes.refresh(&self.group.client).await;
    }

    fn about(&self) -> String {
        self.group.about_queue(&self.reading.queue)
    }
}
