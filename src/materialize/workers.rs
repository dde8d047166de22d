//! The threads of a materialization: named, stopped together, their endings told apart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};

use crate::call::Interrupt;
use crate::error::{Error, ErrorKind, Result};

/// Raised once, for all workers of a view.
#[derive(Default)]
pub(super) struct StopFlag(AtomicBool);

impl StopFlag {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Runs a worker; one that fails stops the others.
    pub fn guard<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = work();
        if result.is_err() {
            self.set();
        }
        result
    }
}

impl Interrupt for StopFlag {
    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(stopped()) } else { Ok(()) }
    }
}

/// What a worker ended with.
pub(super) fn finished<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Internal,
            "a materialization thread panicked; this is a bug in feastrs, please report it",
        ))
    })
}

/// Starts a worker under a name that a debugger shows.
pub(super) fn spawn_named<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T>>> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn_scoped(scope, work).map_err(|cause| {
        Error::new(ErrorKind::Io, "can't start a thread for a materialization").with_source(cause)
    })
}

/// The ending of a worker that others made end; theirs is the one to tell.
#[cold]
pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted, "stopped")
}
