use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::Notify, time::Instant};

use super::{
    CallError, Credentials,
    connection::Connection,
    frame::{Answer, Request},
};

pub use super::connection::Abandoned;

/// One connection an address, opened when first needed and again when lost: at once, with no breaker in between. Whoever
/// retries does it at a pace of his own.
pub struct Pool {
    credentials: Option<Credentials>,
    connections: Mutex<HashMap<String, Opening>>,
    /// Notified when a broker says that a group's members have changed.
    pub members_changed: Arc<Notify>,
}

/// Shared, so that callers who need a connection at the same time open one together.
type Opening = Shared<BoxFuture<'static, Result<Arc<Connection>, CallError>>>;

impl Pool {
    pub fn new(credentials: Option<Credentials>) -> Self {
        Pool { credentials, connections: Mutex::default(), members_changed: Arc::default() }
    }

    /// Asks the server at `address`, and waits no longer than `limit` in all.
    pub async fn call(
        &self,
        address: &str,
        mut request: Request,
        limit: Duration,
        abandoned: Abandoned,
    ) -> Result<Answer, CallError> {
        let deadline = Instant::now() + limit;
        if let Some(credentials) = &self.credentials {
            credentials.sign(&mut request);
        }
        let opening = self.connection(address, limit);
        let connection = match tokio::time::timeout_at(deadline, opening).await {
            Ok(connection) => connection?,
            Err(_) => return Err(CallError::NotSent(format!("cannot connect to {address} in {limit:?}"))),
        };
        connection.call(&request, deadline, abandoned).await
    }

    fn connection(&self, address: &str, limit: Duration) -> Opening {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opening) = connections.get(address) {
            match opening.peek() {
                Some(Ok(connection)) if connection.is_closed() => {}
                Some(Err(_)) => {}
                _ => return opening.clone(),
            }
        }
        let (owned, members_changed) = (address.to_owned(), self.members_changed.clone());
        let opening = async move { Connection::open(&owned, limit, members_changed).await.map(Arc::new) };
        let opening = opening.boxed().shared();
        connections.insert(address.to_owned(), opening.clone());
        opening
    }
}
