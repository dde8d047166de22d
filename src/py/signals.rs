//! Python's signals as an [`Interrupt`]: Ctrl-C, and whatever a signal handler raises.

use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use crate::call::{Call, Interrupt};
use crate::error::{Error, ErrorKind, Result};

use super::logging;

/// How long the process may live on after its interpreter.
const EXIT: Duration = Duration::from_secs(1);

/// Runs Python's pending signal handlers when asked (only Python's main thread has any), and lets
/// Python's loggers have what the core logged.
pub struct Signals;

impl Interrupt for Signals {
    fn check(&self) -> Result<()> {
        let asked = Python::try_attach(|py| {
            logging::hand_over(py);
            py.check_signals()
        });
        match asked {
            Some(outcome) => outcome.map_err(stopped_by),
            None => Err(left_behind()),
        }
    }
}

/// A daemon thread finds the interpreter gone. There is nothing to go back to: it waits for the end
/// of the process, as Python's own threads do.
#[cold]
fn left_behind() -> Error {
    thread::sleep(EXIT);
    Error::new(ErrorKind::Interrupted, "the interpreter has ended")
}

/// The error that carries what a signal handler or a callback raised.
pub fn stopped_by(raised: PyErr) -> Error {
    Error::new(ErrorKind::Interrupted, "stopped by the caller").with_source(raised)
}

/// A call that stops on signals and has no deadline of its own.
pub fn interruptible() -> Call<'static> {
    Call { deadline: None, interrupt: &Signals }
}
