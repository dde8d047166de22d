//! Any Python object as a serialized value of a declared type: what a push has to store.

use std::borrow::Cow;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyString};

use super::infer::type_of;
use super::keys::seconds;
use crate::error::{Error, ErrorKind, Result};
use crate::value::ValueType;
use crate::value::wire::{Entries, NOT_A_TIME, Value};

/// The object, serialized as a `feast.types.Value` of `value_type`; empty for what Feast stores
/// as null (None, NaN, NaT). What can't be converted gives an error of kind `TypeMismatch`.
pub fn python_to_wire(object: &Bound<'_, PyAny>, value_type: ValueType) -> Result<Vec<u8>> {
    match value(object, value_type) {
        Ok(value) => Ok(value.to_bytes()),
        Err(why) => {
            let message = format!(
                "{} can't be stored as {}: {}",
                super::keys::shown(object),
                value_type.name(),
                why.value(object.py())
            );
            Err(Error::new(ErrorKind::TypeMismatch, message))
        }
    }
}

fn value(object: &Bound<'_, PyAny>, value_type: ValueType) -> PyResult<Value<'static>> {
    if is_null(object) {
        return Ok(Value::Null);
    }
    if let Some(element) = value_type.element() {
        return items(object, value_type, element);
    }
    match value_type {
        ValueType::Map | ValueType::Struct => {
            Ok(Value::Map(value_type, entries(&parsed(object)?)?))
        }
        ValueType::MapList | ValueType::StructList => {
            let maps = parsed(object)?.try_iter()?.map(|map| entries(&map?));
            Ok(Value::Maps(value_type, maps.collect::<PyResult<_>>()?))
        }
        ValueType::ScalarMap => scalar_map(object),
        ValueType::ValueList | ValueType::ValueSet => nested(object, value_type),
        _ => scalar(object, value_type),
    }
}

/// None, NaN, NaT and NA: all that is nothing, or does not equal itself.
pub(super) fn is_null(object: &Bound<'_, PyAny>) -> bool {
    object.is_none()
        || !object.hasattr("__len__").unwrap_or(false) && !object.eq(object).unwrap_or(false)
}

/// Text is read as JSON, as Feast does for maps.
fn parsed<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match object.is_instance_of::<PyString>() {
        true => object.py().import("json")?.call_method1("loads", (object,)),
        false => Ok(object.clone()),
    }
}

fn scalar(object: &Bound<'_, PyAny>, value_type: ValueType) -> PyResult<Value<'static>> {
    let py = object.py();
    let int = || py.get_type::<PyInt>().call1((object,));
    let float = || py.get_type::<PyFloat>().call1((object,))?.extract::<f64>();
    Ok(match value_type {
        ValueType::Int32 => Value::Int32(int()?.extract()?),
        ValueType::Int64 => Value::Int64(int()?.extract()?),
        ValueType::Double if !object.is_instance_of::<PyString>() => Value::Double(float()?),
        ValueType::Float => Value::Float(float()? as f32),
        ValueType::Bool if object.hasattr("__bool__")? => Value::Bool(object.is_truthy()?),
        ValueType::Bytes => Value::Bytes(Cow::Owned(object.cast::<PyBytes>()?.as_bytes().to_vec())),
        ValueType::UnixTimestamp => Value::UnixTimestamp(seconds(object)?),
        ValueType::ZonedTimestamp => zoned(object)?,
        ValueType::Json => Value::Text(value_type, Cow::Owned(json(object)?)),
        ValueType::String | ValueType::Uuid | ValueType::TimeUuid | ValueType::Decimal => {
            Value::Text(value_type, Cow::Owned(object.str()?.to_str()?.to_owned()))
        }
        _ => return Err(PyTypeError::new_err(format!("it is of type {}", object.get_type()))),
    })
}

fn json(object: &Bound<'_, PyAny>) -> PyResult<String> {
    let module = object.py().import("json")?;
    match object.cast::<PyString>() {
        Ok(text) => {
            module.call_method1("loads", (text,))?;
            text.extract()
        }
        Err(_) => module.call_method1("dumps", (object,))?.extract(),
    }
}

fn zoned(object: &Bound<'_, PyAny>) -> PyResult<Value<'static>> {
    let zone = object.getattr("tzinfo")?;
    let name = match zone.is_none() {
        true => String::new(),
        false => match zone.getattr_opt("key")? {
            Some(key) if key.is_truthy()? => key.extract()?,
            _ => zone.str()?.extract()?,
        },
    };
    Ok(Value::ZonedTimestamp(seconds(object)?, Cow::Owned(name)))
}

fn items(
    object: &Bound<'_, PyAny>,
    value_type: ValueType,
    element: ValueType,
) -> PyResult<Value<'static>> {
    if object.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("it is text, not a collection"));
    }
    let mut found = Vec::new();
    for item in object.try_iter()? {
        let item = item?;
        found.push(match (item.is_none(), is_null(&item)) {
            (true, _) | (_, true) if !item.is_instance_of::<PyFloat>() => no_item(element)?,
            _ => scalar(&item, element)?,
        });
    }
    if value_type.is_set() {
        // As `set(value)`, which Feast makes of lists too.
        found.sort_by_cached_key(Value::to_bytes);
        found.dedup_by_key(|item| item.to_bytes());
    }
    Ok(Value::Items(value_type, found))
}

