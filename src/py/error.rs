//! The core's errors as Python exceptions, by the one table in `feastrs.errors`.

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::error::{Error, ErrorKind};

/// Adds what the test of the table needs.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(error_kinds, module)?)
}

/// Names of all kinds of errors that the core can return.
#[pyfunction]
fn error_kinds() -> Vec<String> {
    ErrorKind::ALL.iter().map(|kind| format!("{kind:?}")).collect()
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| match (error.kind(), raised_in_python(&error)) {
            (_, Some(raised)) => raised.clone_ref(py),
            (ErrorKind::Interrupted, None) => PyKeyboardInterrupt::new_err(error.to_string()),
            (kind, None) => exception(py, kind, error.to_string()),
        })
    }
}

// What a signal handler or a callback raised goes on as it is.
fn raised_in_python(error: &Error) -> Option<&PyErr> {
    std::error::Error::source(error)?.downcast_ref()
}

fn exception(py: Python<'_>, kind: ErrorKind, message: String) -> PyErr {
    let class = py
        .import("feastrs.errors")
        .and_then(|errors| errors.call_method1("exception_class", (format!("{kind:?}"),)))
        .and_then(|class| Ok(class.cast_into::<PyType>()?));
    match class {
        Ok(class) => PyErr::from_type(class, (message,)),
        Err(_) => PyRuntimeError::new_err(message),
    }
}
