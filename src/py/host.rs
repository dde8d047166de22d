//! The server's host: its calls become calls of a `feastrs.hosting.Host`, on threads that attach
//! to the interpreter for as long as one takes.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::error::{Error, ErrorKind, Result};
use crate::server::{Host, HostedMaterialization, HostedWrite, Raised};

use super::logging;

/// A `feastrs.hosting.Host`.
pub struct PythonHost(Py<PyAny>);

impl PythonHost {
    /// Calls the methods of `host`.
    pub fn new(host: Py<PyAny>) -> Self {
        PythonHost(host)
    }
}

impl Host for PythonHost {
    fn read(&self, body: Bytes) -> Result<Vec<u8>> {
        attached(|py| {
            let message = self.0.call_method1(py, "read", (PyBytes::new(py, &body),))?;
            Ok(message.extract::<PyBackedBytes>(py)?.to_vec())
        })
    }

    fn write(&self, write: &HostedWrite) -> Result<()> {
        attached(|py| {
            let arguments = (
                PyBytes::new(py, &write.body),
                write.online.clone(),
                write.appended.clone(),
                write.offline.clone(),
                write.renewed.clone(),
                write.allow_registry_cache,
                write.transform_on_write,
            );
            self.0.call_method1(py, "write", arguments).map(drop)
        })
    }

    fn materialize(&self, order: &HostedMaterialization) -> Result<()> {
        attached(|py| {
            let arguments = (
                order.views.clone(),
                order.start,
                order.end,
                order.disable_event_timestamp,
                order.full_feature_names,
                order.version.clone(),
            );
            self.0.call_method1(py, "materialize", arguments).map(drop)
        })
    }
}

/// Does `work` attached to the interpreter, unless that is gone.
fn attached<T>(work: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T> {
    let outcome = Python::try_attach(|py| {
        let outcome = work(py).map_err(|raised| to_error(py, &raised));
        logging::hand_over(py);
        outcome
    });
    outcome.unwrap_or_else(|| Err(Error::new(ErrorKind::Interrupted, "the interpreter has ended")))
}

/// What was raised, with the kind of an error of ours, or as what an answer tells of it.
#[cold]
fn to_error(py: Python<'_>, raised: &PyErr) -> Error {
    let described = py
        .import("feastrs.hosting")
        .and_then(|module| module.call_method1("describe", (raised.value(py),)))
        .and_then(|described| described.extract::<(Option<String>, u16, Option<String>, String)>());
    let Ok((kind, status, class, message)) = described else {
        return Error::new(ErrorKind::Internal, "what Python raised can't be told");
    };
    let kinds = ErrorKind::ALL.iter();
    let ours = kinds.copied().find(|known| kind.as_deref() == Some(&*format!("{known:?}")));
    match ours {
        Some(kind) => Error::new(kind, message),
        None => Error::new(ErrorKind::Internal, "Python raised an error").with_source(Raised {
            status,
            class,
            message,
        }),
    }
}
