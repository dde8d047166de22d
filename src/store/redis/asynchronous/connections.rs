//! The connections of one process to one server: one that small reads share, and a bounded
//! number that large reads have each for its own time, so that nobody waits behind them.
//!
//! The server does one command after the other, and all that came over one connection before it
//! turns to the next. So large reads ask for little at a time, and all of them together have but
//! a few such questions under way: a small read waits for those at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::codec::CommandBuffer;
use super::super::pool::Target;
use super::connection::{Coming, Connection};
use super::failure::Failure;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use crate::store::ConnectionCount;

/// Large reads at one time; a server works on one command after the other anyway.
const OWN: usize = 8;
/// Reads of more keys take a connection for themselves,
const SHARED_KEYS: usize = 256;
/// and so do those for which the server has to look through more fields.
const SHARED_FIELDS: usize = 8192;
/// Questions of large reads under way at one time: enough to keep the server busy while answers
/// travel.
const LARGE_QUESTIONS: usize = 4;

pub(in super::super) struct Connections {
    shared: Mutex<Option<Arc<Connection>>>,
    idle: Mutex<Vec<Arc<Connection>>>,
    turns: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

impl Default for Connections {
    fn default() -> Self {
        Connections {
            shared: Mutex::new(None),
            idle: Mutex::new(Vec::new()),
            turns: Arc::new(Semaphore::new(OWN)),
            questions: Arc::new(Semaphore::new(LARGE_QUESTIONS)),
        }
    }
}

impl Connections {
    /// A connection for a read of so many keys, whose hashes have so many fields together: for a
    /// large one, when it is its turn, one of its own.
    pub(in super::super) async fn line(
        self: &Arc<Self>,
        target: &Arc<Target>,
        key_count: usize,
        field_count: usize,
    ) -> Result<Line> {
        match key_count <= SHARED_KEYS && field_count <= SHARED_FIELDS {
            true => self.line_at_once(target),
            false => Ok(Line::Own(self.own(target).await?)),
        }
    }

    /// A connection for a read that can't wait for its turn.
    pub(in super::super) fn line_at_once(&self, target: &Arc<Target>) -> Result<Line> {
        Ok(Line::Shared(self.shared(target)?))
    }

    /// The connection that everybody shares, begun anew if there is none that works.
    fn shared(&self, target: &Arc<Target>) -> Result<Arc<Connection>> {
        let mut shared = lock(&self.shared);
        if let Some(connection) = shared.as_ref().filter(|connection| connection.is_usable(target))
        {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(target, runtime::handle()?));
        *shared = Some(connection.clone());
        Ok(connection)
    }

    async fn own(self: &Arc<Self>, target: &Arc<Target>) -> Result<Own> {
        let turn = acquire(&self.turns).await?;
        let connection = match self.usable_idle(target) {
            Some(connection) => connection,
            // With the read whose own it is, small ones don't wait for what comes over it.
            None => Arc::new(Connection::open(target, runtime::handle_here()?)),
        };
        Ok(Own { connection, connections: self.clone(), _turn: turn })
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

    /// How many are open.
    pub(in super::super) fn count(&self, target: &Target) -> ConnectionCount {
        let is_usable = |connection: &&Arc<Connection>| connection.is_usable(target);
        let shared = lock(&self.shared).iter().filter(is_usable).count();
        let own = OWN.saturating_sub(self.turns.available_permits());
        ConnectionCount { in_use: shared + own, idle: lock(&self.idle).len() }
    }

    /// Closes those that nobody uses at the moment; the others close when they are done with.
    pub(in super::super) fn close(&self) {
        lock(&self.shared).take();
        lock(&self.idle).clear();
    }
}

/// A connection for one read, for as long as that takes.
pub(in super::super) enum Line {
    Shared(Arc<Connection>),
    Own(Own),
}

impl Line {
    /// Sends `commands` behind what was sent before.
    pub(in super::super) fn send(
        &self,
        commands: &CommandBuffer,
    ) -> std::result::Result<Coming, Failure> {
        match self {
            Line::Shared(connection) | Line::Own(Own { connection, .. }) => {
                connection.send(commands)
            }
        }
    }

    /// Whether it is that of a large read.
    pub(in super::super) fn is_own(&self) -> bool {
        matches!(self, Line::Own(_))
    }

    /// A turn to ask something, to be held until the answer has come; `None`: it is not this
    /// read's turn now. Small reads need not wait for theirs, and large ones do only if they
    /// `may_wait`: one that has questions under way must look after their answers.
    pub(in super::super) async fn turn(&self, may_wait: bool) -> Result<Option<Turn>> {
        let Line::Own(own) = self else { return Ok(Some(Turn(None))) };
        let questions = &own.connections.questions;
        let turn = match may_wait {
            true => Some(acquire(questions).await?),
            false => questions.clone().try_acquire_owned().ok(),
        };
        Ok(turn.map(|turn| Turn(Some(turn))))
    }

    /// Lets others have the connection; nothing of this read's may be under way on it.
    pub(in super::super) fn give_back(self) {
        if let Line::Own(own) = self {
            lock(&own.connections.idle).push(own.connection);
        }
    }
}

/// A question under way.
pub(in super::super) struct Turn(
    #[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>,
);

/// A connection that nobody else uses. Dropped in the middle of a read, it is closed.
pub(in super::super) struct Own {
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    _turn: OwnedSemaphorePermit,
}

async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    semaphore.clone().acquire_owned().await.map_err(|source| {
        // The semaphores are never closed.
        Error::new(ErrorKind::Internal, "connections are closed").with_source(source)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked did so outside of moves of pointers: the state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
