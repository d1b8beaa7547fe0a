//! The task of a lane: it alone touches the producer.

use std::{collections::VecDeque, pin::Pin};

use pulsar::message::proto::{CommandSendError, CommandSendReceipt, MessageIdData};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep, timeout},
};
use trestle_core::{Fault, FaultKind, Outcome, Slice, Why};

use super::{
    Done, Job,
    encode::Plan,
    flight::{Flight, OutOfOrder, Part, Rest, Send},
    opening::{ANSWER_TIMEOUT, LaneSpec, OPEN_TIMEOUT, Producer},
    repeats::Repeats,
};
use crate::{
    classify,
    connection::ProducerEvent,
    frame::Encoded,
    schema::{Restored, unregistered},
};

pub(super) struct Task {
    spec: LaneSpec,
    jobs: mpsc::Receiver<Job>,
    /// The owner is gone: what is in flight is the last.
    closing: bool,
    producer: Option<Producer>,
    /// How often a producer was opened.
    epoch: u64,
    /// What the broker gave a fenced lane when it took the topic over.
    topic_epoch: Option<u64>,
    next_sequence: u64,
    flight: Flight,
    /// Frames that wait for room in the connection's queue, with their sequence ids.
    unwritten: VecDeque<(u64, Encoded)>,
    /// Something of the lane was not stored this often.
    failures: u64,
    repeats: Repeats,
    schemas: Restored,
    /// How often the end of the topic could not be read since it was to be.
    looks: u32,
    /// The entry of the last receipt.
    last_stored: Option<MessageIdData>,
    /// When the oldest frame in flight became the oldest.
    waiting_since: Instant,
    due: Pin<Box<Sleep>>,
}

/// Openings that fail because the end of the topic cannot be read, before what may be there is sent again.
const LOOKS: u32 = 5;
const DOWN: FaultKind = FaultKind::Unavailable(Why::Down);

enum Step {
    Job(Option<Job>),
    Event(Option<ProducerEvent>),
    Written(u64),
    Lost,
    Due,
}

impl Task {
    /// Opens the lane's first producer.
    pub async fn open(spec: LaneSpec, jobs: mpsc::Receiver<Job>) -> Result<Task, Fault> {
        let mut task = Task {
            due: Box::pin(sleep(spec.send_timeout)),
            schemas: Restored::new(spec.restore_schemas),
            spec,
            jobs,
            closing: false,
            producer: None,
            epoch: 0,
            topic_epoch: None,
            next_sequence: 0,
            flight: Flight::default(),
            unwritten: VecDeque::new(),
            failures: 0,
            repeats: Repeats::default(),
            looks: 0,
            last_stored: None,
            waiting_since: Instant::now(),
        };
        task.reopen().await?;
        Ok(task)
    }

    pub async fn run(mut self) {
        while !(self.closing && self.flight.is_empty()) {
            match self.next().await {
                Step::Job(Some(job)) => self.take(job).await,
                Step::Job(None) => self.closing = true,
                Step::Event(event) => self.event(event).await,
                Step::Written(sequence) => self.flight.written(sequence),
                Step::Lost => self.give_up(self.lost()).await,
                Step::Due => self.due().await,
            }
            self.answer_finished();
        }
        if let Some(producer) = self.producer.take() {
            producer.close().await;
        }
    }

    async fn next(&mut self) -> Step {
        let Some(producer) = &mut self.producer else {
            return Step::Job(self.jobs.recv().await);
        };
        tokio::select! {
            biased;
            event = producer.events.recv() => Step::Event(event),
            room = producer.connection.room(), if !self.unwritten.is_empty() => match (room, self.unwritten.pop_front()) {
                (Ok(room), Some((sequence, frame))) => {
                    room.send(frame);
                    Step::Written(sequence)
                }
                _ => Step::Lost,
            },
            () = &mut self.due, if !self.flight.is_empty() => Step::Due,
            job = self.jobs.recv(), if !self.closing && self.unwritten.is_empty() => Step::Job(job),
        }
    }

