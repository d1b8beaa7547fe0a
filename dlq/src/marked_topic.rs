//! Marks in a topic of their own, for clusters that keep none: one message a mark.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use trestle_core::{
    BoxFuture, Connector, Durable, Ensure, Fault, FaultKind, Guarantee, Lane, LaneKey, Marks, Message, PartitionId,
    Position, ReadFrom, ReaderSpec, SinkSpec, Slice, Tracker, Why,
};

use crate::write::judge;

/// Behind the topic's name.
const SUFFIX: &str = "-handled";
/// Names the group whose marks they are.
const GROUP: &str = "trestle-dlq-group";
/// Marks that are held in memory, some 40 bytes each.
const MOST: usize = 10_000_000;
const BUFFER: usize = 4 << 20;
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Marks of one send.
const UNIT: usize = 100;

pub(crate) struct MarkedTopic {
    connector: Arc<dyn Connector>,
    topic: String,
    group: String,
    marked: BTreeSet<(PartitionId, Position)>,
    lane: Option<Box<dyn Lane>>,
}

impl MarkedTopic {
    pub async fn open(connector: Arc<dyn Connector>, topic: &str, group: &str) -> Result<Self, Fault> {
        let topic = format!("{topic}{SUFFIX}");
        let spec = ReaderSpec {
            topic: topic.clone(),
            from: ReadFrom::Earliest,
            follow: false,
            buffer_bytes: BUFFER,
            largest_message: BUFFER,
            options: BTreeMap::new(),
        };
        let mut marked = BTreeSet::new();
        match connector.reader(spec).await {
            Ok(mut reader) => {
                while let Some(excerpt) = reader.next().await? {
                    let of = excerpt
                        .messages
                        .iter()
                        .filter(|message| message.headers.get(GROUP).is_some_and(|name| name == group.as_bytes()));
                    marked.extend(of.filter_map(read));
                    if marked.len() > MOST {
                        return Err(Fault::down(format!(
                            "{topic} holds more than {MOST} marks: begin a new dead-letter topic"
                        )));
                    }
                }
            }
            Err(Fault { kind: FaultKind::Unavailable(Why::UnknownTopic), .. }) => {}
            Err(fault) => return Err(fault),
        }
        Ok(MarkedTopic { connector, topic, group: group.to_owned(), marked, lane: None })
    }

    async fn lane(&mut self) -> Result<&mut Box<dyn Lane>, Fault> {
        if self.lane.is_none() {
            let durable = Some(Durable { subscription: self.group.clone() });
            self.connector.ensure(&self.topic, Ensure { partitions: 1, durable }).await?;
            let spec = SinkSpec {
                topic: self.topic.clone(),
                route: "dlq".into(),
                hop: "dead-letter",
                fenced: false,
                split_large: false,
                send_timeout: SEND_TIMEOUT,
                guarantee: Guarantee::Replicated,
                options: BTreeMap::new(),
            };
            let sink = self.connector.sink(spec).await?;
            self.lane = Some(sink.lane(LaneKey { target: PartitionId(0), source: None }).await?);
        }
        self.lane.as_mut().ok_or_else(|| Fault::down("the lane for marks did not open"))
    }
}

fn write(group: &str, partition: PartitionId, position: Position) -> Message {
    let mut message = Message::at(position);
    message.key = Some(format!("{partition}/{position}").into());
    message.value = Some(bytes::Bytes::from_static(b"handled"));
    message.headers.push(GROUP, Some(group.to_owned().into()));
    message
}

fn read(message: &Message) -> Option<(PartitionId, Position)> {
    let (partition, position) = std::str::from_utf8(message.key.as_ref()?).ok()?.split_once('/')?;
    Some((PartitionId(partition.parse().ok()?), position.parse().ok()?))
}

impl Marks for MarkedTopic {
    fn has(&self, partition: PartitionId, position: Position) -> bool {
        self.marked.contains(&(partition, position))
    }

    fn mark(
        &mut self,
        partition: PartitionId,
        positions: Vec<Position>,
        _upto: Option<Position>,
    ) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let group = self.group.clone();
            for unit in positions.chunks(UNIT) {
                let marks = unit.iter().map(|position| write(&group, partition, *position));
                let marks = marks.enumerate().map(|(n, mark)| Message { position: Position::Offset(n as u64), ..mark });
                let tracker = Tracker::new(PartitionId(0), || {});
                let batch = tracker.admit(marks.collect()).ok_or_else(|| Fault::down("the marks were not admitted"))?;
                let sent = self.lane().await?.send(vec![Slice::whole(Arc::new(batch))]).await;
                judge(sent, unit.len())?;
                self.marked.extend(unit.iter().map(|position| (partition, *position)));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for position in [Position::Offset(7), Position::Entry { ledger: 1, entry: 2, index: 3 }] {
            assert_eq!(read(&write("group", PartitionId(4), position)), Some((PartitionId(4), position)));
        }
        for key in ["", "4", "x/7", "4/7:8", "4/7:8:9:1"] {
            assert_eq!(read(&Message { key: Some(key.into()), ..Message::at(Position::Offset(0)) }), None, "{key}");
        }
    }
}
