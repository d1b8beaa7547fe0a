//! The two tasks of a connection: one reads and hands out, one writes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pulsar::message::proto::{BaseCommand, CommandPing, CommandPong, base_command::Type};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    ConsumerEvent, PING_EVERY, ProducerEvent, Reader, Shared, Stop, WRITE_QUEUE_FRAMES, Writer, auth_response, command,
    read_frame,
};
use crate::frame::{self, Encoded, Frame};

/// Reads until the connection ends, for whatever reason, and then ends it for everyone.
pub(super) async fn read(
    mut reader: Reader,
    mut buffer: BytesMut,
    limit: usize,
    mut stop: watch::Receiver<Stop>,
    mut task: Task,
) {
    let shared = task.shared.clone();
    let reason = tokio::select! {
        reason = read_all(&mut reader, &mut buffer, limit, &shared) => reason,
        () = stopped(&mut stop, Stop::Gently) => "the connection is closed".into(),
    };
    task.ended = true;
    tracing::debug!(address = shared.address, reason, "connection ended");
    // A gentle stop lets the writer finish; `fail` would cut it short.
    if *stop.borrow() == Stop::Gently {
        shared.routes.fail(reason);
    } else {
        shared.fail(reason);
    }
}

async fn read_all(reader: &mut Reader, buffer: &mut BytesMut, limit: usize, shared: &Shared) -> String {
    let mut pinged = false;
    loop {
        // Only waiting for the broker counts as silence, not waiting for a consumer to take its messages.
        let frame = match timeout(PING_EVERY, read_frame(reader, buffer, limit)).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return "the broker closed the connection".into(),
            Ok(Err(reason)) => return reason,
            Err(_) if pinged => return format!("nothing was heard of the broker for {:?}", PING_EVERY * 2),
            Err(_) => {
                pinged = true;
                // With a full queue there is something on its way already that the broker would have to answer.
                let ping = BaseCommand { ping: Some(CommandPing {}), ..command(Type::Ping) };
                let _ = shared.writes.try_send(frame::encode(&ping));
                continue;
            }
        };
        pinged = false;
        if let Err(reason) = hand_out(frame, shared).await {
            return reason;
        }
    }
}

async fn hand_out(Frame { command: mut it, payload }: Frame, shared: &Shared) -> Result<(), String> {
    let routes = &shared.routes;
    if let (Some(message), Some(payload)) = (it.message.take(), payload) {
        if let Some(consumer) = routes.consumer(message.consumer_id) {
            // An error says that the consumer was dropped.
            let _ = consumer.send(ConsumerEvent::Message(message, payload)).await;
        }
    } else if let Some(receipt) = it.send_receipt.take() {
        to_producer(shared, receipt.producer_id, ProducerEvent::Receipt(receipt))?;
    } else if let Some(error) = it.send_error.take() {
        to_producer(shared, error.producer_id, ProducerEvent::Error(error))?;
    } else if let Some(close) = it.close_producer {
        to_producer(shared, close.producer_id, ProducerEvent::Closed)?;
    } else if let Some(close) = it.close_consumer {
        to_consumer(shared, close.consumer_id, ConsumerEvent::Closed).await;
    } else if let Some(change) = it.active_consumer_change {
        to_consumer(shared, change.consumer_id, ConsumerEvent::Active(change.is_active())).await;
    } else if let Some(end) = it.reached_end_of_topic {
        to_consumer(shared, end.consumer_id, ConsumerEvent::EndOfTopic).await;
    } else if it.ping.is_some() {
        // With a full queue the broker hears of us anyway.
        let pong = BaseCommand { pong: Some(CommandPong {}), ..command(Type::Pong) };
        let _ = shared.writes.try_send(frame::encode(&pong));
    } else if it.auth_challenge.is_some() {
        let response = auth_response(&shared.access).await?;
        shared.writes.send(response).await.map_err(|_| "the connection is closed".to_string())?;
    } else if let Some(id) = request_id(&it) {
        routes.answer(id, it);
    } else if it.pong.is_some() {
        shared.pongs.send_modify(|pongs| *pongs += 1);
    } else {
        tracing::debug!(address = shared.address, r#type = ?it.r#type(), "a command that is not for us");
    }
    Ok(())
}

/// Never waits: a lane may be waiting for room in the write queue just then, and the broker for us to read.
fn to_producer(shared: &Shared, id: u64, event: ProducerEvent) -> Result<(), String> {
    match shared.routes.producer(id).map(|events| events.try_send(event)) {
        Some(Err(mpsc::error::TrySendError::Full(event))) => Err(format!("more receipts than sends: {event:?}")),
        _ => Ok(()),
    }
}

async fn to_consumer(shared: &Shared, id: u64, event: ConsumerEvent) {
    if let Some(consumer) = shared.routes.consumer(id) {
        let _ = consumer.send(event).await;
    }
}

fn request_id(it: &BaseCommand) -> Option<u64> {
    None.or(it.success.as_ref().map(|r| r.request_id))
        .or(it.error.as_ref().map(|r| r.request_id))
        .or(it.producer_success.as_ref().map(|r| r.request_id))
        .or(it.lookup_topic_response.as_ref().map(|r| r.request_id))
        .or(it.partition_metadata_response.as_ref().map(|r| r.request_id))
        .or(it.get_last_message_id_response.as_ref().map(|r| r.request_id))
        .or(it.ack_response.as_ref().and_then(|r| r.request_id))
        .or(it.consumer_stats_response.as_ref().map(|r| r.request_id))
        .or(it.get_topics_of_namespace_response.as_ref().map(|r| r.request_id))
        .or(it.get_schema_response.as_ref().map(|r| r.request_id))
        .or(it.get_or_create_schema_response.as_ref().map(|r| r.request_id))
}

/// Goes with a task. One that ends in any other way than by coming to its end (a panic, a runtime that is no more) ends the
/// connection: whoever uses it would wait for ever, and nobody would open another.
pub(super) struct Task {
    shared: Arc<Shared>,
    ended: bool,
}

impl Task {
    pub(super) fn of(shared: &Arc<Shared>) -> Task {
        Task { shared: shared.clone(), ended: false }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.fail("a task of the connection died".into());
        }
    }
}

