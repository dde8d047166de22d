//! Work shared by as many threads as there are processors, while the thread that asked for it
//! watches over signals and says how far it is.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::call::{Call, Interrupt};
use crate::error::{Error, ErrorKind, Result};
use crate::offline::SourceFiles;

/// More threads than this only wait for memory.
const MAX_THREADS: usize = 16;
/// How long the calling thread waits before it looks for interrupts.
const WATCH: Duration = Duration::from_millis(50);

/// How much of a join is done, in values read.
#[derive(Default)]
pub(super) struct Meter {
    done: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    pub fn expect(&self, values: u64) {
        self.total.fetch_add(values, Ordering::Relaxed);
    }

    pub fn add(&self, values: u64) {
        self.done.fetch_add(values, Ordering::Relaxed);
    }

    /// From 0 to 1.
    pub fn fraction(&self) -> f64 {
        let total = self.total.load(Ordering::Relaxed).max(1);
        (self.done.load(Ordering::Relaxed) as f64 / total as f64).min(1.0)
    }
}

/// Raised once, for all threads, wherever they wait.
struct Stop<'a> {
    is_set: AtomicBool,
    sources: &'a [SourceFiles],
}

impl Stop<'_> {
    fn set(&self) {
        self.is_set.store(true, Ordering::Relaxed);
        self.sources.iter().for_each(|source| source.stop().set());
    }
}

impl Interrupt for Stop<'_> {
    fn check(&self) -> Result<()> {
        match self.is_set.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Interrupted, "stopped")),
            false => Ok(()),
        }
    }
}

/// The threads of a join.
pub(super) struct Pool<'a> {
    /// What is read; asked to stop with the rest.
    pub sources: &'a [SourceFiles],
    pub call: &'a Call<'a>,
    /// Told now and then, on the calling thread.
    pub watch: &'a dyn Fn(),
}

/// How many threads work at once.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS)
}

impl Pool<'_> {
    /// Does `work` on each of `tasks`, begun in their order; gives the results in that order,
    /// or the first failure.
    pub fn run<T: Send, R: Send>(
        &self,
        tasks: Vec<T>,
        work: impl Fn(T, &Call<'_>) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let count = tasks.len();
        let stop = Stop { is_set: AtomicBool::new(false), sources: self.sources };
        let worker_call = Call { deadline: self.call.deadline, interrupt: &stop };
        let queue = Mutex::new(tasks.into_iter().enumerate());
        let results: Mutex<Vec<Option<R>>> = Mutex::new((0..count).map(|_| None).collect());
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let worker = || {
            loop {
                let next = locked(&queue).next();
                let Some((place, task)) = next.filter(|_| stop.check().is_ok()) else { return };
                match work(task, &worker_call) {
                    Ok(result) => locked(&results)[place] = Some(result),
                    Err(error) => {
                        let mut failure = locked(&failure);
                        // Others fail because the first made them stop.
                        if failure.is_none() {
                            *failure = Some(error);
                        }
                        stop.set();
                    }
                }
            }
        };
        let asked = thread::scope(|scope| {
            let (alive, ended) = channel::<()>();
            let mut handles = Vec::new();
            for _ in 0..threads().min(count) {
                let alive = alive.clone();
                let builder = thread::Builder::new().name("feastrs-history".to_owned());
                let spawned = builder.spawn_scoped(scope, || {
                    let _alive = alive;
                    worker();
                });
                match spawned {
                    Ok(handle) => handles.push(handle),
                    Err(cause) => {
                        stop.set();
                        let message = "can't start a thread for a join";
                        return Err(Error::new(ErrorKind::Io, message).with_source(cause));
                    }
                }
            }
            drop(alive);
            let mut asked = Ok(());
            while ended.recv_timeout(WATCH) == Err(RecvTimeoutError::Timeout) {
                (self.watch)();
                if asked.is_ok() {
                    asked = self.call.check();
                    if asked.is_err() {
                        stop.set();
                    }
                }
            }
            // At least once, however soon it is over.
            (self.watch)();
            let asked = asked.and_then(|()| self.call.check());
            let panicked = handles.into_iter().filter_map(|handle| handle.join().err()).count();
            asked.and_then(|()| if panicked == 0 { Ok(()) } else { Err(a_thread_panicked()) })
        });
        asked?;
        if let Some(failure) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure);
        }
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().collect::<Option<_>>().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "a thread of a join ended before its work")
        })
    }
}

#[cold]
fn a_thread_panicked() -> Error {
    Error::new(
        ErrorKind::Internal,
        "a thread of a join panicked; this is a bug in feastrs, please report it",
    )
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
