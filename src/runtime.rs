//! The one Tokio runtime of a process: made when first needed, a few named threads, never
//! joined. Beside it, made like it, one for large work ([`aside`]), so that small work waits
//! neither for its threads nor long for a processor. A forked child leaves its parent's alone and
//! makes its own. Must not know what runs on it; what does must not touch Python, for these
//! threads outlive the interpreter.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::process_local::ProcessLocal;

/// Reads wait on sockets and decode what comes: more threads than these would only take turns.
static WORKERS: AtomicUsize = AtomicUsize::new(2);
/// Blocking reads at one time; more would wait for the same disk.
const BLOCKING_READS: usize = 4;

static RUNTIME: ProcessLocal<OnceLock<Runtime>> = ProcessLocal::new();
static ASIDE: ProcessLocal<OnceLock<Runtime>> = ProcessLocal::new();
static BLOCKING: ProcessLocal<BlockingReads> = ProcessLocal::new();

thread_local! {
    static IS_ASIDE: Cell<bool> = const { Cell::new(false) };
}

/// Lets the runtime have `workers` threads, once it is made: who serves others wants a thread
/// for each core. One that is made already stays as it is.
pub fn set_workers(workers: usize) {
    WORKERS.store(workers, Ordering::Relaxed);
}

/// A handle of this process's runtime, to spawn on.
pub fn handle() -> Result<&'static Handle> {
    started(RUNTIME.get(), || builder("feastrs-io"))
}

/// The same, but on a thread of large work a handle of the runtime of large work: for what large
/// work needs for itself.
pub fn handle_here() -> Result<&'static Handle> {
    if IS_ASIDE.get() { handle_aside() } else { handle() }
}

fn handle_aside() -> Result<&'static Handle> {
    started(ASIDE.get(), || {
        let mut builder = builder("feastrs-aside");
        builder.on_thread_start(|| IS_ASIDE.set(true));
        builder
    })
}

fn started(
    cell: &'static OnceLock<Runtime>,
    builder: impl FnOnce() -> Builder,
) -> Result<&'static Handle> {
    if let Some(runtime) = cell.get() {
        return Ok(runtime.handle());
    }
    let runtime = builder().build().map_err(|source| {
        Error::new(ErrorKind::Io, "can't start the threads for asynchronous reads")
            .with_source(source)
    })?;
    if let Err(superfluous) = cell.set(runtime) {
        // Another thread was faster.
        superfluous.shutdown_background();
    }
    cell.get()
        .map(Runtime::handle)
        .ok_or_else(|| Error::new(ErrorKind::Internal, "the runtime that was made is not there"))
}

fn builder(thread_name: &str) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(WORKERS.load(Ordering::Relaxed).max(1))
        .thread_name(thread_name)
        .enable_io()
        .enable_time();
    builder
}

/// Does `work`, which is large, on threads that small work does not need. Dropped, it stops.
pub async fn aside<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = handle_aside()?.spawn(work);
    let _aborts = AbortOnDrop(task.abort_handle());
    task.await.unwrap_or_else(|failed| match failed.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(aborted) => {
            Err(Error::new(ErrorKind::Internal, "large work was given up").with_source(aborted))
        }
    })
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Between two slices of large work: other tasks have the thread. And, where large work has
/// threads of its own, other threads have the processor: left to itself, the kernel would let small
/// work, and a store on the same machine, wait for it for milliseconds. (With a lower priority
/// large work would starve where the machine is busy.)
pub async fn give_way() {
    if IS_ASIDE.get() {
        std::thread::yield_now();
    }
    tokio::task::yield_now().await;
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
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt;

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

    #[test]
    fn large_work_has_threads_of_its_own() {
        let (name, is_here) = handle().unwrap().block_on(async {
            assert!(!IS_ASIDE.get());
            aside(async {
                give_way().await;
                let name = block(|| std::thread::current().name().map(str::to_owned)).await?;
                Ok((name, handle_here()?.id() == Handle::current().id()))
            })
            .await
            .unwrap()
        });

        assert_eq!(name.as_deref(), Some("feastrs-aside"));
        assert!(is_here && handle_here().unwrap().id() == handle().unwrap().id());
    }

    #[test]
    fn large_work_stops_when_nobody_waits_for_it() {
        let (held, gone) = tokio::sync::oneshot::channel::<()>();
        handle().unwrap().block_on(async {
            let mut work = Box::pin(aside(async move {
                let _held = held;
                std::future::pending::<Result<()>>().await
            }));
            assert!((&mut work).now_or_never().is_none());
            drop(work);
            assert!(gone.await.is_err());
        });
    }

    #[test]
    fn a_panic_of_large_work_is_that_of_who_waits() {
        let waiting = AssertUnwindSafe(aside(async {
            let nothing: Vec<u8> = Vec::new();
            Ok(nothing[nothing.len()])
        }));
        assert!(handle().unwrap().block_on(waiting.catch_unwind()).is_err());
    }
}
