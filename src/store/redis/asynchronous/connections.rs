//! The connections of one process to one server: one that small reads share, and a bounded
//! number that large reads have each for its own time, so that nobody waits behind them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::super::pool::Target;
use super::connection::Connection;
use crate::error::{Error, ErrorKind, Result};

/// Large reads at one time; a server works on one command after the other anyway.
const OWN: usize = 8;

pub(in super::super) struct Connections {
    shared: Mutex<Option<Arc<Connection>>>,
    idle: Mutex<Vec<Arc<Connection>>>,
    turns: Semaphore,
}

impl Default for Connections {
    fn default() -> Self {
        Connections {
            shared: Mutex::new(None),
            idle: Mutex::new(Vec::new()),
            turns: Semaphore::new(OWN),
        }
    }
}

impl Connections {
    /// The connection that everybody shares, begun anew if there is none that works.
    pub(super) fn shared(&self, target: &Arc<Target>) -> Result<Arc<Connection>> {
        let mut shared = lock(&self.shared);
        if let Some(connection) = shared.as_ref().filter(|connection| connection.is_usable(target))
        {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(target)?);
        *shared = Some(connection.clone());
        Ok(connection)
    }

    /// A connection for the caller alone, when it is its turn.
    pub(super) async fn own(&self, target: &Arc<Target>) -> Result<Own<'_>> {
        let turn = self.turns.acquire().await.map_err(|source| {
            // The semaphore is never closed.
            Error::new(ErrorKind::Internal, "connections are closed").with_source(source)
        })?;
        let connection = match self.usable_idle(target) {
            Some(connection) => connection,
            None => Arc::new(Connection::open(target)?),
        };
        Ok(Own { connection, connections: self, _turn: turn })
    }

    fn usable_idle(&self, target: &Target) -> Option<Arc<Connection>> {
        let mut idle = lock(&self.idle);
        idle.retain(|connection| connection.is_usable(target));
        idle.pop()
    }

    /// Begins to connect if nothing is connected yet.
    pub(in super::super) fn open(&self, target: &Arc<Target>) -> Result<()> {
        self.shared(target).map(drop)
    }

    /// Closes those that nobody uses at the moment; the others close when they are done with.
    pub(in super::super) fn close(&self) {
        lock(&self.shared).take();
        lock(&self.idle).clear();
    }
}

/// A connection that nobody else uses. Dropped in the middle of a read, it is closed.
pub(super) struct Own<'a> {
    pub(super) connection: Arc<Connection>,
    connections: &'a Connections,
    _turn: SemaphorePermit<'a>,
}

impl Own<'_> {
    /// Keeps the connection for the next; nothing may be under way on it.
    pub(super) fn give_back(self) {
        lock(&self.connections.idle).push(self.connection.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked did so outside of moves of pointers: the state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
