//! Lists of Python objects as Arrow arrays, for a value type that is declared: what a frame made
//! of lists has to become. Nulls (None, NaN, NaT) stay nulls, and whole numbers stay exact.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray, NullArray,
    StringArray, TimestampMicrosecondArray, TimestampSecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::Field;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDateTime, PyFloat, PyInt, PyList, PyString, PyTzInfo, PyTzInfoAccess,
};

use super::from_python::{is_null, python_to_wire};
use super::keys::{python_int, seconds, shown};
use crate::error::{Error, ErrorKind, Result};
use crate::value::{PackedBytes, ValueType};

const DAY_MICROS: i64 = 86_400_000_000;

/// Values as an array, or serialized where Arrow has no type for them.
pub enum Values {
    /// Of a type that can be coerced to the declared one.
    Array(ArrayRef),
    /// Each a serialized `feast.types.Value`; empty is null.
    Wire(PackedBytes),
}

/// The objects as values of `value_type`. One that can't be converted gives an error of kind
/// `TypeMismatch` that names `column`, row and value.
pub fn list_to_values(
    list: &Bound<'_, PyList>,
    value_type: ValueType,
    column: &str,
) -> Result<Values> {
    if list.iter().all(|object| is_null(&object)) {
        return Ok(Values::Array(Arc::new(NullArray::new(list.len()))));
    }
    if let Some(array) = scalars(list, value_type, column)? {
        return Ok(Values::Array(array));
    }
    if let Some(element) = value_type.element()
        && let Some(array) = lists(list, value_type, element, column)?
    {
        return Ok(Values::Array(array));
    }
    let mut values = PackedBytes::with_capacity(list.len(), 0);
    for (row, object) in list.iter().enumerate() {
        let named = |error: Error| error.context(format_args!("column '{column}', row {row}"));
        values.push(&python_to_wire(&object, value_type).map_err(named)?);
    }
    Ok(Values::Wire(values))
}

/// The objects as the times of a timestamp column: datetimes, dates, NumPy's times; ISO 8601
/// text; whole nanoseconds since the epoch. What has no zone is UTC.
pub fn list_to_times(list: &Bound<'_, PyList>, column: &str) -> Result<ArrayRef> {
    let present = || list.iter().filter(|object| !is_null(object));
    if present().any(|object| object.is_instance_of::<PyString>()) {
        let texts =
            collect(list, "a time", column, |object| Ok(object.str()?.to_str()?.to_owned()))?;
        return Ok(Arc::new(StringArray::from(texts)));
    }
    if present().all(|object| object.is_instance_of::<PyInt>()) {
        let nanos = collect(list, "a time", column, |object| object.extract::<i64>())?;
        return Ok(Arc::new(Int64Array::from(nanos)));
    }
    let epoch = epoch(list.py())?;
    let micros = collect(list, "a time", column, |object| micros(object, &epoch))?;
    Ok(Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")))
}

/// An array for a scalar type that Arrow has, in a form that coerces to it.
fn scalars(
    list: &Bound<'_, PyList>,
    value_type: ValueType,
    column: &str,
) -> Result<Option<ArrayRef>> {
    let name = value_type.name();
    Ok(Some(match value_type {
        ValueType::Int32 | ValueType::Int64 => {
            let numbers = collect(list, name, column, |object| {
                match object.is_exact_instance_of::<PyInt>() {
                    true => object.extract::<i64>(),
                    false => python_int(object)?.extract::<i64>(),
                }
            })?;
            Arc::new(Int64Array::from(numbers))
        }
        ValueType::Double | ValueType::Float => {
            let takes_text = value_type == ValueType::Float;
            let numbers = collect(list, name, column, |object| match object.cast::<PyFloat>() {
                Ok(number) => Ok(number.value()),
                Err(_) if object.is_instance_of::<PyString>() && !takes_text => {
                    Err(PyTypeError::new_err("it is text"))
                }
                Err(_) => object.py().get_type::<PyFloat>().call1((object,))?.extract(),
            })?;
            Arc::new(Float64Array::from(numbers))
        }
        ValueType::Bool => {
            let bits = collect(list, name, column, |object| match object.cast::<PyBool>() {
                Ok(bit) => Ok(bit.is_true()),
                Err(_) if object.hasattr("__bool__")? => object.is_truthy(),
                Err(_) => Err(PyTypeError::new_err("it is no boolean")),
            })?;
            Arc::new(BooleanArray::from(bits))
        }
        ValueType::String => {
            let texts = collect(list, name, column, |object| match object.cast::<PyString>() {
                Ok(text) => Ok(text.to_str()?.to_owned()),
                Err(_) => Ok(object.str()?.to_str()?.to_owned()),
            })?;
            Arc::new(StringArray::from(texts))
        }
        ValueType::Bytes => {
            let bytes = collect(list, name, column, |object| {
                Ok(object.cast::<PyBytes>()?.as_bytes().to_vec())
            })?;
            Arc::new(BinaryArray::from_iter(bytes))
        }
        ValueType::UnixTimestamp => {
            let times = collect(list, name, column, seconds)?;
            Arc::new(TimestampSecondArray::from(times).with_timezone("UTC"))
        }
        _ => return Ok(None),
    }))
}

/// Lists of one scalar type: all elements in one array, and where each list ends.
fn lists(
    list: &Bound<'_, PyList>,
    value_type: ValueType,
    element: ValueType,
    column: &str,
) -> Result<Option<ArrayRef>> {
    let items = PyList::empty(list.py());
    let mut lengths = Vec::with_capacity(list.len());
    for (row, object) in list.iter().enumerate() {
        let before = items.len();
        if !is_null(&object) {
            let refused = |why: PyErr| refused(&object, value_type.name(), column, row, &why);
            if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
                return Err(refused(PyTypeError::new_err("it is no collection")));
            }
            for item in object.try_iter().map_err(refused)? {
                let appended = item.and_then(|item| items.append(item));
                appended.map_err(refused)?;
            }
        }
        lengths.push(items.len() - before);
    }
    let named = |error: Error| error.context("elements of lists, counted through");
    let Some(array) = scalars(&items, element, column).map_err(named)? else { return Ok(None) };
    let nulls: NullBuffer = list.iter().map(|object| !is_null(&object)).collect();
    let field = Field::new_list_field(array.data_type().clone(), true);
    let offsets = OffsetBuffer::from_lengths(lengths);
    let array = ListArray::try_new(Arc::new(field), offsets, array, Some(nulls));
    let array = array.map_err(|cause| {
        Error::new(ErrorKind::Internal, format!("can't build column '{column}'")).with_source(cause)
    })?;
    Ok(Some(Arc::new(array)))
}

