//! Verification from Python: choose, run, report.

use chrono::{DateTime, Utc};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::Result;
use crate::key::KeyValue;
use crate::offline::TimeWindow;
use crate::registry::Catalog;
use crate::store::OnlineStore;
use crate::verify::{
    Difference, Distribution, Example, FeatureReport, RowStatus, VerifyReport, VerifyRequest,
    ViewVerification, verify,
};

use super::materialize::{Finished, Watcher};
use super::value::stored_to_object;

/// The views that were compared, and the exceptions of those that could not be.
pub type PyVerified<'py> = (Vec<Bound<'py, PyDict>>, Vec<(String, Py<PyBaseException>)>);

/// What a verification is asked for; times are microseconds since the epoch.
pub fn request(
    views: Vec<String>,
    start: Option<i64>,
    end: Option<i64>,
    sample: Option<usize>,
    seed: u64,
    examples: usize,
) -> VerifyRequest {
    let window = TimeWindow { start: start.unwrap_or(i64::MIN), end: end.unwrap_or(i64::MAX) };
    VerifyRequest { views, window, sample, seed, examples }
}

/// Runs `request`, telling `progress`.
pub fn run(
    request: &VerifyRequest,
    catalog: &Catalog,
    online: &dyn OnlineStore,
    config: &RepoConfig,
    progress: Py<PyAny>,
) -> Result<VerifyReport> {
    let watcher = Watcher::new(progress);
    let call = Call { deadline: None, interrupt: &watcher };
    verify(request, catalog, online, config, &watcher, &call)
}

/// The report as Python takes it.
pub fn to_python(py: Python<'_>, report: VerifyReport) -> PyResult<PyVerified<'_>> {
    let views = report.views.iter().map(|view| view_to_python(py, view)).collect::<PyResult<_>>();
    let failures = report.failures.into_iter().map(|failure| {
        let error: PyErr = failure.error.into();
        (failure.view, error.into_value(py))
    });
    Ok((views?, failures.collect()))
}

impl Finished for ViewVerification {
    fn tell<'py>(&self, progress: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let findings = RowStatus::ALL.into_iter().filter(|status| status.is_finding());
        let findings: u64 = findings.map(|status| self.counts.of(status)).sum();
        let told = (&self.view, self.counts.total(), findings, self.seconds);
        progress.call_method1("view_verified", told)
    }
}

fn view_to_python<'py>(py: Python<'py>, view: &ViewVerification) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("view", &view.view)?;
    dict.set_item("start", view.window.and_then(|window| time(window.start)))?;
    dict.set_item("end", view.window.and_then(|window| time(window.end)))?;
    dict.set_item("is_materialized", view.window.is_some())?;
    dict.set_item("rows_read", view.rows_read)?;
    dict.set_item("null_keys", view.null_keys)?;
    dict.set_item("entities", view.entities)?;
    dict.set_item("entities_estimated", view.is_estimate)?;
    for status in RowStatus::ALL {
        dict.set_item(status.name(), view.counts.of(status))?;
    }
    let features = view.features.iter().map(|one| feature_to_python(py, one));
    dict.set_item("features", features.collect::<PyResult<Vec<_>>>()?)?;
    let examples = view.examples.iter().map(|one| example_to_python(py, one));
    dict.set_item("examples", examples.collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("seconds", view.seconds)?;
    Ok(dict)
}

fn feature_to_python<'py>(
    py: Python<'py>,
    feature: &FeatureReport,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("feature", &feature.feature)?;
    dict.set_item("value_type", feature.value_type.name())?;
    dict.set_item("compared", feature.compared)?;
    dict.set_item("different", feature.different)?;
    dict.set_item("absent", feature.absent)?;
    let drift = &feature.drift;
    dict.set_item("rows", drift.rows)?;
    dict.set_item("psi", drift.psi)?;
    dict.set_item("source", distribution_to_python(py, &drift.source)?)?;
    dict.set_item("online", distribution_to_python(py, &drift.online)?)?;
    let categories = drift.categories.iter().map(|one| (&one.value, one.source, one.online));
    dict.set_item("categories", categories.collect::<Vec<_>>())?;
    Ok(dict)
}

fn distribution_to_python<'py>(
    py: Python<'py>,
    side: &Distribution,
) -> PyResult<Bound<'py, PyDict>> {
    const NAMES: [&str; 5] = ["p5", "p25", "p50", "p75", "p95"];
    let dict = PyDict::new(py);
    let moments = side.moments.as_ref();
    dict.set_item("nulls", side.nulls)?;
    dict.set_item("mean", moments.map(|moments| moments.mean))?;
    dict.set_item("std", moments.and_then(|moments| moments.std))?;
    dict.set_item("min", moments.map(|moments| moments.min))?;
    dict.set_item("max", moments.map(|moments| moments.max))?;
    for (index, name) in NAMES.into_iter().enumerate() {
        dict.set_item(name, moments.map(|moments| moments.quantiles[index]))?;
    }
    Ok(dict)
}

fn example_to_python<'py>(py: Python<'py>, example: &Example) -> PyResult<Bound<'py, PyDict>> {
    let entity = PyDict::new(py);
    for (name, value) in &example.key {
        let value = match value {
            KeyValue::String(text) => PyString::new(py, text).into_any(),
            KeyValue::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
            KeyValue::Int32(number) => number.into_pyobject(py)?.into_any(),
            KeyValue::Int64(number) => number.into_pyobject(py)?.into_any(),
            KeyValue::UnixTimestamp(seconds) => {
                DateTime::from_timestamp(*seconds, 0).into_pyobject(py)?
            }
        };
        entity.set_item(name, value)?;
    }
    let differences = example.differences.iter().map(|one| difference_to_python(py, one));
    let dict = PyDict::new(py);
    dict.set_item("status", example.status.name())?;
    dict.set_item("entity", entity)?;
    dict.set_item("source_time", time(example.source_time))?;
    dict.set_item("online_time", example.online_time.and_then(time))?;
    dict.set_item("differences", differences.collect::<PyResult<Vec<_>>>()?)?;
    dict.set_item("reason", &example.reason)?;
    Ok(dict)
}

fn difference_to_python<'py>(py: Python<'py>, one: &Difference) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("feature", &one.feature)?;
    dict.set_item("problem", one.problem.name())?;
    dict.set_item("source", stored_to_object(py, &one.source, one.value_type))?;
    let online = one.online.as_ref();
    dict.set_item("online", online.map(|bytes| stored_to_object(py, bytes, one.value_type)))?;
    Ok(dict)
}

// Python's years end at 9999; what lies outside is told as none.
fn time(micros: i64) -> Option<DateTime<Utc>> {
    const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
    YEARS.contains(&micros).then(|| DateTime::from_timestamp_micros(micros)).flatten()
}
