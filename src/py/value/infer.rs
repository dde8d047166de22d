//! The value type that Feast infers from Python objects
//! (`feast/type_map.py::python_type_to_feast_value_type`).

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyString};

use super::keys::shown;
use crate::error::{Error, ErrorKind, Result};
use crate::value::ValueType;

/// The type of the first value that is not null, and not an empty collection if another is not.
pub(super) fn infer_type(values: &Bound<'_, PyList>, name: &str) -> Result<ValueType> {
    let samples = || values.iter().filter(|value| !value.is_none());
    let Some(first) = samples().next() else {
        let message = format!("join key '{name}' has only nulls, so its type can't be inferred");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    };
    samples().find_map(|sample| type_of(&sample)).ok_or_else(|| {
        let message = format!(
            "'{name}' of the entity rows: no value type can be inferred for {}",
            shown(&first)
        );
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

/// The type of a value; `None` where Feast has no type for it.
pub(super) fn type_of(value: &Bound<'_, PyAny>) -> Option<ValueType> {
    let name = value.get_type().name().ok()?.to_string().to_lowercase();
    if let Some(value_type) = scalar_type(&name) {
        return Some(value_type);
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let first = dict.keys().iter().next();
        return Some(match first {
            Some(key) if !key.is_instance_of::<PyString>() => ValueType::ScalarMap,
            _ => ValueType::Map,
        });
    }
    if value.is_instance_of::<PySet>() {
        let first = value.try_iter().ok()?.next()?.ok()?;
        return set_of(type_of(&first)?);
    }
    if value.is_instance_of::<PyList>() || name == "ndarray" {
        let first = value.try_iter().ok()?.next()?.ok()?;
        return type_of(&first)?.list_of();
    }
    None
}

fn scalar_type(name: &str) -> Option<ValueType> {
    Some(match name {
        "int" | "int64" | "uint64" | "uint32" => ValueType::Int64,
        "int32" | "int16" | "uint16" | "uint8" | "int8" => ValueType::Int32,
        "str" | "str_" | "string" => ValueType::String,
        "float" | "float64" => ValueType::Double,
        "float32" => ValueType::Float,
        "bytes" => ValueType::Bytes,
        "bool" | "bool_" | "boolean" => ValueType::Bool,
        "timedelta" | "timestamp" | "datetime" | "date" | "datetime64" => ValueType::UnixTimestamp,
        "uuid" => ValueType::Uuid,
        "decimal" => ValueType::Decimal,
        _ => return None,
    })
}

fn set_of(element: ValueType) -> Option<ValueType> {
    let name = format!("{}_SET", element.name());
    ValueType::ALL.iter().copied().find(|value_type| value_type.name() == name)
}
