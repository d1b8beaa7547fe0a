use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{Batch, BoxFuture, Fault, PartitionId, Position, Tracker};

/// Reads one topic as a member of a group.
pub trait Source: Send {
    /// The next thing that happened. Cancel-safe, and **always polled** by its owner, whatever the target does: it keeps
    /// the group membership alive and carries rebalances.
    ///
    /// A fault means that reading is disturbed; the source mends itself and `next` is called again. Sources pace their
    /// own retries, so a fault never comes in a busy loop.
    fn next(&mut self) -> BoxFuture<'_, Result<Event, Fault>>;
}

/// Steers a source from beside it; every call is cheap and none blocks.
pub trait SourceControl: Send + Sync {
    /// Begins to read an assigned partition: at `from`, else at the group's committed position, else where the route's
    /// `start` says. Nothing is fetched before.
    fn start(&self, partition: PartitionId, from: Option<Position>);

    /// From now on at most `bytes` more may be handed out of this partition (the message that crosses the line is still
    /// handed out whole); 0 pauses it. Replaces what was granted before. A started partition has no credit.
    fn credit(&self, partition: PartitionId, bytes: u64);

    /// Commits what is settled of these partitions, and answers when the broker confirmed it.
    fn commit(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Result<(), Fault>>;

    /// How far the group's position is behind the end of each assigned partition, where the source knows it without asking.
    fn lag(&self) -> Vec<Lag> {
        Vec::new()
    }

    /// Commits, leaves the group and frees everything. `next` then stays pending.
    fn close(&self) -> BoxFuture<'static, ()>;
}

#[derive(Clone, Copy, Debug)]
pub struct Lag {
    pub partition: PartitionId,
    pub behind: u64,
    /// What `behind` counts: `messages`, or `entries` where a broker counts batches.
    pub unit: &'static str,
}

pub enum Event {
    /// These partitions are ours now. Answered to the broker at once; nothing is fetched until [`SourceControl::start`].
    Assigned(Vec<Arc<Tracker>>),
    Batch(Batch),
    /// These partitions are being taken away. Their trackers have ended already: nothing more is handed out, and what is
    /// not sent is dropped. With `lost` they belong to another already and nothing may be committed. The source lets them
    /// go at `done`.
    Revoked {
        partitions: Vec<PartitionId>,
        lost: bool,
        done: Done,
    },
    /// The broker no longer has what comes next: `from` was wanted, `to` is what there is. The partition stands still
    /// until it is started again.
    Gap {
        partition: PartitionId,
        from: Position,
        to: Position,
    },
    /// The partition has something that the broker does not hand out, and why, in words for people; `None` once it does.
    Held {
        partition: PartitionId,
        why: Option<String>,
    },
}

/// Tells the source that a revoke may be completed; dropping it says the same.
pub struct Done(Option<oneshot::Sender<()>>);

impl Done {
    pub fn new() -> (Done, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Done(Some(sender)), receiver)
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            // The source may be gone already; then there is nobody to tell.
            let _ = sender.send(());
        }
    }
}
