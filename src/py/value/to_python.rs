//! Columns to lists of Python objects. The type is looked at once; plain types are made
//! straight from the column's memory.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int32Type, Int64Type, TimestampSecondType,
};
use arrow_array::{Array, PrimitiveArray};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PySet, PyString};

use crate::online::found::Values;
use crate::value::text::offset_seconds;
use crate::value::wire::{Entries, NOT_A_TIME, PlainValues, Value};
use crate::value::{Column, Layout, ValueType};

/// The rows as Python objects; see [`column_to_list`].
pub fn to_list<'py>(py: Python<'py>, values: &Values<'_>) -> PyResult<Bound<'py, PyList>> {
    match values {
        Values::Plain(PlainValues::Doubles(values)) => {
            PyList::new(py, values.iter().map(|value| PyFloat::new(py, *value)))
        }
        Values::Plain(PlainValues::Integers(values)) => {
            PyList::new(py, values.iter().map(|value| PyInt::new(py, *value)))
        }
        Values::Plain(PlainValues::Times(values)) => {
            let times = values.iter().map(|second| time(py, *second));
            PyList::new(py, times.collect::<PyResult<Vec<_>>>()?)
        }
        Values::Column(column) => column_to_list(py, column),
    }
}

/// The rows as Python objects, `None` for null: int, float, bool, str, bytes, aware datetimes,
/// `uuid.UUID`, `decimal.Decimal`, lists, sets, dicts and parsed JSON, as Feast gives them.
pub fn column_to_list<'py>(py: Python<'py>, column: &Column) -> PyResult<Bound<'py, PyList>> {
    let values = &column.values;
    if column.layout == Layout::Wire {
        return cells(py, column);
    }
    match column.value_type {
        ValueType::Int32 => {
            numbers(py, values.as_primitive::<Int32Type>(), |n| PyInt::new(py, n).into_any())
        }
        ValueType::Int64 => {
            numbers(py, values.as_primitive::<Int64Type>(), |n| PyInt::new(py, n).into_any())
        }
        ValueType::Double => {
            numbers(py, values.as_primitive::<Float64Type>(), |n| PyFloat::new(py, n).into_any())
        }
        ValueType::Float => numbers(py, values.as_primitive::<Float32Type>(), |n| {
            PyFloat::new(py, f64::from(n)).into_any()
        }),
        ValueType::Bool => {
            let rows = values.as_boolean();
            PyList::new(py, rows.iter().map(|bit| bit.map(|bit| PyBool::new(py, bit))))
        }
        ValueType::String => PyList::new(
            py,
            values.as_string::<i32>().iter().map(|t| t.map(|t| PyString::new(py, t))),
        ),
        ValueType::Bytes => PyList::new(
            py,
            values.as_binary::<i32>().iter().map(|b| b.map(|b| PyBytes::new(py, b))),
        ),
        ValueType::UnixTimestamp => {
            let times = values.as_primitive::<TimestampSecondType>();
            let rows = times.iter().map(|second| second.map(|second| time(py, second)).transpose());
            PyList::new(py, rows.collect::<PyResult<Vec<_>>>()?)
        }
        ValueType::DoubleList => {
            lists::<Float64Type>(py, column, |n| PyFloat::new(py, n).into_any())
        }
        ValueType::FloatList => {
            lists::<Float32Type>(py, column, |n| PyFloat::new(py, f64::from(n)).into_any())
        }
        ValueType::Int64List => lists::<Int64Type>(py, column, |n| PyInt::new(py, n).into_any()),
        _ => cells(py, column),
    }
}

fn numbers<'py, T: ArrowPrimitiveType>(
    py: Python<'py>,
    rows: &PrimitiveArray<T>,
    make: impl Fn(T::Native) -> Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    match rows.null_count() {
        0 => PyList::new(py, rows.values().iter().map(|number| make(*number))),
        _ => PyList::new(py, rows.iter().map(|number| number.map(&make))),
    }
}

fn lists<'py, T: ArrowPrimitiveType>(
    py: Python<'py>,
    column: &Column,
    make: impl Fn(T::Native) -> Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let rows = column.values.as_list::<i32>();
    let items = rows.values().as_primitive::<T>();
    if items.null_count() > 0 {
        return cells(py, column);
    }
    let list = PyList::empty(py);
    for (row, window) in rows.offsets().windows(2).enumerate() {
        let items = match window {
            [start, end] if rows.is_valid(row) => {
                items.values().get(*start as usize..*end as usize)
            }
            _ => None,
        };
        match items {
            Some(items) => list.append(PyList::new(py, items.iter().map(|item| make(*item)))?)?,
            None => list.append(py.None())?,
        }
    }
    Ok(list)
}

fn cells<'py>(py: Python<'py>, column: &Column) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for row in 0..column.len() {
        let value = as_declared(column.cell(row)?, column.value_type);
        list.append(object(py, &value)?)?;
    }
    Ok(list)
}

// Older Feast stored UUIDs as plain text: the declared type says what they are.
fn as_declared(value: Value<'_>, declared: ValueType) -> Value<'_> {
    let element = declared.element().unwrap_or(declared);
    if !matches!(element, ValueType::Uuid | ValueType::TimeUuid) {
        return value;
    }
    match value {
        Value::Text(ValueType::String, text) if element == declared => Value::Text(element, text),
        Value::Items(stored, items)
            if stored.element() == Some(ValueType::String)
                && stored.is_set() == declared.is_set() =>
        {
            let items = items.into_iter().map(|item| as_declared(item, element)).collect();
            Value::Items(declared, items)
        }
        other => other,
    }
}

/// A serialized value of a feature that is declared as `declared`, as Feast gives it in Python;
/// the bytes themselves where they are no value, or one that Python can't hold.
pub fn stored_to_object<'py>(
    py: Python<'py>,
    bytes: &[u8],
    declared: ValueType,
) -> Bound<'py, PyAny> {
    let value = Value::parse(bytes).ok().map(|value| as_declared(value, declared));
    let made = value.and_then(|value| object(py, &value).ok());
    made.unwrap_or_else(|| PyBytes::new(py, bytes).into_any())
}

