//! Connections to one node, those of each process apart: as many as are needed at once, up to
//! `max_connections`. Only clean ones are used again: whoever is not given back, because of an
//! error or a panic in the middle of a conversation, is closed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::ClientConfig;

use super::asynchronous::Connections;
use super::connection::Connection;
use super::handshake::Purpose;
use super::options::{Address, Options};
use crate::call::{Call, WAIT_SLICE};
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::ProcessLocal;
use crate::store::ConnectionCount;

/// The connections to one node.
pub(super) struct Pool {
    target: Arc<Target>,
    shared: ProcessLocal<Arc<Shared>>,
    // Asynchronous reads have connections of their own kind.
    asynchronous: ProcessLocal<Arc<Connections>>,
}

/// The node that is connected to, and how.
pub(super) struct Target {
    pub(super) address: Address,
    /// `host:port`, for messages.
    pub(super) node: Arc<str>,
    pub(super) options: Arc<Options>,
    pub(super) purpose: Purpose,
    /// The TLS configuration of `options`.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Default)]
struct State {
    // The one that was used last is used next, so that those that are not needed idle.
    #[expect(clippy::vec_box, reason = "they go in and out at every read, and are large")]
    idle: Vec<Box<Connection>>,
    leased: usize,
    waiting: usize,
}

/// A connection that nobody else has. Dropping it closes the connection.
pub(super) struct Lease {
    pub(super) connection: Box<Connection>,
    place: Place,
}

/// The right to have one connection open. It remembers the process that it was taken in: a
/// connection that crossed a fork never gets into the child's pool.
struct Place {
    shared: Arc<Shared>,
    max_connections: usize,
    is_left: bool,
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
        Pool {
            target: Arc::new(Target { address, node, options, purpose, tls }),
            shared: ProcessLocal::new(),
            asynchronous: ProcessLocal::new(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.target.address
    }

    /// `host:port`, for messages.
    pub(super) fn node(&self) -> &Arc<str> {
        &self.target.node
    }

    pub(super) fn options(&self) -> &Options {
        &self.target.options
    }

    /// The node, for those who connect to it in their own way.
    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The connections for asynchronous reads.
    pub(super) fn asynchronous(&self) -> &Arc<Connections> {
        self.asynchronous.get()
    }

    /// A connection that idles, or else a new one. Where all are in use, waits until one is
    /// given back, but not longer than the pool's timeout.
    pub(super) fn take(&self, call: &Call<'_>) -> Result<Lease> {
        let shared = self.shared.get();
        let mut started = None;
        let mut state = shared.lock();
        while state.idle.is_empty() && state.leased >= self.target.options.max_connections {
            state.waiting += 1;
            let slice = WAIT_SLICE.min(self.target.options.pool_timeout);
            let woken = shared.given_back.wait_timeout(state, slice);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
            drop(state);
            call.check()?;
            let waited = started.get_or_insert_with(Instant::now).elapsed() + slice;
            if waited > self.target.options.pool_timeout {
                return Err(self.exhausted());
            }
            state = shared.lock();
        }
        self.lease(shared, state, call)
    }

    /// The same without waiting, though it be one more than `max_connections`. For those who
    /// hold connections to other nodes already: were they to wait for each other, nobody would
    /// ever go on.
    pub(super) fn take_at_once(&self, call: &Call<'_>) -> Result<Lease> {
        let shared = self.shared.get();
        self.lease(shared, shared.lock(), call)
    }

    fn lease(
        &self,
        shared: &Arc<Shared>,
        mut state: MutexGuard<'_, State>,
        call: &Call<'_>,
    ) -> Result<Lease> {
        let idle = state.idle.pop();
        state.leased += 1;
        drop(state);
        let max_connections = self.target.options.max_connections;
        let place = Place { shared: shared.clone(), max_connections, is_left: false };
        if let Some(mut connection) = idle {
            if connection.is_usable(self.target.options.health_check_interval, call)? {
                return Ok(Lease { connection, place });
            }
            // What happened to one has mostly happened to all.
            self.close_idle();
        }
        let Target { address, node, options, purpose, tls } = self.target.as_ref();
        let connection = Connection::open(address, node, options, tls.as_ref(), *purpose, call)?;
        Ok(Lease { connection: Box::new(connection), place })
    }

    /// Closes the connections that nobody uses: one of their kind was found to be broken.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut self.shared.get().lock().idle);
        drop(idle);
    }

    /// How many connections are open, of both kinds.
    pub(super) fn connections(&self) -> ConnectionCount {
        let blocking = {
            let state = self.shared.get().lock();
            ConnectionCount { in_use: state.leased, idle: state.idle.len() }
        };
        [blocking, self.asynchronous().count(&self.target)].into_iter().sum()
    }

    /// Closes all connections that nobody uses at the moment.
    pub(super) fn close(&self) {
        self.close_idle();
        self.asynchronous().close();
    }

    #[cold]
    fn exhausted(&self) -> Error {
        Error::new(
            ErrorKind::StoreTimeout,
            format!(
                "all {} connections to Redis at {} were in use for {:?}; raise max_connections or \
                 timeout in connection_string, or read from fewer threads",
                self.target.options.max_connections,
                self.target.node,
                self.target.options.pool_timeout
            ),
        )
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked did so outside of what is done here: the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Lets others use the connection if it is clean; else it is closed.
    pub(super) fn give_back(self) {
        let Lease { connection, place } = self;
        if connection.is_clean() {
            place.give_back(connection);
        }
    }
}

impl Place {
    fn give_back(mut self, mut connection: Box<Connection>) {
        connection.rest();
        let mut state = self.shared.lock();
        self.is_left = true;
        state.leased -= 1;
        let surplus = match state.idle.len() + state.leased < self.max_connections {
            true => {
                state.idle.push(connection);
                None
            }
            false => Some(connection),
        };
        if state.waiting > 0 {
            self.shared.given_back.notify_one();
        }
        drop(state);
        drop(surplus);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let mut state = self.shared.lock();
        state.leased -= 1;
        if state.waiting > 0 {
            self.shared.given_back.notify_one();
        }
    }
}
