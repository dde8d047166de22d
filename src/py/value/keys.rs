//! Entity-key values of a request to a column, with Feast's coercions: `int("1")`, `int(1.9)`,
//! `int(True)`, `str(7)`. What Feast can't use, or stores as null, is an error that names key,
//! row and value.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, TimestampSecondArray,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyList, PyString};

use super::from_python::python_to_wire;
use super::infer::infer_type;
use crate::error::{Error, ErrorKind, Result};
use crate::value::wire::ColumnDecoder;
use crate::value::{Column, Layout, ValueType, arrow};

/// The values of the key `name` as a column of `value_type`; `None`: of the type that Feast
/// infers. Takes a list or another sequence, a NumPy array, a pandas Series, or an Arrow array.
/// A value that can't be used gives an error of kind `InvalidArgument`.
pub fn list_to_column(
    values: &Bound<'_, PyAny>,
    value_type: Option<ValueType>,
    name: &str,
) -> Result<Column> {
    if !values.is_instance_of::<PyList>()
        && let Some(column) = from_arrow(values, value_type, name)?
    {
        return Ok(column);
    }
    let list = as_list(values).map_err(|why| not_a_list(name, &why))?;
    let value_type = match value_type {
        Some(value_type) => value_type,
        None => infer_type(&list, name)?,
    };
    let values = match value_type {
        ValueType::Int64 => integers(&list, value_type, name)?,
        ValueType::Int32 => int32s(&list, name)?,
        ValueType::UnixTimestamp => {
            let seconds = collect(&list, value_type, name, seconds)?;
            Arc::new(TimestampSecondArray::from(seconds).with_timezone("UTC"))
        }
        ValueType::String => {
            let texts = collect(&list, value_type, name, |value| match value.cast::<PyString>() {
                Ok(text) => text.to_str().map(str::to_owned),
                Err(_) => Ok(value.str()?.to_str()?.to_owned()),
            })?;
            Arc::new(StringArray::from_iter_values(texts))
        }
        ValueType::Bytes => {
            let bytes = collect(&list, value_type, name, |value| {
                Ok(value.cast::<PyBytes>()?.as_bytes().to_vec())
            })?;
            Arc::new(BinaryArray::from_iter_values(bytes))
        }
        _ => return through_wire(&list, value_type, name),
    };
    Ok(Column { value_type, layout: Layout::Typed, values })
}

/// The values as a column where all are plain integers and an INT64 is declared; else `None`.
pub fn plain_integers(
    values: &[Bound<'_, PyAny>],
    value_type: Option<ValueType>,
) -> Option<Column> {
    let value_type = value_type.filter(|declared| *declared == ValueType::Int64)?;
    let integer = |value: &Bound<'_, PyAny>| match value.is_exact_instance_of::<PyInt>() {
        true => value.extract::<i64>().ok(),
        false => None,
    };
    let numbers = values.iter().map(integer).collect::<Option<Vec<_>>>()?;
    let values = Arc::new(Int64Array::from(numbers));
    Some(Column { value_type, layout: Layout::Typed, values })
}

/// The values of `name`, which are part of no key: request data, or what only comes back in the
/// answer. Of the type that Feast infers; they may be null.
pub fn list_to_shown(values: &Bound<'_, PyAny>, name: &str) -> Result<Column> {
    let list = as_list(values).map_err(|why| not_a_list(name, &why))?;
    if list.iter().all(|value| value.is_none()) {
        let values = Arc::new(StringArray::new_null(list.len()));
        return Ok(Column { value_type: ValueType::String, layout: Layout::Typed, values });
    }
    let value_type = infer_type(&list, name)?;
    let mut decoder = ColumnDecoder::new(value_type, list.len());
    for value in list.iter() {
        let bytes = python_to_wire(&value, value_type)
            .map_err(|error| error.context(format!("column '{name}' of the entity rows")))?;
        decoder.push(&bytes)?;
    }
    decoder.finish()
}

fn from_arrow(
    values: &Bound<'_, PyAny>,
    value_type: Option<ValueType>,
    name: &str,
) -> Result<Option<Column>> {
    let Some(value_type) = value_type else { return Ok(None) };
    if !values.hasattr("__arrow_c_array__").unwrap_or(false) {
        return Ok(None);
    }
    let array: pyo3_arrow::PyArray = values.extract().map_err(|why| not_a_list(name, &why))?;
    let column = arrow::to_column(array.array(), value_type, &format!("entity_rows: {name}"))?;
    match (0..column.len()).find(|row| column.is_null(*row)) {
        None => Ok(Some(column)),
        Some(row) => Err(refused(name, row, "null", value_type, "it is null")),
    }
}

/// The values as a list of objects that remember their type.
fn as_list<'py>(values: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    if let Ok(list) = values.cast::<PyList>() {
        return Ok(list.clone());
    }
    if values.is_instance_of::<PyString>() || values.is_instance_of::<PyBytes>() {
        return Err(PyValueError::new_err("it is one value, not a list of values"));
    }
    values.py().get_type::<PyList>().call1((values,))?.cast_into().map_err(PyErr::from)
}

