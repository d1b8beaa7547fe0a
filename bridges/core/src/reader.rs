use std::{any::Any, collections::BTreeMap};

use tokio::sync::mpsc;

use crate::{BoxFuture, Fault, Message, PartitionId};

/// Reads what a topic holds as a stranger: joins no group, commits and acknowledges nothing, and leaves nothing behind.
pub trait Reader: Send {
    /// The next messages of one partition, in its order, each message once. `None` once every partition was read up to
    /// where it ended when the reader was opened; a reader that follows never says so. Cancel-safe.
    ///
    /// A fault means that reading is disturbed; the reader mends itself, at its own pace, and `next` is called again.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Excerpt>, Fault>>;
}

/// Messages that follow each other in one partition; never empty.
#[derive(Clone, Debug)]
pub struct Excerpt {
    pub partition: PartitionId,
    pub messages: Vec<Message>,
}

#[derive(Clone, Debug)]
pub struct ReaderSpec {
    pub topic: String,
    pub from: ReadFrom,
    /// Waits for what is written later instead of ending. Partitions that are added later are not read.
    pub follow: bool,
    /// Bytes that the client may buffer on its own.
    pub buffer_bytes: usize,
    /// Bytes of a message at most; a larger one is handed out as a defect.
    pub largest_message: usize,
    /// The protocol's own settings, by the client's own names.
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFrom {
    /// The first message that there is.
    Earliest,
    /// The first message that the cluster dates so or later, in milliseconds since 1970-01-01T00:00Z. Clusters date by
    /// different clocks, so that earlier messages may come as well.
    Time(i64),
}

/// A reader whose partitions are read by tasks or threads of their own.
pub struct TaskReader {
    heard: mpsc::Receiver<Progress>,
    /// Tasks that have not ended.
    left: usize,
    /// Ends the tasks when it is dropped.
    _tasks: Box<dyn Any + Send>,
}

/// What such a task says. The last thing is [`Progress::Ended`].
pub enum Progress {
    Read(Excerpt),
    Disturbed(Fault),
    /// This task has read everything that it had to read.
    Ended,
}

impl TaskReader {
    /// `tasks` of them speak, all into one channel; they end when `guard` is dropped, or when nobody hears them.
    pub fn new(heard: mpsc::Receiver<Progress>, tasks: usize, guard: impl Any + Send) -> Self {
        TaskReader { heard, left: tasks, _tasks: Box::new(guard) }
    }
}

impl Reader for TaskReader {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Excerpt>, Fault>> {
        Box::pin(async move {
            while self.left > 0 {
                match self.heard.recv().await {
                    Some(Progress::Read(excerpt)) => return Ok(Some(excerpt)),
                    Some(Progress::Disturbed(fault)) => return Err(fault),
                    Some(Progress::Ended) => self.left -= 1,
                    // A task that fell without a word has not read everything.
                    None => return Err(Fault::down("a task that read a partition is gone")),
                }
            }
            Ok(None)
        })
    }
}
