//! Without an entity frame: the entities that have rows in a time range, each as it was known at
//! the end of the range (`feast/utils.py::compute_non_entity_date_range`; Feast's stores that
//! read SQL choose the entities so).

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array,
    new_empty_array, new_null_array,
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_select::concat::concat;
use arrow_select::filter::filter;
use arrow_select::take::take;

use super::labels::TIME_COLUMN;
use super::plan::{HistoryPlan, HistoryView};
use super::search::BATCH_BYTES;
use super::sources::{Sources, feature_field, in_view};
use crate::call::{Call, now_micros};
use crate::error::{Error, ErrorKind, Result};
use crate::offline::asof::{KeyForm, KeyTable, NO_KEY};
use crate::offline::{Scan, SourceFiles, TimeWindow, Timestamps};

/// How far back is looked without a start and without a ttl.
const DEFAULT_RANGE: i64 = 30 * 86_400_000_000;
/// Keys that are collected before those that are there twice are thrown out.
const KEYS_AT_ONCE: usize = 1 << 20;

/// Microseconds since the epoch, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateRange {
    /// Where it begins; `None`: the longest ttl of the views before the end, else thirty days.
    pub start: Option<i64>,
    /// Where it ends; `None`: now.
    pub end: Option<i64>,
}

impl DateRange {
    fn window(self, plan: &HistoryPlan) -> Result<TimeWindow> {
        let end = self.end.unwrap_or_else(now_micros);
        let ttl = plan.views.iter().filter_map(|view| view.ttl_micros).max();
        let start = self.start.unwrap_or_else(|| end.saturating_sub(ttl.unwrap_or(DEFAULT_RANGE)));
        if start <= end {
            return Ok(TimeWindow { start, end });
        }
        let iso = |micros| match chrono::DateTime::from_timestamp_micros(micros) {
            Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string(),
            None => format!("{micros} us since 1970"),
        };
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("start_date, {}, lies after end_date, {}", iso(start), iso(end)),
        ))
    }

    /// Errors: a start after the end.
    pub fn check(self, plan: &HistoryPlan) -> Result<()> {
        self.window(plan).map(drop)
    }
}