/// What Feast stores for None in a list.
fn no_item(element: ValueType) -> PyResult<Value<'static>> {
    Ok(match element {
        ValueType::String => Value::Text(element, Cow::Borrowed("")),
        ValueType::Json => Value::Text(element, Cow::Borrowed("null")),
        ValueType::Bytes => Value::Bytes(Cow::Borrowed(&[])),
        ValueType::Bool => Value::Bool(false),
        ValueType::Double => Value::Double(0.0),
        ValueType::Float => Value::Float(0.0),
        ValueType::Int32 => Value::Int32(0),
        ValueType::Int64 => Value::Int64(0),
        ValueType::UnixTimestamp => Value::UnixTimestamp(NOT_A_TIME),
        _ => return Err(PyValueError::new_err("a null among its elements")),
    })
}

fn entries(object: &Bound<'_, PyAny>) -> PyResult<Entries<'static>> {
    let dict = object.cast::<PyDict>()?;
    let mut entries = Vec::with_capacity(dict.len());
    for (key, item) in dict.iter() {
        entries.push((Cow::Owned(key.extract()?), inferred(&item)?));
    }
    Ok(entries)
}

fn scalar_map(object: &Bound<'_, PyAny>) -> PyResult<Value<'static>> {
    let dict = object.cast::<PyDict>()?;
    let mut entries = Vec::with_capacity(dict.len());
    for (key, item) in dict.iter() {
        let key_type = type_of(&key).filter(|key_type| *key_type != ValueType::String);
        let key_type = key_type.ok_or_else(|| PyTypeError::new_err("a key of another type"))?;
        let key_type = match key.get_type().name()?.to_str()? {
            // Feast tells only int32 apart; every other whole number is int64.
            "int16" | "int8" | "uint16" | "uint8" => ValueType::Int64,
            _ => key_type,
        };
        entries.push((scalar(&key, key_type)?, inferred(&item)?));
    }
    Ok(Value::ScalarMap(entries))
}

/// A value within a map, whose type nobody declared.
fn inferred(object: &Bound<'_, PyAny>) -> PyResult<Value<'static>> {
    if object.is_none() {
        return Ok(Value::Null);
    }
    if object.hasattr("__len__")?
        && !object.is_instance_of::<PyDict>()
        && object.len()? == 0
        && type_of(object).is_none()
    {
        return Ok(Value::Nested(ValueType::ValueList, Vec::new()));
    }
    match type_of(object) {
        Some(value_type) => value(object, value_type),
        None => nested(object, ValueType::ValueList),
    }
}

fn nested(object: &Bound<'_, PyAny>, value_type: ValueType) -> PyResult<Value<'static>> {
    if object.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err("it is text, not a collection"));
    }
    let list = |item: PyResult<Bound<'_, PyAny>>| {
        let item = item?;
        if item.is_none() {
            return Ok(Value::Null);
        }
        inferred(&item.py().get_type::<pyo3::types::PyList>().call1((&item,))?)
    };
    Ok(Value::Nested(value_type, object.try_iter()?.map(list).collect::<PyResult<_>>()?))
}
