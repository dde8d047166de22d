//! What the core logs, in Python's `logging` under the logger `feastrs`. A record waits until a
//! thread that runs Python comes by: the core's own threads never attach to the interpreter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

use crate::process_local::ProcessLocal;
use crate::server::audit;

/// More than this waits only where no call comes by any more; the first ones are kept.
const MAX_WAITING: usize = 100;

/// The same of audit events, of which there is one for each request.
const MAX_AUDIT: usize = 100_000;

static QUEUE: Queue = Queue { is_empty: AtomicBool::new(true), lines: ProcessLocal::new() };

struct Queue {
    // So that a call looks at one flag and at no lock.
    is_empty: AtomicBool,
    lines: ProcessLocal<Mutex<Vec<Line>>>,
}

struct Line {
    logger: String,
    level: Level,
    message: String,
}

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates log for those who mend them.
        metadata.target().split("::").next() == Some("feastrs") || is_audit(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Line {
            logger: record.target().replace("::", "."),
            level: record.level(),
            message: record.args().to_string(),
        };
        let mut lines = self.lines.get().lock().unwrap_or_else(PoisonError::into_inner);
        let most = if is_audit(record.metadata()) { MAX_AUDIT } else { MAX_WAITING };
        if lines.len() < most {
            lines.push(line);
        }
        self.is_empty.store(false, Ordering::Release);
    }

    fn flush(&self) {}
}

fn is_audit(metadata: &Metadata<'_>) -> bool {
    metadata.target() == audit::LOGGER
}

/// Makes the core log into the queue.
pub fn register() {
    // This library has its own copy of the `log` crate: nobody else can have set one.
    if log::set_logger(&QUEUE).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Gives what waits to Python's loggers.
pub fn hand_over(py: Python<'_>) {
    if QUEUE.is_empty.load(Ordering::Relaxed) || QUEUE.is_empty.swap(true, Ordering::AcqRel) {
        return;
    }
    let lines = {
        let mut lines = QUEUE.lines.get().lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lines)
    };
    for line in lines {
        if let Err(error) = emit(py, &line) {
            // A handler that fails is no reason for a call to fail.
            error.write_unraisable(py, None);
        }
    }
}

fn emit(py: Python<'_>, line: &Line) -> PyResult<()> {
    let method = match line.level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    };
    let logger = py.import("logging")?.call_method1("getLogger", (&line.logger,))?;
    // As an argument, so that a percent sign in it is one.
    logger.call_method1(method, ("%s", &line.message))?;
    Ok(())
}
