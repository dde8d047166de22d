//! Registry objects as dicts of plain Python values; `feastrs.objects` makes its classes of
//! them.

use chrono::{DateTime, Utc};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyDict, PyList};

use crate::registry::catalog::{LoggingConfig, LoggingSetting, OnDemandSource, Project, Tags};
use crate::registry::{
    DataSource, Entity, FeatureService, FeatureView, Field, Projection, SourceKind, ViewKind,
    ViewVersion,
};
use crate::value::ValueType;

/// Feast's name for a type that is not known.
const UNKNOWN: (&str, u8) = ("UNKNOWN", 0);

/// Adds what `feastrs.objects` needs to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(value_type_names, module)?)
}

/// Names and numbers of the value types, as in Feast's Python enum.
#[pyfunction]
fn value_type_names() -> Vec<(&'static str, u8)> {
    ValueType::ALL
        .iter()
        .map(|&value_type| match value_type {
            ValueType::Invalid => UNKNOWN,
            other => (other.name(), other as u8),
        })
        .collect()
}

/// The keywords of `feastrs.objects.Project`.
pub fn project<'py>(py: Python<'py>, project: &Project) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &project.name)?;
    describe(&dict, &project.description, &project.tags, &project.owner)?;
    date(&dict, project.created_timestamp, project.last_updated_timestamp)?;
    Ok(dict)
}

/// The keywords of `feastrs.objects.Entity`.
pub fn entity<'py>(py: Python<'py>, entity: &Entity) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &entity.name)?;
    dict.set_item("join_key", &entity.join_key)?;
    dict.set_item("value_type", entity.value_type.map_or(UNKNOWN.1, |known| known as u8))?;
    describe(&dict, &entity.description, &entity.tags, &entity.owner)?;
    date(&dict, entity.created_timestamp, entity.last_updated_timestamp)?;
    Ok(dict)
}

/// The keywords of `feastrs.objects.DataSource`, and the kind.
pub fn data_source<'py>(py: Python<'py>, source: &DataSource) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("kind", source_kind(source.kind))?;
    dict.set_item("name", &source.name)?;
    dict.set_item("class_type", &source.class_type)?;
    dict.set_item("path", &source.path)?;
    dict.set_item("s3_endpoint_override", &source.s3_endpoint_override)?;
    dict.set_item("timestamp_field", &source.timestamp_field)?;
    dict.set_item("created_timestamp_column", &source.created_timestamp_column)?;
    dict.set_item("date_partition_column", &source.date_partition_column)?;
    dict.set_item("field_mapping", &source.field_mapping)?;
    dict.set_item("schema", fields(py, &source.schema)?)?;
    dict.set_item("batch_source", maybe_source(py, source.batch_source.as_deref())?)?;
    describe(&dict, &source.description, &source.tags, &source.owner)?;
    date(&dict, source.created_timestamp, source.last_updated_timestamp)?;
    Ok(dict)
}

/// The keywords of a view's class in `feastrs.objects`, and the kind.
pub fn feature_view<'py>(py: Python<'py>, view: &FeatureView) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("kind", view_kind(view.kind))?;
    dict.set_item("name", &view.name)?;
    dict.set_item("entities", &view.entities)?;
    dict.set_item("entity_columns", fields(py, &view.entity_columns)?)?;
    dict.set_item("features", fields(py, &view.features)?)?;
    dict.set_item("ttl", view.ttl.map(|ttl| delta(py, ttl)).transpose()?)?;
    dict.set_item("online", view.online)?;
    dict.set_item("offline", view.offline)?;
    dict.set_item("enabled", view.enabled)?;
    dict.set_item("state", view.state.name())?;
    dict.set_item("current_version_number", view.current_version_number)?;
    dict.set_item("batch_source", maybe_source(py, view.batch_source.as_ref())?)?;
    dict.set_item("stream_source", maybe_source(py, view.stream_source.as_ref())?)?;
    let intervals: Vec<_> =
        view.materialization_intervals.iter().map(|&(a, b)| (moment(a), moment(b))).collect();
    dict.set_item("materialization_intervals", intervals)?;
    dict.set_item("mode", &view.mode)?;
    describe(&dict, &view.description, &view.tags, &view.owner)?;
    date(&dict, view.created_timestamp, view.last_updated_timestamp)?;
    if view.kind == ViewKind::OnDemand {
        add_on_demand(&dict, view)?;
    }
    Ok(dict)
}

/// The keywords of `feastrs.objects.FeatureService`.
pub fn feature_service<'py>(
    py: Python<'py>,
    service: &FeatureService,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &service.name)?;
    let projections =
        service.projections.iter().map(|one| projection(py, one)).collect::<PyResult<Vec<_>>>()?;
    dict.set_item("feature_view_projections", projections)?;
    dict.set_item("precompute_online", service.precompute_online)?;
    if let Some(config) = &service.logging_config {
        dict.set_item("logging_config", logging_config(py, config)?)?;
    }
    describe(&dict, &service.description, &service.tags, &service.owner)?;
    date(&dict, service.created_timestamp, service.last_updated_timestamp)?;
    Ok(dict)
}

