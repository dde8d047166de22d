//! Python's signals as an [`Interrupt`]: Ctrl-C, and whatever a signal handler raises.

use pyo3::prelude::*;

use crate::call::{Call, Interrupt};
use crate::error::{Error, ErrorKind, Result};

/// Runs Python's pending signal handlers when asked. Only Python's main thread has any.
pub struct Signals;

impl Interrupt for Signals {
    fn check(&self) -> Result<()> {
        Python::attach(|py| py.check_signals()).map_err(stopped_by)
    }
}

/// The error that carries what a signal handler or a callback raised.
pub fn stopped_by(raised: PyErr) -> Error {
    Error::new(ErrorKind::Interrupted, "stopped by the caller").with_source(raised)
}

/// A call that stops on signals and has no deadline of its own.
pub fn interruptible() -> Call<'static> {
    Call { deadline: None, interrupt: &Signals }
}
