//! Asks the source's cluster, past the source, whether there is something that the source has not handed out.

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use tokio::time::{Duration, timeout};
use trestle_core::{BoxFuture, Connector, PartitionId, Position, ReadFrom, ReaderSpec};

/// A look takes this long at most, and reads so many messages.
const LOOK: Duration = Duration::from_secs(30);
const MESSAGES: usize = 100_000;
/// Clusters date by other clocks than ours.
const CLOCKS: i64 = 60_000;

/// A partition of which nothing has come for long.
#[derive(Clone, Copy, Debug)]
pub struct Suspect {
    pub partition: PartitionId,
    /// Where what the source is to hand out begins.
    pub awaited: Bound<Position>,
    /// When what the source handed out last was written, in milliseconds since 1970-01-01T00:00Z.
    pub written: i64,
}

impl Suspect {
    pub fn awaits(&self, position: Position) -> bool {
        (self.awaited, Bound::Unbounded).contains(&position)
    }
}

/// Answers a message of each of these partitions that is awaited, if the cluster has one.
pub type Unread = Arc<dyn Fn(Vec<Suspect>) -> BoxFuture<'static, BTreeMap<PartitionId, Position>> + Send + Sync>;

/// Looks with a reader of its own each time. `spec.from` is chosen anew.
pub fn unread(connector: Arc<dyn Connector>, spec: ReaderSpec) -> Unread {
    Arc::new(move |suspects| {
        let (connector, spec) = (connector.clone(), spec.clone());
        Box::pin(async move {
            let mut found = BTreeMap::new();
            // A cluster that does not answer is no witness against the source.
            let _ = timeout(LOOK, look(&*connector, spec, suspects, &mut found)).await;
            found
        })
    })
}

async fn look(
    connector: &dyn Connector,
    spec: ReaderSpec,
    suspects: Vec<Suspect>,
    found: &mut BTreeMap<PartitionId, Position>,
) {
    let Some(written) = suspects.iter().map(|s| s.written).min() else { return };
    let from = ReadFrom::Time(written.saturating_sub(CLOCKS));
    let Ok(mut reader) = connector.reader(ReaderSpec { from, follow: false, ..spec }).await else { return };
    let (mut read, all) = (0, suspects.len());
    while let Ok(Some(excerpt)) = reader.next().await {
        read += excerpt.messages.len();
        if let Some(suspect) = suspects.iter().find(|s| s.partition == excerpt.partition)
            && let Some(message) = excerpt.messages.iter().find(|m| suspect.awaits(m.position))
        {
            found.entry(suspect.partition).or_insert(message.position);
        }
        if found.len() == all || read >= MESSAGES {
            return;
        }
    }
}
