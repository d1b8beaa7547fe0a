//! Reads the end of a topic for what this lane wrote.

use std::{collections::HashSet, time::Duration};

use pulsar::message::proto::{
    CommandGetLastMessageId, CommandSubscribe, MessageIdData,
    base_command::Type,
    command_subscribe::{InitialPosition, SubType},
};
use tokio::time::timeout;
use trestle_core::Fault;

use super::opening::LaneSpec;
use crate::{
    classify,
    connection::{Connection, ConsumerEvent, RequestError, command},
    pool::Use,
};

/// Entries read at most; a lane has far fewer in flight, others may write in between.
pub(super) const LARGEST: usize = 2_000;
/// Messages asked for at a time.
const PERMITS: u32 = 1_000;
/// All of it.
const TAIL_TIMEOUT: Duration = Duration::from_secs(5);

impl LaneSpec {
    /// Which of the `wanted` sequence ids (the first of each frame) are in the topic behind `after`, an entry that is there.
    pub(super) async fn stored_behind(&self, after: &MessageIdData, wanted: &[u64]) -> Result<HashSet<u64>, Fault> {
        let connection = self.cluster.connect(&self.topic, Use::Probe).await?;
        let id = connection.next_id();
        let what = || format!("reading the end of {} on cluster {}", self.topic, self.cluster.name);
        let read = timeout(TAIL_TIMEOUT, self.read(&connection, id, after, wanted)).await;
        let read = match read {
            Ok(read) => read.map_err(|e| classify::fault(what(), &e)),
            Err(_) => {
                // The consumer goes with its connection; so does whoever else looks at something, and looks again.
                connection.abort();
                return Err(Fault::down(format!("{}: not done in {TAIL_TIMEOUT:?}", what())));
            }
        };
        if connection.close_consumer(id).await.is_err() {
            connection.abort();
        }
        read
    }

    async fn read(
        &self,
        connection: &Connection,
        id: u64,
        after: &MessageIdData,
        wanted: &[u64],
    ) -> Result<HashSet<u64>, RequestError> {
        let mut found = HashSet::new();
        let mut events = connection.consumer(id, PERMITS as usize)?;
        let subscribe = |request_id| {
            let mut subscribe = command(Type::Subscribe);
            subscribe.subscribe = Some(CommandSubscribe {
                topic: self.topic.clone(),
                subscription: format!("{}-tail-{id}-{}", self.name, std::process::id()),
                sub_type: SubType::Exclusive as i32,
                consumer_id: id,
                request_id,
                durable: Some(false),
                initial_position: Some(InitialPosition::Earliest as i32),
                start_message_id: Some(MessageIdData {
                    ledger_id: after.ledger_id,
                    entry_id: after.entry_id,
                    ..Default::default()
                }),
                force_topic_creation: Some(false),
                ..Default::default()
            });
            subscribe
        };
        connection.request(subscribe).await?;
        let ask_last = |request_id| {
            let mut ask = command(Type::GetLastMessageId);
            ask.get_last_message_id = Some(CommandGetLastMessageId { consumer_id: id, request_id });
            ask
        };
        let answer = connection.request(ask_last).await?;
        let Some(last) = answer.get_last_message_id_response.map(|r| r.last_message_id) else { return Ok(found) };
        // An empty topic has entry -1.
        if last.entry_id > i64::MAX as u64 || place(&last) <= place(after) {
            return Ok(found);
        }
        connection.flow(id, PERMITS).await?;
        let mut used = 0;
        for _ in 0..LARGEST {
            let (message, payload) = match events.recv().await {
                Some(ConsumerEvent::Message(message, payload)) => (message, payload),
                Some(ConsumerEvent::Active(_)) => continue,
                Some(ConsumerEvent::Closed | ConsumerEvent::EndOfTopic) => return Ok(found),
                None => return Err(connection.lost()),
            };
            if let Ok(metadata) = &payload.metadata {
                used += metadata.num_messages_in_batch().max(1) as u32;
                let whole = metadata.chunk_id.is_none_or(|chunk| chunk + 1 == metadata.num_chunks_from_msg());
                let ours = metadata.producer_name == self.name && place(&message.message_id) > place(after);
                if ours && whole && wanted.contains(&metadata.sequence_id) {
                    found.insert(metadata.sequence_id);
                }
            } else {
                used += 1;
            }
            if place(&message.message_id) >= place(&last) || found.len() == wanted.len() {
                break;
            }
            if used >= PERMITS / 2 {
                connection.flow(id, used).await?;
                used = 0;
            }
        }
        Ok(found)
    }
}

fn place(id: &MessageIdData) -> (u64, u64) {
    (id.ledger_id, id.entry_id)
}