/// A value as Feast gives it in Python.
fn object<'py>(py: Python<'py>, value: &Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null | Value::UnixTimestamp(NOT_A_TIME) | Value::ZonedTimestamp(NOT_A_TIME, _) => {
            py.None().into_bound(py)
        }
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Text(value_type, text) => return text_object(py, *value_type, text),
        Value::Int32(number) => PyInt::new(py, *number).into_any(),
        Value::Int64(number) => PyInt::new(py, *number).into_any(),
        Value::Double(number) => PyFloat::new(py, *number).into_any(),
        Value::Float(number) => PyFloat::new(py, f64::from(*number)).into_any(),
        Value::Bool(bool) => PyBool::new(py, *bool).to_owned().into_any(),
        Value::UnixTimestamp(seconds) => return time(py, *seconds),
        Value::ZonedTimestamp(seconds, name) => {
            return class(py, &DATETIME)?
                .call_method1("fromtimestamp", (*seconds, zone(py, name)?));
        }
        Value::Items(value_type, items) => {
            let items = items.iter().map(|item| object(py, item)).collect::<PyResult<Vec<_>>>()?;
            match value_type.is_set() {
                true => PySet::new(py, items)?.into_any(),
                false => PyList::new(py, items)?.into_any(),
            }
        }
        Value::Map(_, entries) => dict(py, entries)?.into_any(),
        Value::Maps(_, maps) => {
            let maps = maps.iter().map(|map| dict(py, map)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, maps)?.into_any()
        }
        Value::Nested(_, items) => {
            let items = items.iter().map(|item| object(py, item)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, items)?.into_any()
        }
        Value::ScalarMap(entries) => {
            let dict = PyDict::new(py);
            for (key, value) in entries {
                dict.set_item(object(py, key)?, object(py, value)?)?;
            }
            dict.into_any()
        }
    })
}

fn dict<'py>(py: Python<'py>, entries: &Entries<'_>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in entries {
        dict.set_item(key.as_ref(), object(py, value)?)?;
    }
    Ok(dict)
}

fn text_object<'py>(
    py: Python<'py>,
    value_type: ValueType,
    text: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let text = PyString::new(py, text);
    match value_type {
        ValueType::Uuid | ValueType::TimeUuid => class(py, &UUID)?.call1((text,)),
        ValueType::Decimal => class(py, &DECIMAL)?.call1((text,)),
        // Text that is no JSON comes back as it is, as in Feast.
        ValueType::Json => {
            Ok(class(py, &JSON_LOADS)?.call1((&text,)).unwrap_or_else(|_| text.into_any()))
        }
        _ => Ok(text.into_any()),
    }
}

/// Seconds since the epoch as an aware datetime in UTC.
fn time(py: Python<'_>, seconds: i64) -> PyResult<Bound<'_, PyAny>> {
    class(py, &DATETIME)?.call_method1("fromtimestamp", (seconds, class(py, &UTC)?))
}

/// A zone by the name that Feast stored: a zone of the IANA database, or a fixed offset such as
/// "UTC-07:00"; UTC where it is neither (`feast/type_map.py::_zone_from_name`).
fn zone<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let utc = class(py, &UTC)?;
    if name.is_empty() {
        return Ok(utc.clone());
    }
    if let Ok(zone) = class(py, &ZONE_INFO)?.call1((name,)) {
        return Ok(zone);
    }
    let Some(seconds) = offset_seconds(name.trim()) else { return Ok(utc.clone()) };
    let delta = class(py, &TIMEDELTA)?.call1((0, seconds))?;
    class(py, &TIMEZONE)?.call1((delta,))
}

/// An attribute of a module, imported once in a process.
struct Attribute {
    module: &'static str,
    names: &'static [&'static str],
    found: PyOnceLock<Py<PyAny>>,
}

impl Attribute {
    const fn new(module: &'static str, names: &'static [&'static str]) -> Self {
        Attribute { module, names, found: PyOnceLock::new() }
    }
}

static DATETIME: Attribute = Attribute::new("datetime", &["datetime"]);
static TIMEDELTA: Attribute = Attribute::new("datetime", &["timedelta"]);
static TIMEZONE: Attribute = Attribute::new("datetime", &["timezone"]);
static UTC: Attribute = Attribute::new("datetime", &["timezone", "utc"]);
static ZONE_INFO: Attribute = Attribute::new("zoneinfo", &["ZoneInfo"]);
static UUID: Attribute = Attribute::new("uuid", &["UUID"]);
static DECIMAL: Attribute = Attribute::new("decimal", &["Decimal"]);
static JSON_LOADS: Attribute = Attribute::new("json", &["loads"]);

fn class<'py>(py: Python<'py>, attribute: &'static Attribute) -> PyResult<&'py Bound<'py, PyAny>> {
    let found = attribute.found.get_or_try_init(py, || {
        let module = py.import(attribute.module)?.into_any();
        let found =
            attribute.names.iter().try_fold(module, |object, name| object.getattr(*name))?;
        Ok::<_, PyErr>(found.unbind())
    })?;
    Ok(found.bind(py))
}
