//! The one Tokio runtime of a process: made when first needed, a few named threads, never
//! joined. A forked child leaves its parent's alone and makes its own. Must not know what
//! runs on it; what does must not touch Python, for these threads outlive the interpreter.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};
use crate::process_local::ProcessLocal;

/// Reads wait on sockets and decode what comes: more threads than these would only take turns.
static WORKERS: AtomicUsize = AtomicUsize::new(2);
/// Blocking reads at one time; more would wait for the same disk.
const BLOCKING_READS: usize = 4;

static RUNTIME: ProcessLocal<OnceLock<Runtime>> = ProcessLocal::new();
static BLOCKING: ProcessLocal<BlockingReads> = ProcessLocal::new();

/// Lets the runtime have `workers` threads, once it is made: who serves others wants a thread
/// for each core. One that is made already stays as it is.
pub fn set_workers(workers: usize) {
    WORKERS.store(workers, Ordering::Relaxed);
}

/// A handle of this process's runtime, to spawn on.
pub fn handle() -> Result<&'static Handle> {
    let cell = RUNTIME.get();
    if let Some(runtime) = cell.get() {
        return Ok(runtime.handle());
    }
    if let Err(superfluous) = cell.set(build()?) {
        // Another thread was faster.
        superfluous.shutdown_background();
    }
    cell.get()
        .map(Runtime::handle)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the runtime that was made is not there"))
}

fn build() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS.load(Ordering::Relaxed).max(1))
        .thread_name("feastrs-io")
        .enable_io()
        .enable_time()
        .build()
        .map_err(|source| {
            Error::new(ErrorKind::Io, "can't start the threads for asynchronous reads")
                .with_source(source)
        })
}

/// Runs blocking `work` on the thread of the task that awaits this, when it is its turn.
pub async fn block<T>(work: impl FnOnce() -> T) -> Result<T> {
    // The semaphore is never closed.
    let turn = BLOCKING.get().0.acquire().await;
    let _turn = turn.map_err(|source| {
        Error::new(ErrorKind::Internal, "blocking reads are closed").with_source(source)
    })?;
    Ok(tokio::task::block_in_place(work))
}

/// Awaits `work`, but not past `deadline`.
pub async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(deadline) = deadline else { return work.await };
    let outcome = tokio::time::timeout_at(deadline.into(), work).await;
    outcome.unwrap_or_else(|_| Err(crate::call::deadline_has_passed()))
}

struct BlockingReads(Semaphore);

impl Default for BlockingReads {
    fn default() -> Self {
        BlockingReads(Semaphore::new(BLOCKING_READS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_and_its_threads_have_a_name() {
        let name = handle().unwrap().block_on(async {
            let name = || std::thread::current().name().map(str::to_owned);
            tokio::spawn(async move { block(name).await.unwrap() }).await.unwrap()
        });

        assert_eq!(name.as_deref(), Some("feastrs-io"));
        assert_eq!(handle().unwrap().id(), handle().unwrap().id());
    }
}