fn collect<T>(
    list: &Bound<'_, PyList>,
    kind: &str,
    column: &str,
    convert: impl Fn(&Bound<'_, PyAny>) -> PyResult<T>,
) -> Result<Vec<Option<T>>> {
    let mut values = Vec::with_capacity(list.len());
    for (row, object) in list.iter().enumerate() {
        if is_null(&object) {
            values.push(None);
            continue;
        }
        let value = convert(&object).map_err(|why| refused(&object, kind, column, row, &why))?;
        values.push(Some(value));
    }
    Ok(values)
}

fn epoch(py: Python<'_>) -> Result<Bound<'_, PyDateTime>> {
    let utc = PyTzInfo::utc(py).and_then(|utc| PyDateTime::from_timestamp(py, 0.0, Some(&utc)));
    utc.map_err(|why| Error::new(ErrorKind::Internal, format!("the epoch is not to be had: {why}")))
}

fn micros(object: &Bound<'_, PyAny>, epoch: &Bound<'_, PyDateTime>) -> PyResult<i64> {
    let py = object.py();
    if object.is_instance_of::<PyDateTime>() {
        let is_naive = object.call_method0("utcoffset")?.is_none();
        let time = match is_naive {
            false => object.clone(),
            true => {
                let zone = pyo3::types::PyDict::new(py);
                zone.set_item("tzinfo", epoch.get_tzinfo())?;
                object.call_method("replace", (), Some(&zone))?
            }
        };
        let since: chrono::TimeDelta = time.sub(epoch)?.extract()?;
        let micros = since.num_microseconds();
        return micros.ok_or_else(|| PyTypeError::new_err("it lies too far away"));
    }
    if let Ok(date) = object.extract::<chrono::NaiveDate>() {
        let days = date.signed_duration_since(chrono::NaiveDate::default()).num_days();
        return Ok(days * DAY_MICROS);
    }
    if object.get_type().name()?.to_str()? == "datetime64" {
        let whole = object.call_method1("astype", ("datetime64[us]",))?;
        return whole.call_method1("astype", ("int64",))?.call_method0("item")?.extract();
    }
    Err(PyTypeError::new_err("give a datetime"))
}

#[cold]
fn refused(object: &Bound<'_, PyAny>, kind: &str, column: &str, row: usize, why: &PyErr) -> Error {
    let message = format!(
        "column '{column}', row {row}: {} can't be stored as {kind}: {}",
        shown(object),
        why.value(object.py())
    );
    Error::new(ErrorKind::TypeMismatch, message)
}