    async fn take(&mut self, Job { unit, told, done }: Job) {
        let messages = unit.iter().map(Slice::len).sum();
        let mut send = Send { unit, done, messages, skipped: 0, parts: VecDeque::new(), rest: Rest::None };
        if told < self.failures {
            // Made before its owner knew that one before it failed.
            send.rest = Rest::NotSent;
        } else if let Err(fault) = self.reopen().await {
            self.failures += 1;
            send.rest = Rest::AllRefused(fault);
        } else if let Some(producer) = &self.producer {
            let all = || send.unit.iter().flat_map(Slice::iter);
            let (connection, topic) = (&producer.connection, &self.spec.topic);
            if let Err(error) = self.schemas.register(connection, topic, all()).await {
                self.failures += 1;
                send.rest = Rest::AllRefused(unregistered(topic, &error));
            } else {
                send.skipped = self.repeats.skip(&send.unit);
                let fresh: Vec<_> = all().skip(send.skipped).collect();
                let fresh = fresh.into_iter();
                let Plan { parts, refused } = producer.encoder.plan(&mut self.next_sequence, fresh, &self.schemas);
                for part in parts {
                    let (sequence, messages, waiting) = (part.sequence, part.messages, part.frames.len());
                    send.parts.push_back(Part { sequence, messages, waiting, written: false, fate: None });
                    self.unwritten.extend(part.frames.into_iter().map(|frame| (sequence, frame)));
                }
                if let Some(fault) = refused {
                    self.failures += 1;
                    send.rest = Rest::Refused(fault);
                }
            }
        }
        if self.flight.is_empty() {
            self.wait_anew();
        }
        self.flight.push(send);
    }

