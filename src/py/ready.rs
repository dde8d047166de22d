//! Rows as Feast's provider hands them to an online store: tuples of an `EntityKey` message, a
//! dict of `Value` messages by feature, the event timestamp and the created timestamp.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::call::Call;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyShape, KeyVersion};
use crate::materialize::plan::stored_features;
use crate::materialize::ready::{AmongRows, ReadyRows, write_ready};
use crate::store::{DeletedView, EqualTimestamps, OnlineStore, StoredView, WriteReport};

/// The rows, serialized: together those that have the same features.
pub fn rows(given: &Bound<'_, PyAny>) -> PyResult<Vec<ReadyRows>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut current = 0;
    for row in given.try_iter()? {
        let row = row?.cast_into::<PyTuple>()?;
        let values = row.get_item(1)?.cast_into::<PyDict>()?;
        if !groups.get(current).is_some_and(|group| group.takes(&values)) {
            let known = groups.iter().position(|group| group.takes(&values));
            current = known.unwrap_or(groups.len());
        }
        if current == groups.len() {
            groups.push(Group::new(&values)?);
        }
        groups[current].push(&row, &values)?;
    }
    Ok(groups.into_iter().map(|group| group.rows).collect())
}

struct Group<'py> {
    // As the dicts have them, in their order.
    names: Vec<Bound<'py, PyAny>>,
    rows: ReadyRows,
}

impl<'py> Group<'py> {
    fn new(values: &Bound<'py, PyDict>) -> PyResult<Self> {
        let names: Vec<_> = values.keys().iter().collect();
        let mut rows = ReadyRows::default();
        for name in &names {
            rows.features.push(name.cast::<PyString>()?.to_str()?.to_owned());
            rows.values.push(Default::default());
        }
        Ok(Group { names, rows })
    }

    fn takes(&self, values: &Bound<'py, PyDict>) -> bool {
        let is_same = |(name, key): (&Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            // Feast's rows share the strings.
            name.is(&key) || name.eq(key).unwrap_or(false)
        };
        values.len() == self.names.len()
            && self.names.iter().zip(values.iter().map(|(key, _)| key)).all(is_same)
    }

    fn push(&mut self, row: &Bound<'py, PyTuple>, values: &Bound<'py, PyDict>) -> PyResult<()> {
        let rows = &mut self.rows;
        rows.keys.push(serialized(&row.get_item(0)?)?.as_bytes());
        rows.event_timestamps.push(micros(&row.get_item(2)?)?);
        let created = row.get_item(3)?;
        rows.created_timestamps.push(match created.is_none() || !created.eq(&created)? {
            // NaT is not equal to itself.
            true => None,
            false => Some(micros(&created)?),
        });
        for ((_, value), packed) in values.iter().zip(&mut rows.values) {
            packed.push(serialized(&value)?.as_bytes());
        }
        Ok(())
    }
}

fn serialized<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = message.call_method0(intern!(message.py(), "SerializeToString"))?;
    Ok(bytes.cast_into::<PyBytes>()?)
}

/// Microseconds since the epoch; a time without a zone is UTC.
fn micros(time: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = time.py();
    let offset = time.call_method0(intern!(py, "utcoffset"))?;
    let shift = match offset.is_none() {
        true => TimeDelta::zero(),
        false => offset.extract::<TimeDelta>()?,
    };
    let bare = match time.getattr(intern!(py, "tzinfo"))?.is_none() {
        true => time.extract::<NaiveDateTime>()?,
        false => {
            let replaced = PyDict::new(py);
            replaced.set_item(intern!(py, "tzinfo"), py.None())?;
            let bare = time.call_method(intern!(py, "replace"), (), Some(&replaced))?;
            bare.extract::<NaiveDateTime>()?
        }
    };
    let moment: DateTime<Utc> = (bare - shift).and_utc();
    Ok(moment.timestamp_micros())
}

/// Writes `groups` to the view that is stored under the name `view`.
pub fn write(
    view: &str,
    groups: &[ReadyRows],
    version: KeyVersion,
    config: &RepoConfig,
    online: &dyn OnlineStore,
    call: &Call<'_>,
) -> Result<WriteReport> {
    let mut report = WriteReport::default();
    for rows in groups {
        let part = write_ready(view, rows, version, among(config), online, call)?;
        report.written += part.written;
        report.older += part.older;
    }
    Ok(report)
}

fn among(config: &RepoConfig) -> AmongRows {
    let skips = match &config.online_store {
        OnlineStoreConfig::Redis(redis) if redis.skip_dedup => return AmongRows::Last,
        OnlineStoreConfig::Redis(redis) => redis.equal_timestamps_skip,
        OnlineStoreConfig::Sqlite(sqlite) => sqlite.equal_timestamps_skip,
        _ => false,
    };
    AmongRows::Newest(if skips { EqualTimestamps::Skip } else { EqualTimestamps::Overwrite })
}

/// A view to be deleted: the name that it is stored under, its features, its join keys.
pub type Deleted = (String, Vec<String>, Vec<String>);

/// What the store takes for `views`.
pub fn deleted(views: Vec<Deleted>, version: KeyVersion) -> Result<Vec<DeletedView>> {
    let deleted = |(name, features, join_keys): Deleted| {
        if join_keys.is_empty() {
            let message = format!("view '{name}' is to be deleted without any join keys");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let features = stored_features(&name, &name, features.iter().map(String::as_str))?;
        let keys = KeyShape::new(version, join_keys.iter().map(String::as_str));
        let timestamp_field = format!("_ts:{name}").into_bytes();
        Ok(DeletedView {
            stored: StoredView { name, features, timestamp_field, ttl_micros: None },
            keys,
        })
    };
    views.into_iter().map(deleted).collect()
}
