//! The reads in flight of one asyncio event loop, and how their answers get to it: the
//! runtime's threads put them into a queue and wake the loop through a socket; the loop takes
//! all that is there at once and sets the futures. So those threads never wait for the GIL,
//! and never touch an interpreter that may be gone.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::error::{Error, ErrorKind, Result};
use crate::online::assemble::StatusRules;
use crate::online::{Answer, Entities};
use crate::runtime;

use super::answer::OnlineResult;
use super::plans::{Names, Prepared};

/// The reads in flight of one event loop. All methods but `abort` and `wake` are called on the
/// loop's own thread.
#[pyclass(frozen, weakref, module = "feastrs._native")]
pub struct LoopReads {
    // The process that it was made in: a fork inherits it and must not use it.
    process: u32,
    started: AtomicU64,
    in_flight: Mutex<HashMap<u64, InFlight>>,
    finished: Arc<Finished>,
    // The other end of the socket that wakes the loop.
    bell: UnixStream,
}

/// What waits on Python's side.
struct InFlight {
    future: Py<PyAny>,
    names: Names,
    prepared: Arc<Prepared>,
    rules: StatusRules,
    wants_versions: bool,
    task: AbortHandle,
}

/// Outcomes that the loop has not taken yet, by the numbers of their reads.
struct Finished {
    outcomes: Mutex<Vec<(u64, Result<Answer>)>>,
    bell: UnixStream,
}

impl Finished {
    fn push(&self, number: u64, outcome: Result<Answer>) {
        let mut outcomes = lock(&self.outcomes);
        outcomes.push((number, outcome));
        let is_first = outcomes.len() == 1;
        drop(outcomes);
        // Who finds others in the queue finds the bell rung.
        if is_first {
            self.ring();
        }
    }

    fn ring(&self) {
        // A socket that is full has been rung; one whose loop is gone wakes nobody.
        let _ = (&self.bell).write(&[0]);
    }
}

/// Reports the outcome of one read, whatever becomes of its task.
struct Report {
    finished: Arc<Finished>,
    number: u64,
    outcome: Option<Result<Answer>>,
}

impl Report {
    fn outcome_is(mut self, outcome: Result<Answer>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Internal, "the task of a read has ended without an answer"))
        });
        self.finished.push(self.number, outcome);
    }
}

impl LoopReads {
    /// Starts a read whose answer `future` shall have; gives its number.
    pub(super) fn start(
        &self,
        prepared: Arc<Prepared>,
        entities: Entities,
        rules: StatusRules,
        wants_versions: bool,
        future: Py<PyAny>,
    ) -> Result<u64> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let names = Names::of(prepared.clone(), &entities);
        let report = Report { finished: self.finished.clone(), number, outcome: None };
        let asked = prepared.clone();
        let task = runtime::handle()?.spawn(async move {
            let outcome = asked.reader.read_async(entities, &rules, None).await;
            report.outcome_is(outcome);
        });
        // Before the loop looks for it: that happens on this thread, too.
        let task = task.abort_handle();
        let in_flight = InFlight { future, names, prepared, rules, wants_versions, task };
        lock(&self.in_flight).insert(number, in_flight);
        Ok(number)
    }
}

#[pymethods]
impl LoopReads {
    /// For the loop that runs on the calling thread.
    #[new]
    fn new() -> Result<Self> {
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            Ok((ours, theirs))
        });
        let (bell, theirs) = pair.map_err(|source| {
            Error::new(ErrorKind::Io, "can't make the socket that wakes the event loop")
                .with_source(source)
        })?;
        let finished = Finished { outcomes: Mutex::default(), bell: theirs };
        Ok(LoopReads {
            process: process::id(),
            started: AtomicU64::new(0),
            in_flight: Mutex::default(),
            finished: Arc::new(finished),
            bell,
        })
    }

    /// Whether it was made in another process, which this one was forked from.
    #[getter]
    fn is_inherited(&self) -> bool {
        self.process != process::id()
    }

    /// What the loop shall watch for reading, to call `deliver` then.
    fn fileno(&self) -> i32 {
        self.bell.as_raw_fd()
    }

    /// Sets the futures of all reads that have finished.
    fn deliver(&self, py: Python<'_>) {
        if self.is_inherited() {
            return;
        }
        let mut rung = [0; 16];
        // Nothing there: another call has taken it.
        let _ = (&self.bell).read(&mut rung);
        let outcomes = std::mem::take(&mut *lock(&self.finished.outcomes));
        for (number, outcome) in outcomes {
            let in_flight = lock(&self.in_flight).remove(&number);
            let Some(in_flight) = in_flight else { continue };
            let future = in_flight.future.clone_ref(py);
            if let Err(error) = settle(py, in_flight, outcome) {
                error.write_unraisable(py, Some(future.bind(py)));
            }
        }
    }

    /// Stops the read of that number, if it is still in flight.
    fn abort(&self, number: u64) {
        if self.is_inherited() {
            return;
        }
        let in_flight = lock(&self.in_flight).remove(&number);
        if let Some(InFlight { task, .. }) = in_flight {
            task.abort();
        }
    }

    /// Wakes whoever watches.
    fn wake(&self) {
        self.finished.ring();
    }

    /// How many reads are in flight.
    fn __len__(&self) -> usize {
        lock(&self.in_flight).len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        // Futures know their loop, and the loop knows us. Held elsewhere: then we are in use.
        let Ok(in_flight) = self.in_flight.try_lock() else { return Ok(()) };
        in_flight.values().try_for_each(|read| visit.call(&read.future))
    }

    fn __clear__(&self) {
        let in_flight = std::mem::take(&mut *lock(&self.in_flight));
        in_flight.values().for_each(|read| read.task.abort());
    }
}

/// Gives the future the outcome, unless it was cancelled meanwhile.
fn settle(py: Python<'_>, in_flight: InFlight, outcome: Result<Answer>) -> PyResult<()> {
    let InFlight { future, names, prepared, rules, wants_versions, .. } = in_flight;
    if future.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
        return Ok(());
    }
    match outcome {
        Ok(answer) => {
            let plan = prepared.reader.plan();
            let result = OnlineResult::of(plan, names, answer, &rules, wants_versions);
            future.call_method1(py, intern!(py, "set_result"), (result,))?;
        }
        Err(error) => {
            future.call_method1(py, intern!(py, "set_exception"), (PyErr::from(error),))?;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held for single moves, in which nothing panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