/// An entity frame of the entities that have rows in `range`: their join keys, and the end of
/// the range as `event_timestamp`. Entities of views with other join keys have nulls there.
pub fn entities(
    plan: &HistoryPlan,
    sources: &Sources,
    range: DateRange,
    call: &Call<'_>,
) -> Result<RecordBatch> {
    let window = range.window(plan)?;
    let mut found: Vec<(Vec<&str>, Vec<ArrayRef>)> = Vec::new();
    for (index, view) in plan.views.iter().enumerate() {
        let names: Vec<&str> = view.join_keys.iter().map(|key| key.label_column.as_str()).collect();
        let keys =
            keys_of(view, sources.of(index), window, call).map_err(|error| in_view(view, error))?;
        match found.iter_mut().find(|(known, _)| *known == names) {
            Some((_, known)) => *known = distinct(&all(&[std::mem::take(known), keys])?)?,
            None => found.push((names, keys)),
        }
    }
    // A view without entity is one entity, that of no key.
    let without = found.iter().any(|(names, _)| names.is_empty());
    found.retain(|(names, _)| !names.is_empty());
    let rows: usize = found.iter().map(|(_, keys)| keys.first().map_or(0, Array::len)).sum();
    let rows = if found.is_empty() && without { 1 } else { rows };
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for name in plan.label_columns() {
        let column = column_of(name, &found)?;
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let times = TimestampMicrosecondArray::from_value(window.end, rows).with_timezone("UTC");
    fields.push(Field::new(TIME_COLUMN, times.data_type().clone(), true));
    columns.push(Arc::new(times));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(broken)
}

/// The column `name` of all groups of entities, one behind the other.
fn column_of(name: &str, found: &[(Vec<&str>, Vec<ArrayRef>)]) -> Result<ArrayRef> {
    let own = |(names, keys): &(Vec<&str>, Vec<ArrayRef>)| {
        names.iter().position(|known| *known == name).map(|place| keys[place].clone())
    };
    let data_type = found.iter().find_map(own).map(|keys| keys.data_type().clone());
    let data_type = data_type.unwrap_or(DataType::Null);
    let parts = found.iter().map(|group| match own(group) {
        Some(keys) => cast(&keys, &data_type).map_err(broken),
        None => Ok(new_null_array(&data_type, group.1.first().map_or(0, Array::len))),
    });
    let parts = parts.collect::<Result<Vec<ArrayRef>>>()?;
    let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
    concat(&parts).map_err(broken)
}

/// The keys of the view's rows in the window, each once, in the order of the source.
fn keys_of(
    view: &HistoryView,
    source: &SourceFiles,
    window: TimeWindow,
    call: &Call<'_>,
) -> Result<Vec<ArrayRef>> {
    let mut columns: Vec<String> =
        view.join_keys.iter().map(|key| key.source_column.clone()).collect();
    columns.push(view.event_column.clone());
    let scan = Scan {
        source,
        columns: &columns,
        window: Some((&view.event_column, window)),
        keys: &[],
        rows: None,
        batch_bytes: BATCH_BYTES,
    };
    let (mut parts, mut rows, mut limit) = (Vec::new(), 0, KEYS_AT_ONCE);
    scan.run(&mut |batch| {
        call.check()?;
        let Some((events, keys)) = batch.columns.split_last() else { return Ok(()) };
        let events = Timestamps::from_array(events, &view.event_column)?;
        let is_inside = |row| events.get(row).is_some_and(|event| window.contains(event));
        let inside = (0..events.len()).map(|row| Some(is_inside(row)));
        let inside = BooleanArray::from_iter(inside);
        let keys = keys.iter().map(|key| filter(key, &inside).map_err(broken));
        parts.push(keys.collect::<Result<Vec<_>>>()?);
        rows += inside.true_count();
        if rows > limit {
            parts = vec![distinct(&all(&parts)?)?];
            rows = parts[0].first().map_or(0, Array::len);
            limit = KEYS_AT_ONCE.max(2 * rows);
        }
        Ok(())
    })?;
    if !parts.is_empty() {
        return distinct(&all(&parts)?);
    }
    let keys = view.join_keys.iter().map(|key| &key.source_column);
    keys.map(|name| Ok(new_empty_array(feature_field(source, name, name)?.data_type()))).collect()
}

/// The parts of each column, one behind the other.
fn all(parts: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
    let Some(first) = parts.first() else { return Ok(Vec::new()) };
    let column = |place: usize| {
        let parts = parts.iter().map(|part| cast(&part[place], first[place].data_type()));
        let parts = parts.collect::<std::result::Result<Vec<ArrayRef>, _>>().map_err(broken)?;
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
        concat(&parts).map_err(broken)
    };
    (0..first.len()).map(column).collect()
}

/// The first row of each key; none of those with a part that is null.
fn distinct(keys: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let Some(rows) = keys.first().map(Array::len) else { return Ok(Vec::new()) };
    let values = keys.iter().map(|array| {
        let data_type = array.data_type();
        let form = KeyForm::common(data_type, data_type).ok_or_else(|| {
            let message = format!("a join key can't be of type {data_type}");
            Error::new(ErrorKind::SourceInvalid, message)
        })?;
        form.read(array, "")
    });
    let (table, ids) = KeyTable::number(&values.collect::<Result<Vec<_>>>()?, rows);
    let mut is_new = vec![true; table.len()];
    let first = |row: &usize| {
        let id = ids[*row];
        id != NO_KEY && std::mem::take(&mut is_new[id as usize])
    };
    let rows: UInt32Array = (0..rows).filter(first).map(|row| row as u32).collect();
    keys.iter().map(|array| take(array, &rows, None).map_err(broken)).collect()
}

#[cold]
fn broken(cause: ArrowError) -> Error {
    Error::new(ErrorKind::SourceInvalid, "join keys can't be put together").with_source(cause)
}
