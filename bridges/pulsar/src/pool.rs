//! Connections of one cluster, shared by those who use them alike.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::Shared};
use trestle_core::BoxFuture;

use crate::{
    access::Access,
    connection::{Connection, RequestError, WeakConnection},
    url::BrokerUrl,
};

/// A broker, as a lookup found it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Broker {
    pub url: BrokerUrl,
    /// `host:port` of the broker when `url` is a proxy in front of it.
    pub proxy_to: Option<String>,
}

/// What a connection is for. Producers and consumers never share one: a broker that throttles a producer stops reading
/// its connection, and with it acknowledgements and permits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Use {
    /// Lookups and other questions; kept open.
    Ask,
    Produce,
    /// Short questions beside a lane: a probe, a look at the end of a topic. Given up as soon as it does not answer.
    Probe,
    Consume(u64),
}

type Opening = Shared<BoxFuture<'static, Result<Connection, RequestError>>>;

enum Slot {
    Opening(Opening),
    /// Lives as long as somebody uses it.
    Open(WeakConnection),
    Kept(Connection),
}

pub(crate) struct Pool {
    access: Access,
    slots: Mutex<HashMap<(Broker, Use), Slot>>,
}

impl Pool {
    pub fn new(access: Access) -> Pool {
        Pool { access, slots: Mutex::default() }
    }

    /// The living connection to this broker for this use, opened if there is none; those who ask at once share it.
    pub async fn get(&self, broker: &Broker, purpose: Use) -> Result<Connection, RequestError> {
        let key = (broker.clone(), purpose);
        let opening = match self.find(&key) {
            Ok(open) => return Ok(open),
            Err(opening) => opening,
        };
        let opened = opening.clone().await;
        let mut slots = self.lock();
        // Only ours is replaced: another may have been begun since.
        if matches!(slots.get(&key), Some(Slot::Opening(now)) if now.ptr_eq(&opening)) {
            match &opened {
                Ok(open) if purpose == Use::Ask => drop(slots.insert(key, Slot::Kept(open.clone()))),
                Ok(open) => drop(slots.insert(key, Slot::Open(open.downgrade()))),
                Err(_) => drop(slots.remove(&key)),
            }
        }
        opened
    }

    fn find(&self, key: &(Broker, Use)) -> Result<Connection, Opening> {
        let mut slots = self.lock();
        match slots.get(key) {
            Some(Slot::Opening(opening)) => return Err(opening.clone()),
            Some(Slot::Open(weak)) => {
                if let Some(open) = weak.upgrade().filter(|open| !open.is_lost()) {
                    return Ok(open);
                }
            }
            Some(Slot::Kept(open)) if !open.is_lost() => return Ok(open.clone()),
            Some(Slot::Kept(_)) | None => {}
        }
        // What nobody uses any more goes now and then, and not the table's memory with the number of brokers ever seen.
        slots.retain(|_, slot| !matches!(slot, Slot::Open(weak) if weak.upgrade().is_none()));
        let (broker, access) = (key.0.clone(), self.access.clone());
        let opening = async move { Connection::open(&broker.url, broker.proxy_to, access).await }.boxed().shared();
        slots.insert(key.clone(), Slot::Opening(opening.clone()));
        Err(opening)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Broker, Use), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
