//! Metrics of this process as Python sees them: the text, and a port that serves it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

use crate::server::metrics::{Exporter, Metrics, Outcome};

use super::logging;

/// Adds what `feastrs.metrics` is made of.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(count_library, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_text, module)?)?;
    module.add_function(wrap_pyfunction!(count_transformation, module)?)?;
    module.add_function(wrap_pyfunction!(count_retrieval, module)?)?;
    module.add_class::<MetricsExporter>()
}

/// Counts reads of the library from now on, not only those of a server.
#[pyfunction]
fn count_library() {
    Metrics::of_process().count_library();
}

/// Counts an on-demand transformation of a read, which took so many seconds.
#[pyfunction]
fn count_transformation(view: &str, mode: &str, seconds: f64) {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Metrics::of_process().transformation(view, mode, duration);
}

/// Counts a retrieval of training data, which took so many seconds.
#[pyfunction]
fn count_retrieval(is_success: bool, seconds: f64, rows: u64) {
    let outcome = if is_success { Outcome::Success } else { Outcome::Error };
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Metrics::of_process().retrieval(outcome, duration, rows);
}

/// All that was counted in this process, in Prometheus' text format.
#[pyfunction]
fn metrics_text(py: Python<'_>) -> String {
    py.detach(|| Metrics::of_process().text())
}

/// Serves the metrics of this process on a port of their own until it is closed.
#[pyclass(frozen, module = "feastrs._native")]
pub struct MetricsExporter {
    port: u16,
    exporter: Mutex<Option<Exporter>>,
}

#[pymethods]
impl MetricsExporter {
    /// Listens on `port` of all interfaces; 0 is any that is free.
    #[staticmethod]
    fn start(py: Python<'_>, port: u16) -> PyResult<Self> {
        let scrape = Arc::new(|| Metrics::of_process().text());

        let started = py.detach(|| Exporter::start(port, scrape));
        logging::hand_over(py);

        let exporter = started?;
        Ok(MetricsExporter { port: exporter.address().port(), exporter: Some(exporter).into() })
    }

    /// The port that it listens on.
    #[getter]
    fn port(&self) -> u16 {
        self.port
    }

    /// Closes the port.
    fn close(&self) {
        // A panic can't leave it half changed.
        drop(self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
