//! Python's forks go through the gate that keeps them from what they must not interrupt.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::process_local::fork_gate;

/// Tells Python what to do before and after `os.fork`.
pub fn register(py: Python<'_>) -> PyResult<()> {
    let hooks = PyDict::new(py);
    hooks.set_item("before", wrap_pyfunction!(before, py)?)?;
    hooks.set_item("after_in_parent", wrap_pyfunction!(after_in_parent, py)?)?;
    hooks.set_item("after_in_child", wrap_pyfunction!(after_in_child, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks))?;
    Ok(())
}

#[pyfunction]
fn before(py: Python<'_>) {
    // Whoever holds the gate may need Python's lock to look at signals.
    py.detach(fork_gate::before_fork);
}

#[pyfunction]
fn after_in_parent() {
    fork_gate::after_fork_in_parent();
}

#[pyfunction]
fn after_in_child() {
    fork_gate::after_fork_in_child();
}
