//! Who waits for what: answers by request id, events by producer and consumer id.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pulsar::message::proto::BaseCommand;
use tokio::sync::{mpsc, oneshot};

use super::{ConsumerEvent, ProducerEvent};

#[derive(Default)]
pub(crate) struct Routes(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    requests: HashMap<u64, oneshot::Sender<BaseCommand>>,
    producers: HashMap<u64, mpsc::Sender<ProducerEvent>>,
    consumers: HashMap<u64, mpsc::Sender<ConsumerEvent>>,
    /// Why the connection is no more. Nothing is added from then on.
    lost: Option<String>,
}

/// The connection is lost: nothing would ever come.
#[derive(Debug)]
pub(crate) struct Lost;

impl Routes {
    /// The entry goes with the returned guard, so that a request given up leaves nothing behind.
    pub(crate) fn add_request(&self, id: u64, answer: oneshot::Sender<BaseCommand>) -> Result<Forget<'_>, Lost> {
        self.open()?.requests.insert(id, answer);
        Ok(Forget { routes: self, id })
    }

    pub(crate) fn add_producer(&self, id: u64, events: mpsc::Sender<ProducerEvent>) -> Result<(), Lost> {
        let mut tables = self.open()?;
        tables.producers.retain(|_, events| !events.is_closed());
        tables.producers.insert(id, events);
        Ok(())
    }

    pub(crate) fn add_consumer(&self, id: u64, events: mpsc::Sender<ConsumerEvent>) -> Result<(), Lost> {
        let mut tables = self.open()?;
        tables.consumers.retain(|_, events| !events.is_closed());
        tables.consumers.insert(id, events);
        Ok(())
    }

    /// An answer that nobody waits for any more is dropped.
    pub(crate) fn answer(&self, id: u64, answer: BaseCommand) {
        if let Some(waiting) = self.lock().requests.remove(&id) {
            let _ = waiting.send(answer);
        }
    }

    pub(crate) fn producer(&self, id: u64) -> Option<mpsc::Sender<ProducerEvent>> {
        self.lock().producers.get(&id).cloned()
    }

    pub(crate) fn consumer(&self, id: u64) -> Option<mpsc::Sender<ConsumerEvent>> {
        self.lock().consumers.get(&id).cloned()
    }

    /// Ends every channel.
    pub(crate) fn fail(&self, reason: String) {
        let mut tables = self.lock();
        tables.lost.get_or_insert(reason);
        let old = Tables { lost: tables.lost.clone(), ..Default::default() };
        drop(std::mem::replace(&mut *tables, old));
    }

    pub(crate) fn lost(&self) -> Option<String> {
        self.lock().lost.clone()
    }

    fn open(&self) -> Result<MutexGuard<'_, Tables>, Lost> {
        let tables = self.lock();
        if tables.lost.is_some() { Err(Lost) } else { Ok(tables) }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // No change above can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Forget<'a> {
    routes: &'a Routes,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.routes.lock().requests.remove(&self.id);
    }
}
