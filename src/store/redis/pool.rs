//! Connections that wait to be used again, those of each process apart. Only clean ones come
//! back: a connection that is owed a reply, or stands in a transaction, is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ClientConfig;

use super::connection::Connection;
use super::handshake::Purpose;
use super::options::{Address, Options};
use crate::call::Call;
use crate::error::Result;
use crate::process_local::ProcessLocal;

pub(super) struct Pool {
    address: Address,
    node: Arc<str>,
    options: Arc<Options>,
    purpose: Purpose,
    tls: Option<Arc<ClientConfig>>,
    idle: ProcessLocal<Mutex<Vec<Connection>>>,
}

impl Pool {
    /// Connections to the node at `address`; `tls` is the TLS configuration of `options`.
    pub(super) fn new(
        address: Address,
        options: Arc<Options>,
        tls: Option<Arc<ClientConfig>>,
        purpose: Purpose,
    ) -> Self {
        let node = address.node().into();
        Pool { address, node, options, purpose, tls, idle: ProcessLocal::new() }
    }

    /// A connection that waited, or else a new one.
    pub(super) fn take(&self, call: &Call<'_>) -> Result<Connection> {
        loop {
            let Some(connection) = self.idle().pop() else { return self.connect(call) };
            match self.options.health_check_interval {
                Some(limit) if connection.idle_time() > limit => drop(connection),
                _ => return Ok(connection),
            }
        }
    }

    /// A new connection.
    pub(super) fn connect(&self, call: &Call<'_>) -> Result<Connection> {
        let tls = self.tls.as_ref();
        Connection::open(&self.address, &self.node, &self.options, tls, self.purpose, call)
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
            if idle.len() < self.options.max_connections {
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
