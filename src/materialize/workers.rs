//! The threads of a materialization: named, stopped together, their endings told apart.

use std::thread::{self, Scope, ScopedJoinHandle};

use crate::call::Interrupt;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::StopSwitch;

/// Raised once, for all workers of a view, wherever they wait.
pub(crate) struct StopFlag<'a>(&'a StopSwitch);

impl<'a> StopFlag<'a> {
    /// The flag that ends waiting for the source, too.
    pub fn new(source: &'a StopSwitch) -> Self {
        StopFlag(source)
    }

    pub fn set(&self) {
        self.0.set();
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

impl Interrupt for StopFlag<'_> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// What a worker ended with.
pub(crate) fn finished<T>(handle: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Internal,
            "a thread of this work panicked; this is a bug in feastrs, please report it",
        ))
    })
}

/// Starts a worker under a name that a debugger shows.
pub(crate) fn spawn_named<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T>>> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder
        .spawn_scoped(scope, work)
        .map_err(|cause| Error::new(ErrorKind::Io, "can't start a thread").with_source(cause))
}

/// The ending of a worker that others made end; theirs is the one to tell.
#[cold]
pub(super) fn stopped() -> Error {
    Error::new(ErrorKind::Interrupted, "stopped")
}