/// Resolves at a stop at least as hard as `least`.
async fn stopped(stop: &mut watch::Receiver<Stop>, least: Stop) {
    // The sender lives in `Shared`, which the caller holds.
    let _ = stop.wait_for(|stop| *stop >= least).await;
}

/// Small frames are gathered up to this size before they are written.
const GATHER_BYTES: usize = 64 * 1024;

/// Writes what is queued until the connection ends.
pub(super) async fn write(
    mut writer: Writer,
    mut queue: mpsc::Receiver<Encoded>,
    mut stop: watch::Receiver<Stop>,
    mut task: Task,
) {
    let shared = task.shared.clone();
    let mut stop_now = stop.clone();
    let end = tokio::select! {
        written = write_all(&mut writer, &mut queue, &mut stop) => written,
        () = stopped(&mut stop_now, Stop::Now) => Ok(()),
    };
    task.ended = true;
    queue.close();
    if let Err(e) = end {
        shared.fail(format!("write: {e}"));
    }
}

async fn write_all(
    writer: &mut Writer,
    queue: &mut mpsc::Receiver<Encoded>,
    stop: &mut watch::Receiver<Stop>,
) -> std::io::Result<()> {
    let mut frames = Vec::with_capacity(WRITE_QUEUE_FRAMES);
    loop {
        tokio::select! {
            biased;
            _ = queue.recv_many(&mut frames, WRITE_QUEUE_FRAMES) => {}
            () = stopped(stop, Stop::Gently) => {
                // Nothing is queued: whatever was told before the stop has been written.
                return writer.shutdown().await;
            }
        }
        write_frames(writer, &mut frames).await?;
        writer.flush().await?;
    }
}

async fn write_frames(writer: &mut Writer, frames: &mut Vec<Encoded>) -> std::io::Result<()> {
    let mut small = BytesMut::new();
    for Encoded { head, body } in frames.drain(..) {
        small.extend_from_slice(&head);
        if small.len() + body.len() <= GATHER_BYTES {
            small.extend_from_slice(&body);
        } else {
            write_both(writer, small.split().freeze(), body).await?;
        }
    }
    writer.write_all(&small).await
}

async fn write_both(writer: &mut Writer, mut head: Bytes, body: Bytes) -> std::io::Result<()> {
    writer.write_all_buf(&mut head).await?;
    writer.write_all(&body).await
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, runtime::Runtime};

    use super::*;
    use crate::{access::Access, connection::Connection, settings::Settings, url::BrokerUrl};

    /// A broker that says CONNECTED and nothing else.
    async fn connect() -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("pulsar://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let connected = pulsar::message::proto::CommandConnected::default();
            let hello = BaseCommand { connected: Some(connected), ..command(Type::Connected) };
            client.write_all(&frame::encode(&hello).head).await.unwrap();
            std::future::pending::<()>().await;
        });
        let settings: Settings = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
        let broker = BrokerUrl::parse_all(&url).unwrap().remove(0);
        Connection::open(&broker, None, Access::new(&settings).unwrap()).await.unwrap()
    }

    #[test]
    fn a_connection_whose_tasks_died_is_lost_and_ends_what_waits_for_it() {
        let runtime = Runtime::new().unwrap();
        let connection = runtime.block_on(connect());
        let mut events = connection.consumer(1, 1).unwrap();
        assert!(!connection.is_lost());
        drop(runtime);
        assert!(connection.is_lost());
        assert!(events.blocking_recv().is_none());
        assert!(connection.lost().to_string().contains("died"), "{}", connection.lost());
    }
}