    /// Opens a producer if there is none, and finds out what of the last one's sends was stored.
    async fn reopen(&mut self) -> Result<(), Fault> {
        if let Some(lost) = self.producer.take_if(|producer| producer.connection.is_lost()) {
            lost.forget();
        }
        if self.producer.is_some() {
            return Ok(());
        }
        self.epoch += 1;
        let opening = async {
            let opened = self.spec.open(self.epoch, self.topic_epoch).await?;
            let wanted = self.repeats.wanted();
            if let (false, Some(after)) = (wanted.is_empty(), &self.last_stored) {
                match self.spec.stored_behind(after, &wanted).await {
                    Ok(found) => {
                        let stored = self.repeats.found(&found);
                        tracing::info!(topic = self.spec.topic, stored, "messages of unknown fate found in the topic");
                    }
                    Err(fault) if fault.kind == DOWN && self.looks < LOOKS => {
                        self.looks += 1;
                        return Err(fault);
                    }
                    // They are sent again, which is all that was promised.
                    Err(fault) => {
                        tracing::warn!(topic = self.spec.topic, "what was stored last cannot be told: {fault}");
                        self.repeats = Repeats::default();
                    }
                }
            } else {
                self.repeats = Repeats::default();
            }
            self.looks = 0;
            Ok(opened)
        };
        let opened = timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
            let (topic, cluster) = (&self.spec.topic, &self.spec.cluster.name);
            Err(Fault::down(format!(
                "opening a producer on {topic} of cluster {cluster}: not done in {OPEN_TIMEOUT:?}"
            )))
        })?;
        self.topic_epoch = opened.topic_epoch.or(self.topic_epoch);
        // The broker would drop what it takes for a repeat, and say that it stored it.
        self.next_sequence = self.next_sequence.max(u64::try_from(opened.last_sequence + 1).unwrap_or(0));
        self.producer = Some(opened.producer);
        tracing::debug!(topic = self.spec.topic, epoch = self.epoch, topic_epoch = self.topic_epoch, "producer opened");
        Ok(())
    }

    async fn event(&mut self, event: Option<ProducerEvent>) {
        match event {
            Some(ProducerEvent::Receipt(receipt)) => {
                if let Err(fault) = self.receipt(receipt) {
                    self.give_up(fault).await;
                }
            }
            Some(ProducerEvent::Error(error)) => {
                let fault = self.refused(error);
                self.close_and_give_up(fault).await;
            }
            Some(ProducerEvent::Closed) => {
                let fault =
                    Fault::down(format!("the broker closed the producer on {}: the topic moves", self.spec.topic));
                self.give_up(fault).await;
            }
            None => self.give_up(self.lost()).await,
        }
    }

    fn receipt(&mut self, receipt: CommandSendReceipt) -> Result<(), Fault> {
        let stored = receipt.message_id.filter(|id| id.ledger_id <= i64::MAX as u64);
        let Some(stored) = stored else {
            let (topic, sequence) = (&self.spec.topic, receipt.sequence_id);
            return Err(Fault::down(format!(
                "{topic}: the broker took sequence id {sequence} for a repeat and dropped it"
            )));
        };
        self.flight.receipt(receipt.sequence_id).map_err(|e| self.out_of_order(receipt.sequence_id, &e))?;
        self.last_stored = Some(stored);
        self.wait_anew();
        Ok(())
    }

    /// Notes what a SEND_ERROR says, and makes it the fault for what can no longer be known.
    fn refused(&mut self, error: CommandSendError) -> Fault {
        let sequence = error.sequence_id;
        let messages = match self.flight.messages(sequence) {
            Ok(messages) => messages,
            Err(e) => return self.out_of_order(sequence, &e),
        };
        let detail =
            format!("{}: the broker answered a send with {:?}: {}", self.spec.topic, error.error(), error.message);
        let (fate, fault) = match classify::send_refused(error.error(), &error.message, detail, messages) {
            Ok(fault) => (Outcome::Refused(fault.clone()), fault),
            Err(fault) => (Outcome::Unknown(fault.clone()), fault),
        };
        if let Err(e) = self.flight.end(sequence, fate) {
            return self.out_of_order(sequence, &e);
        }
        // Those behind it failed because the producer is closed, and for no reason of their own.
        Fault::down(fault.detail)
    }

    fn out_of_order(&self, sequence: u64, OutOfOrder { expected }: &OutOfOrder) -> Fault {
        Fault::down(format!("{}: an answer to sequence id {sequence} instead of {expected:?}", self.spec.topic))
    }

    fn lost(&self) -> Fault {
        let what = format!("sending to {} of cluster {}", self.spec.topic, self.spec.cluster.name);
        match &self.producer {
            Some(producer) => classify::fault(what, &producer.connection.lost()),
            None => Fault::down(format!("{what}: no producer")),
        }
    }

    async fn due(&mut self) {
        let deadline = self.waiting_since + self.spec.send_timeout;
        if Instant::now() < deadline {
            return self.due.as_mut().reset(deadline);
        }
        let topic = &self.spec.topic;
        let fault = Fault::timeout(format!("{topic}: a send was not confirmed in {:?}", self.spec.send_timeout));
        self.close_and_give_up(fault).await;
    }

    fn wait_anew(&mut self) {
        self.waiting_since = Instant::now();
        if self.due.is_elapsed() {
            self.due.as_mut().reset(self.waiting_since + self.spec.send_timeout);
        }
    }

    /// Closes the producer at the broker, which tells the fate of what it has, then gives up the rest.
    async fn close_and_give_up(&mut self, fault: Fault) {
        self.unwritten.clear();
        let Some(mut producer) = self.producer.take() else { return self.give_up(fault).await };
        // The queue is written in order: with an answer, nothing of ours is left in it.
        if !producer.connection.answers(ANSWER_TIMEOUT).await {
            producer.connection.abort();
            producer.forget();
            return self.give_up(fault).await;
        }
        let connection = producer.connection.clone();
        let mut closed = std::pin::pin!(connection.close_producer(producer.id, ANSWER_TIMEOUT));
        loop {
            tokio::select! {
                biased;
                event = producer.events.recv() => match event {
                    Some(ProducerEvent::Receipt(receipt)) => _ = self.receipt(receipt),
                    Some(ProducerEvent::Error(error)) => _ = self.refused(error),
                    Some(ProducerEvent::Closed) => {}
                    None => break,
                },
                _ = &mut closed => break,
            }
        }
        producer.forget();
        self.give_up(fault).await;
    }

    /// Answers everything in flight and drops the producer.
    async fn give_up(&mut self, fault: Fault) {
        if let Some(producer) = self.producer.take() {
            // Gone already, or not to be believed any more: its answer would change nothing.
            producer.close().await;
        }
        self.unwritten.clear();
        let in_flight = self.flight.len();
        let unresolved = self.flight.give_up(&fault);
        if in_flight > 0 {
            self.failures += 1;
            tracing::warn!(topic = self.spec.topic, in_flight, unknown = unresolved.len(), "sends given up: {fault}");
        }
        self.repeats.unresolved(unresolved);
    }

    fn answer_finished(&mut self) {
        while let Some(mut send) = self.flight.finished() {
            let told = if send.is_stored() { 0 } else { self.failures };
            let sent = send.sent();
            // What was sent is free before its owner hears of it.
            drop(send.unit);
            // The owner may be gone; then nobody asks.
            let _ = send.done.send(Done { sent, told });
        }
    }
}
