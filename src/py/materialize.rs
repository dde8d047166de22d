//! Materialization from Python: choose, run, report.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

use crate::call::{Call, Interrupt, now_micros};
use crate::config::RepoConfig;
use crate::error::{Error, Result};
use crate::materialize::{self, KeptByOthers, Ledger, MaterializeRequest, Progress, Window};
use crate::registry::{self, RegistryCache};
use crate::store::OnlineStore;

use super::signals::{self, Signals};

/// What became of one view; `feastrs.ViewReport` is made of it.
#[pyclass(frozen, module = "feastrs._native")]
pub struct ViewReport {
    report: materialize::ViewReport,
}

#[pymethods]
impl ViewReport {
    /// The view's name.
    #[getter]
    fn view(&self) -> &str {
        &self.report.view
    }

    /// Begin of the recorded interval.
    #[getter]
    fn start(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.report.start)
    }

    /// End of the recorded interval.
    #[getter]
    fn end(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.report.end)
    }

    /// Rows of the source that were looked at.
    #[getter]
    fn rows_read(&self) -> u64 {
        self.report.rows_read
    }

    /// Entities whose row the store took.
    #[getter]
    fn entities_written(&self) -> u64 {
        self.report.entities_written
    }

    /// Entities left alone because the store has a newer row.
    #[getter]
    fn rows_older(&self) -> u64 {
        self.report.rows_older
    }

    /// Rows left out because a join key is null.
    #[getter]
    fn null_keys(&self) -> u64 {
        self.report.null_keys
    }

    /// Whether the source has no rows within the window.
    #[getter]
    fn is_empty(&self) -> bool {
        self.report.is_empty()
    }

    /// How long it took.
    #[getter]
    fn seconds(&self) -> f64 {
        self.report.seconds
    }
}

/// A Python object that is told of progress. What it raises stops the run, like a signal.
pub(super) struct Watcher {
    progress: Py<PyAny>,
    raised: Mutex<Option<PyErr>>,
}

impl Watcher {
    /// Tells `progress`.
    pub(super) fn new(progress: Py<PyAny>) -> Self {
        Watcher { progress, raised: Mutex::default() }
    }

    fn tell(&self, call: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>) {
        // With the interpreter gone nobody listens, and the next check stops the run.
        let _ = Python::try_attach(|py| {
            if let Err(error) = call(self.progress.bind(py)) {
                *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
    }
}

/// The report of a view, of which Python is told.
pub(super) trait Finished {
    /// Tells `progress` that the view is done.
    fn tell<'py>(&self, progress: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;
}

impl Finished for materialize::ViewReport {
    fn tell<'py>(&self, progress: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        progress.call_method1("view_finished", (ViewReport { report: self.clone() },))
    }
}

impl<Report: Finished> Progress<Report> for Watcher {
    fn view_started(&self, view: &str, total_rows: u64) {
        self.tell(|progress| progress.call_method1("view_started", (view, total_rows)));
    }

    fn waiting(&self, view: &str, searched: u64) {
        self.tell(|progress| progress.call_method1("waiting", (view, searched)));
    }

    fn advanced(&self, view: &str, rows: u64) {
        self.tell(|progress| progress.call_method1("advanced", (view, rows)));
    }

    fn view_failed(&self, view: &str, error: &Error) {
        let message = error.to_string();
        self.tell(|progress| progress.call_method1("view_failed", (view, message)));
    }

    fn view_finished(&self, report: &Report) {
        self.tell(|progress| report.tell(progress));
    }
}

impl Interrupt for Watcher {
    fn check(&self) -> Result<()> {
        match self.raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(raised) => Err(signals::stopped_by(raised)),
            None => Signals.check(),
        }
    }
}

/// What a materialization over `start` to `end` is asked for; `start` is `None` for an
/// incremental run, which begins `overlap` earlier than where the last one ended. Times are
/// microseconds, since the epoch.
pub fn request(
    views: Vec<String>,
    start: Option<i64>,
    end: i64,
    overlap: i64,
    disable_event_timestamp: bool,
) -> MaterializeRequest {
    let window = match start {
        Some(start) => Window::Full { start, end },
        None => Window::Incremental { end, now: now_micros(), overlap },
    };
    let every_row_until = disable_event_timestamp.then(now_micros);
    MaterializeRequest { views: Some(views), window, every_row_until }
}

/// The views that were done, and the exceptions of those that failed.
pub type Outcome = (Vec<ViewReport>, Vec<(String, PyErr)>);

/// The same as Python objects.
pub type PyOutcome = (Vec<ViewReport>, Vec<(String, Py<PyBaseException>)>);

/// Runs `request`, telling `progress`. Nothing is recorded in a registry that was given: who
/// gave it does that.
pub fn run(
    request: &MaterializeRequest,
    registry: &RegistryCache,
    online: &dyn OnlineStore,
    config: &RepoConfig,
    progress: Py<PyAny>,
) -> Result<Outcome> {
    let watcher = Watcher::new(progress);
    let call = Call { deadline: None, interrupt: &watcher };
    let kept_by_others = KeptByOthers(registry);
    let ledger: &dyn Ledger = if registry.is_given() { &kept_by_others } else { registry };
    let report = materialize::materialize(request, ledger, online, config, &watcher, &call)?;
    let done = report.views.into_iter().map(|report| ViewReport { report }).collect();
    let failed = report.failures.into_iter().map(|failure| (failure.view, failure.error.into()));
    Ok((done, failed.collect()))
}

/// Joins the recorded intervals of views; the names of those changed, and how many intervals each
/// had and has.
pub fn compact_intervals(
    registry: &RegistryCache,
    views: Option<Vec<String>>,
    call: Call<'_>,
) -> Result<Vec<(String, usize, usize)>> {
    let catalog = registry.refresh(call)?;
    let views = match views {
        Some(names) => names.iter().map(|name| catalog.view(name)).collect::<Result<Vec<_>>>()?,
        None => catalog.views.iter().collect(),
    };
    let mut changed = Vec::new();
    for view in views {
        let before = view.materialization_intervals.len();
        if registry::compact_intervals(&view.materialization_intervals).len() == before {
            continue;
        }
        let after = registry.compact_intervals(call, &view.name)?;
        let after = after.view(&view.name)?.materialization_intervals.len();
        changed.push((view.name.clone(), before, after));
    }
    Ok(changed)
}
