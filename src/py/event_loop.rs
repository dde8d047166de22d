//! The reads, writes and requests in flight of one asyncio event loop, and how their ends get to it: the
//! runtime's threads put them into a queue and wake the loop through a socket; the loop takes
//! all that is there at once and sets the futures. So those threads never wait for the GIL,
//! and never touch an interpreter that may be gone.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tokio::task::AbortHandle;

use crate::call::{Call, Interrupt};
use crate::error::{Error, ErrorKind, Result};
use crate::materialize::frame::FrameReport;
use crate::online::assemble::StatusRules;
use crate::online::{Answer, Entities};
use crate::runtime;
use crate::server::Reply;

use super::answer::OnlineResult;
use super::frame_write::{self, FrameWrite};
use super::plans::{Names, Prepared};

/// The reads and writes in flight of one event loop. All methods but `abort` and `wake` are called on the
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
    task: AbortHandle,
    kind: Kind,
}

/// What the outcome becomes.
enum Kind {
    Read { names: Names, prepared: Arc<Prepared>, rules: StatusRules, wants_versions: bool },
    // The frame may be Python's memory: it is let go of here, on the loop's thread.
    Write { stop: Arc<Stop>, _frame: Arc<FrameWrite> },
    Request,
}

impl InFlight {
    /// Asks the task to end. `true` when nothing of it is left to wait for: a write comes to its
    /// own end.
    fn abort(&self) -> bool {
        match &self.kind {
            Kind::Read { .. } | Kind::Request => {
                self.task.abort();
                true
            }
            Kind::Write { stop, .. } => {
                stop.0.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Raised when nobody waits for a write any more.
#[derive(Default)]
struct Stop(AtomicBool);

impl Interrupt for Stop {
    fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Interrupted, "nobody waits for the write any more")),
        }
    }
}

/// What a call has come to.
enum Outcome {
    Answer(Answer),
    Written(Vec<FrameReport>),
    Reply(Reply),
}

/// Outcomes that the loop has not taken yet, by the numbers of their reads.
struct Finished {
    outcomes: Mutex<Vec<(u64, Result<Outcome>)>>,
    bell: UnixStream,
}

impl Finished {
    fn push(&self, number: u64, outcome: Result<Outcome>) {
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

/// Reports the outcome of one call, whatever becomes of its task.
struct Report {
    finished: Arc<Finished>,
    number: u64,
    outcome: Option<Result<Outcome>>,
}

impl Report {
    fn outcome_is(mut self, outcome: Result<Outcome>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Internal, "the task of a call has ended without an outcome"))
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
            let rows = entities.rows;
            let outcome = asked.reader.read_async(entities, &rules, None).await;
            asked.count(rows, &outcome);
            report.outcome_is(outcome.map(Outcome::Answer));
        });
        // Before the loop looks for it: that happens on this thread, too.
        let task = task.abort_handle();
        let kind = Kind::Read { names, prepared, rules, wants_versions };
        lock(&self.in_flight).insert(number, InFlight { future, task, kind });
        Ok(number)
    }

    /// Starts a write of whose end `future` shall hear; gives its number. It blocks a thread of
    /// the runtime, not the loop.
    pub(super) fn start_write(&self, write: FrameWrite, future: Py<PyAny>) -> Result<u64> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let report = Report { finished: self.finished.clone(), number, outcome: None };
        let (stop, frame) = (Arc::new(Stop::default()), Arc::new(write));
        let (interrupt, write) = (stop.clone(), frame.clone());
        let task = runtime::handle()?.spawn(async move {
            let call = Call { deadline: None, interrupt: &*interrupt };
            let outcome = runtime::block(|| write.run(&call)).await.flatten();
            drop(write);
            report.outcome_is(outcome.map(Outcome::Written));
        });
        let (task, kind) = (task.abort_handle(), Kind::Write { stop, _frame: frame });
        lock(&self.in_flight).insert(number, InFlight { future, task, kind });
        Ok(number)
    }

    /// Starts a request to the server's handlers, whose answer `future` shall have; gives its
    /// number.
    pub(super) fn start_reply(
        &self,
        reply: impl Future<Output = Reply> + Send + 'static,
        future: Py<PyAny>,
    ) -> Result<u64> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let report = Report { finished: self.finished.clone(), number, outcome: None };
        let task = runtime::handle()?.spawn(async move {
            report.outcome_is(Ok(Outcome::Reply(reply.await)));
        });
        let (task, kind) = (task.abort_handle(), Kind::Request);
        lock(&self.in_flight).insert(number, InFlight { future, task, kind });
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

    /// Stops the read or write of that number, if it is still in flight.
    fn abort(&self, number: u64) {
        if self.is_inherited() {
            return;
        }
        let mut in_flight = lock(&self.in_flight);
        let ended = in_flight.get(&number).is_some_and(InFlight::abort);
        let ended = if ended { in_flight.remove(&number) } else { None };
        // What it holds of Python's is not let go of under the lock.
        drop((in_flight, ended));
    }

    /// Wakes whoever watches.
    fn wake(&self) {
        self.finished.ring();
    }

    /// How many reads and writes are in flight.
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
        in_flight.values().for_each(|call| {
            call.abort();
        });
    }
}

/// Gives the future the outcome, unless it was cancelled meanwhile.
fn settle(py: Python<'_>, in_flight: InFlight, outcome: Result<Outcome>) -> PyResult<()> {
    let InFlight { future, kind, .. } = in_flight;
    if future.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
        return Ok(());
    }
    match outcome {
        Ok(Outcome::Answer(answer)) => {
            // Only a read has an answer.
            let Kind::Read { names, prepared, rules, wants_versions } = kind else { return Ok(()) };
            let plan = prepared.reader.plan();
            let result = OnlineResult::of(plan, names, answer, &rules, wants_versions);
            future.call_method1(py, intern!(py, "set_result"), (result,))?;
        }
        Ok(Outcome::Written(reports)) => {
            let reports: Vec<_> = reports.into_iter().map(frame_write::written).collect();
            future.call_method1(py, intern!(py, "set_result"), (reports,))?;
        }
        Ok(Outcome::Reply(reply)) => {
            let headers = header_list(py, &reply)?;
            let answer = (reply.status, headers, PyBytes::new(py, &reply.body));
            future.call_method1(py, intern!(py, "set_result"), (answer,))?;
        }
        Err(error) => {
            future.call_method1(py, intern!(py, "set_exception"), (PyErr::from(error),))?;
        }
    }
    Ok(())
}

/// The headers of an answer as ASGI has them.
fn header_list<'py>(py: Python<'py>, reply: &Reply) -> PyResult<Bound<'py, PyList>> {
    let content_type = ("content-type", reply.content_type);
    let content_type = Some(content_type).filter(|(_, value)| !value.is_empty());
    let others = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
    // How a connection goes on is the business of who has it.
    let headers = content_type.into_iter().chain(others).filter(|(name, _)| *name != "connection");
    let pair = |(name, value): (&str, &str)| {
        (PyBytes::new(py, name.as_bytes()), PyBytes::new(py, value.as_bytes()))
    };
    PyList::new(py, headers.map(pair).collect::<Vec<_>>())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held for single moves, in which nothing panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
