//! Connections that wait to be used again, those of each process apart. Only clean ones come
//! back: a connection that is owed a reply, or stands in a transaction, is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConfig;

use super::connection::Connection;
use super::options::Options;
use super::tls;
use crate::call::Call;
use crate::error::Result;
use crate::process_local::ProcessLocal;

pub(super) struct Pool {
    options: Options,
    node: Arc<str>,
    tls: Option<Arc<ClientConfig>>,
    idle: ProcessLocal<Mutex<Vec<Connection>>>,
}

impl Pool {
    pub(super) fn new(options: Options) -> Result<Self> {
        let tls = options.tls.as_ref().map(tls::client_config).transpose()?;
        let node = options.address.node().into();
        Ok(Pool { options, node, tls, idle: ProcessLocal::new() })
    }

    /// A connection that waited, or else a new one.
    pub(super) fn take(&self, call: &Call<'_>) -> Result<Connection> {
        loop {
            let Some(connection) = self.idle().pop() else { return self.connect(call) };
            match self.options.max_idle_time {
                Some(limit) if connection.idle_time() > limit => drop(connection),
                _ => return Ok(connection),
            }
        }
    }

    /// A new connection.
    pub(super) fn connect(&self, call: &Call<'_>) -> Result<Connection> {
        Connection::open(&self.options, &self.node, self.tls.as_ref(), call)
    }

    /// Runs `work` on `connection` and keeps the connection if it is clean afterwards. An
    /// error or a panic in the middle of a conversation closes it.
    pub(super) fn run<T>(
        &self,
        mut connection: Connection,
        work: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        let outcome = work(&mut connection);
        if connection.is_clean() {
            connection.rest();
            let mut idle = self.idle();
            if idle.len() < self.options.max_idle {
                idle.push(connection);
            }
        }
        outcome
    }

    /// Whether a read that got no answer in time is tried once more.
    pub(super) fn retries_timeouts(&self) -> bool {
        self.options.retry_on_timeout
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Whoever panicked did so outside of push and pop: the list is whole.
        self.idle.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}