fn integers(list: &Bound<'_, PyList>, value_type: ValueType, name: &str) -> Result<ArrayRef> {
    let numbers =
        collect(list, value_type, name, |value| match value.is_exact_instance_of::<PyInt>() {
            true => value.extract::<i64>(),
            false => python_int(value)?.extract::<i64>(),
        })?;
    Ok(Arc::new(Int64Array::from(numbers)))
}

fn int32s(list: &Bound<'_, PyList>, name: &str) -> Result<ArrayRef> {
    let number = |value: &Bound<'_, PyAny>| python_int(value)?.extract::<i32>();
    Ok(Arc::new(Int32Array::from(collect(list, ValueType::Int32, name, number)?)))
}

/// `int(value)`; of a pandas Timestamp its seconds, as Feast has it.
pub(super) fn python_int<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let number = match value.get_type().name()?.to_str()? {
        "Timestamp" => value.call_method0("timestamp")?,
        _ => value.clone(),
    };
    value.py().get_type::<PyInt>().call1((number,))
}

/// Whole seconds since the epoch, floored; a naive datetime is UTC.
pub(super) fn seconds(value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = value.py();
    if value.is_exact_instance_of::<PyInt>() {
        return value.extract();
    }
    if let Some(offset) = value.getattr_opt("utcoffset")? {
        let mut time = value.clone();
        if offset.call0()?.is_none() {
            let utc = py.import("datetime")?.getattr("timezone")?.getattr("utc")?;
            let zone = pyo3::types::PyDict::new(py);
            zone.set_item("tzinfo", utc)?;
            time = value.call_method("replace", (), Some(&zone))?;
        }
        return floor(&time.call_method0("timestamp")?);
    }
    if let Some(to_seconds) = value.getattr_opt("ToSeconds")? {
        return to_seconds.call0()?.extract();
    }
    if value.get_type().name()?.to_str()? == "datetime64" {
        let whole = value.call_method1("astype", ("datetime64[s]",))?;
        return whole.call_method1("astype", ("int64",))?.call_method0("item")?.extract();
    }
    if let Ok(number) = value.cast::<pyo3::types::PyFloat>() {
        return floor(number.as_any());
    }
    python_int(value)?.extract()
}

fn floor(number: &Bound<'_, PyAny>) -> PyResult<i64> {
    number.py().import("math")?.call_method1("floor", (number,))?.extract()
}

/// Types that no key has: by the general way, through serialized values.
fn through_wire(list: &Bound<'_, PyList>, value_type: ValueType, name: &str) -> Result<Column> {
    let rows = collect(list, value_type, name, |value| Ok(python_to_wire(value, value_type)?))?;
    let mut decoder = ColumnDecoder::new(value_type, rows.len());
    for row in &rows {
        decoder.push(row)?;
    }
    decoder.finish()
}

fn collect<T>(
    list: &Bound<'_, PyList>,
    value_type: ValueType,
    name: &str,
    convert: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
) -> Result<Vec<T>> {
    let mut rows = Vec::with_capacity(list.len());
    for (row, value) in list.iter().enumerate() {
        let converted = match why_no_key(&value, value_type) {
            Some(why) => Err(PyValueError::new_err(why)),
            None => convert(&value),
        };
        rows.push(converted.map_err(|why| {
            let why = why.value(list.py()).to_string();
            refused(name, row, &shown(&value), value_type, &why)
        })?);
    }
    Ok(rows)
}

/// Why Feast would read the value as null, if it would.
fn why_no_key(value: &Bound<'_, PyAny>, value_type: ValueType) -> Option<&'static str> {
    if value.is_exact_instance_of::<PyInt>()
        || value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyBool>()
        || value.is_instance_of::<PyBytes>()
    {
        return None;
    }
    if value.is_none() {
        return Some("it is null");
    }
    if value.hasattr("__len__").unwrap_or(false) && value_type.is_key() {
        return Some("it is a collection");
    }
    // NaN, NaT and pandas' NA are all that does not equal itself.
    match value.eq(value) {
        Ok(true) => None,
        _ => Some("it is null"),
    }
}

pub(super) fn shown(value: &Bound<'_, PyAny>) -> String {
    let text = value.repr().map_or_else(|_| "a value".to_owned(), |text| text.to_string());
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cold]
fn refused(name: &str, row: usize, value: &str, value_type: ValueType, why: &str) -> Error {
    let message = format!(
        "join key '{name}', row {row}: {value} can't be used as {}: {why}",
        value_type.name()
    );
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cold]
fn not_a_list(name: &str, why: &PyErr) -> Error {
    let message = format!("the values of join key '{name}' can't be read as a list: {why}");
    Error::new(ErrorKind::InvalidArgument, message)
}
