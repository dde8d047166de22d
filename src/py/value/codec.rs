//! The codecs one by one, for the tests that hold them against golden bytes of stock Feast, and
//! for whoever wants to look into a store.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::from_python::python_to_wire;
use super::{column_to_list, list_to_column};
use crate::key::{KeyEncoder, KeyVersion};
use crate::value::ValueType;
use crate::value::wire::ColumnDecoder;

/// Adds the functions of this file.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(decode_values, module)?)?;
    module.add_function(wrap_pyfunction!(encode_value, module)?)?;
    module.add_function(wrap_pyfunction!(encode_entity_keys, module)?)?;
    module.add_function(wrap_pyfunction!(field_name, module)?)
}

/// Python objects of serialized `feast.types.Value` messages of one value type ("INT64_LIST").
#[pyfunction]
fn decode_values<'py>(
    py: Python<'py>,
    value_type: &str,
    values: Vec<Bound<'py, PyBytes>>,
) -> PyResult<Bound<'py, PyList>> {
    let mut decoder = ColumnDecoder::new(named(value_type)?, values.len());
    for value in &values {
        decoder.push(value.as_bytes())?;
    }
    column_to_list(py, &decoder.finish()?)
}

/// A Python object as a serialized `feast.types.Value` of a value type; empty for null.
#[pyfunction]
fn encode_value<'py>(value_type: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = python_to_wire(value, named(value_type)?)?;
    Ok(PyBytes::new(value.py(), &bytes))
}

/// Entity keys of rows: for each join key its name, value type and values, one for each row.
#[pyfunction]
fn encode_entity_keys<'py>(
    py: Python<'py>,
    join_keys: Vec<(String, String, Bound<'py, PyAny>)>,
    version: u8,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let version = match version {
        2 => KeyVersion::V2,
        3 => KeyVersion::V3,
        _ => return Err(PyValueError::new_err("versions of the entity key are 2 and 3")),
    };
    let mut types = Vec::with_capacity(join_keys.len());
    let mut columns = Vec::with_capacity(join_keys.len());
    for (name, value_type, values) in join_keys {
        let value_type = named(&value_type)?;
        columns.push(list_to_column(&values, Some(value_type), &name)?.values);
        types.push((name, value_type));
    }
    let keys = KeyEncoder::new(version, &types)?.encode(&columns)?;
    Ok(keys.iter().map(|key| PyBytes::new(py, key)).collect())
}

/// The Redis field of a feature, four bytes.
#[pyfunction]
fn field_name<'py>(py: Python<'py>, view: &str, feature: &str) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &crate::hash::field_name(view, feature))
}

fn named(value_type: &str) -> PyResult<ValueType> {
    let found = ValueType::ALL.iter().copied().find(|known| known.name() == value_type);
    found.ok_or_else(|| PyValueError::new_err(format!("no value type is named '{value_type}'")))
}