/// The keywords of `feastrs.objects.LoggingConfig`, with the destination's kind and settings.
fn logging_config<'py>(py: Python<'py>, config: &LoggingConfig) -> PyResult<Bound<'py, PyDict>> {
    let settings = PyDict::new(py);
    for (name, setting) in &config.settings {
        match setting {
            LoggingSetting::Text(text) => settings.set_item(name, text)?,
            LoggingSetting::Names(names) => settings.set_item(name, names)?,
        }
    }
    let dict = PyDict::new(py);
    dict.set_item("kind", &config.kind)?;
    dict.set_item("settings", settings)?;
    dict.set_item("sample_rate", config.sample_rate)?;
    Ok(dict)
}

/// One version of a view, as `feast.FeatureStore.list_feature_view_versions` gives it.
pub fn view_version<'py>(py: Python<'py>, version: &ViewVersion) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("version", format!("v{}", version.number))?;
    dict.set_item("version_number", version.number)?;
    dict.set_item("feature_view_type", &version.kind)?;
    dict.set_item("created_timestamp", moment(version.created_timestamp.unwrap_or(0)))?;
    dict.set_item("version_id", &version.version_id)?;
    Ok(dict)
}

/// Whether a view is of that kind; "all" is every kind.
pub fn is_of_kind(view: &FeatureView, kind: &str) -> bool {
    kind == "all" || kind == view_kind(view.kind)
}

fn add_on_demand(dict: &Bound<'_, PyDict>, view: &FeatureView) -> PyResult<()> {
    let py = dict.py();
    let (projections, requests) = (PyDict::new(py), PyDict::new(py));
    for (name, source) in &view.on_demand_sources {
        match source {
            OnDemandSource::View(one) => projections.set_item(name, projection(py, one)?)?,
            OnDemandSource::Request(one) => requests.set_item(name, data_source(py, one)?)?,
        }
    }
    dict.set_item("source_feature_view_projections", projections)?;
    dict.set_item("source_request_sources", requests)?;
    dict.set_item("write_to_online_store", view.write_to_online_store)?;
    dict.set_item("singleton", view.singleton)
}

fn projection<'py>(py: Python<'py>, projection: &Projection) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &projection.view)?;
    dict.set_item("name_alias", (!projection.alias.is_empty()).then_some(&projection.alias))?;
    dict.set_item("features", fields(py, &projection.features)?)?;
    dict.set_item("join_key_map", &projection.join_key_map)?;
    dict.set_item("version_tag", projection.version_tag)?;
    Ok(dict)
}

fn fields<'py>(py: Python<'py>, fields: &[Field]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for field in fields {
        let dict = PyDict::new(py);
        dict.set_item("name", &field.name)?;
        dict.set_item("dtype", &field.dtype)?;
        dict.set_item("description", &field.description)?;
        dict.set_item("tags", &field.tags)?;
        if let Some(vector) = &field.vector {
            dict.set_item("vector_index", vector.is_indexed)?;
            dict.set_item("vector_length", vector.length)?;
            dict.set_item("vector_search_metric", &vector.search_metric)?;
        }
        list.append(dict)?;
    }
    Ok(list)
}

fn maybe_source<'py>(
    py: Python<'py>,
    source: Option<&DataSource>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    source.map(|source| data_source(py, source)).transpose()
}

fn describe(dict: &Bound<'_, PyDict>, description: &str, tags: &Tags, owner: &str) -> PyResult<()> {
    dict.set_item("description", description)?;
    dict.set_item("tags", tags)?;
    dict.set_item("owner", owner)
}

fn date(dict: &Bound<'_, PyDict>, created: Option<i64>, updated: Option<i64>) -> PyResult<()> {
    dict.set_item("created_timestamp", created.map(moment))?;
    dict.set_item("last_updated_timestamp", updated.map(moment))
}

fn moment(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}

fn delta<'py>(py: Python<'py>, micros: i64) -> PyResult<Bound<'py, PyAny>> {
    const DAY: i64 = 86_400_000_000;
    const SECOND: i64 = 1_000_000;
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    // Both remainders are below a day, far inside i32.
    PyDelta::new(py, days, (rest / SECOND) as i32, (rest % SECOND) as i32, false)?
        .into_bound_py_any(py)
}

fn source_kind(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Parquet => "Parquet",
        SourceKind::OtherFile => "OtherFile",
        SourceKind::Push => "Push",
        SourceKind::Kafka => "Kafka",
        SourceKind::Kinesis => "Kinesis",
        SourceKind::Request => "Request",
        SourceKind::Other => "Other",
    }
}

/// Feast's kinds of views, by the words that `feastrs.objects` uses.
pub fn view_kind(kind: ViewKind) -> &'static str {
    match kind {
        ViewKind::Batch => "batch",
        ViewKind::Stream => "stream",
        ViewKind::OnDemand => "on_demand",
        ViewKind::Label => "label",
    }
}
