//! Entity rows as Python gives them -> the columns of a read plan. Accepts what Feast accepts:
//! a list of dicts, or a dict of sequences.

use std::ffi::CStr;

use pyo3::exceptions::{PyTypeError, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyString};
use smallvec::SmallVec;

use crate::online::read::Entities;
use crate::online::{ReadPlan, RequestKey};

use super::plans::Prepared;
use super::{type_name, value};

const ENTITY_NAME_WARNING: &CStr =
    c"an entity's name in entity rows is deprecated, use its join key instead";

/// Converts entity rows; columns that no entity of the project knows are left out, as in Feast.
pub fn to_entities(prepared: &Prepared, entity_rows: &Bound<'_, PyAny>) -> PyResult<Entities> {
    let plan = prepared.reader.plan();
    if let Ok(list) = entity_rows.cast::<PyList>()
        && let Some((key, values)) = sole_key(prepared, list)?
    {
        let RequestKey { name, value_type, .. } = &plan.keys[key];
        let column = match value::plain_integers(&values, *value_type) {
            Some(column) => column,
            None => {
                let values = PyList::new(list.py(), values)?;
                value::list_to_column(values.as_any(), *value_type, name)?
            }
        };
        return Ok(Entities { columns: vec![(key, column)], rows: list.len() });
    }
    let (columns, rows) = match entity_rows.cast::<PyList>() {
        Ok(list) => columns_of_rows(list)?,
        Err(_) => columns_of_mapping(entity_rows)?,
    };
    let mut entities = Entities { columns: Vec::with_capacity(columns.len()), rows };
    for (name, values) in columns {
        let Some(key) = key_index(entity_rows.py(), plan, &name)? else { continue };
        let request_key = &plan.keys[key];
        let column = match request_key.is_needed {
            true => value::list_to_column(&values, request_key.value_type, &request_key.name)?,
            false => value::list_to_shown(&values, &request_key.name)?,
        };
        if column.values.len() != rows {
            return Err(unequal(&name, column.values.len(), rows));
        }
        // An entity's name and its join key may both be there: the later counts, as in Feast.
        match entities.columns.iter_mut().find(|(known, _)| *known == key) {
            Some((_, earlier)) => *earlier = column,
            None => entities.columns.push((key, column)),
        }
    }
    Ok(entities)
}

/// A key of the plan, and its values.
type KeyValues<'py> = (usize, SmallVec<[Bound<'py, PyAny>; 2]>);

/// The commonest request: rows that have one join key each, and no other is needed. `None` for
/// every other request.
fn sole_key<'py>(
    prepared: &Prepared,
    rows: &Bound<'py, PyList>,
) -> PyResult<Option<KeyValues<'py>>> {
    let Some((key, name)) = prepared.sole_key(rows.py()) else { return Ok(None) };
    let mut values = SmallVec::with_capacity(rows.len());
    for row in rows.iter() {
        let Ok(row) = row.cast_into_exact::<PyDict>() else { return Ok(None) };
        match row.get_item(name)? {
            Some(value) if row.len() == 1 => values.push(value),
            _ => return Ok(None),
        }
    }
    Ok((!values.is_empty()).then_some((key, values)))
}

type NamedValues<'py> = Vec<(String, Bound<'py, PyAny>)>;

fn columns_of_rows<'py>(rows: &Bound<'py, PyList>) -> PyResult<(NamedValues<'py>, usize)> {
    let py = rows.py();
    if rows.is_empty() {
        return Err(PyValueError::new_err(
            "entity_rows is empty; give at least one row, such as {'driver_id': 1001}",
        ));
    }
    let first = rows.get_item(0)?;
    let first = as_row(&first, 0)?;
    let names: Vec<Bound<'py, PyAny>> = first.keys().iter().collect();
    let lists: Vec<Bound<'py, PyList>> = names.iter().map(|_| PyList::empty(py)).collect();
    for (index, row) in rows.iter().enumerate() {
        let row = as_row(&row, index)?;
        for (name, list) in names.iter().zip(&lists) {
            match row.get_item(name)? {
                Some(value) => list.append(value)?,
                None => return Err(differing(index)),
            }
        }
        if row.len() != names.len() {
            return Err(differing(index));
        }
    }
    let columns = names
        .iter()
        .zip(lists)
        .map(|(name, list)| Ok((column_name(name)?, list.into_any())))
        .collect::<PyResult<_>>()?;
    Ok((columns, rows.len()))
}

fn columns_of_mapping<'py>(entity_rows: &Bound<'py, PyAny>) -> PyResult<(NamedValues<'py>, usize)> {
    let mapping = entity_rows.cast::<PyMapping>().map_err(|_| {
        PyTypeError::new_err(format!(
            "entity_rows is of type {}; give a list of dicts, or a dict of lists",
            type_name(entity_rows)
        ))
    })?;
    let mut columns = Vec::new();
    for item in mapping.items()?.iter() {
        let (name, values): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item.extract()?;
        let values = match values.getattr_opt("val")? {
            // A RepeatedValue message.
            Some(repeated) => repeated,
            None => values,
        };
        columns.push((column_name(&name)?, values));
    }
    let rows = match columns.first() {
        Some((name, values)) => length(name, values)?,
        None => {
            return Err(PyValueError::new_err(
                "entity_rows has no columns; give one for each join key, such as {'driver_id': [1001]}",
            ));
        }
    };
    if rows == 0 {
        return Err(PyValueError::new_err("entity_rows has no rows; give at least one"));
    }
    for (name, values) in &columns {
        let len = length(name, values)?;
        if len != rows {
            return Err(unequal(name, len, rows));
        }
    }
    Ok((columns, rows))
}

fn length(name: &str, values: &Bound<'_, PyAny>) -> PyResult<usize> {
    values.len().map_err(|_| {
        PyTypeError::new_err(format!(
            "the values of '{name}' are of type {}; give a list, one value for each row",
            type_name(values)
        ))
    })
}

fn as_row<'a, 'py>(row: &'a Bound<'py, PyAny>, index: usize) -> PyResult<&'a Bound<'py, PyDict>> {
    row.cast::<PyDict>().map_err(|_| {
        PyTypeError::new_err(format!(
            "entity_rows[{index}] is of type {}; give a dict of join keys and values",
            type_name(row)
        ))
    })
}

fn column_name(name: &Bound<'_, PyAny>) -> PyResult<String> {
    match name.cast::<PyString>() {
        Ok(name) => name.extract(),
        Err(_) => Err(PyTypeError::new_err(format!(
            "entity_rows has a key of type {}; join keys are strings",
            type_name(name)
        ))),
    }
}

fn key_index(py: Python<'_>, plan: &ReadPlan, name: &str) -> PyResult<Option<usize>> {
    if let Some(index) = plan.keys.iter().position(|key| key.name == name) {
        return Ok(Some(index));
    }
    let index = plan.keys.iter().position(|key| key.entity_name == name);
    if index.is_some() {
        PyErr::warn(py, &py.get_type::<PyUserWarning>(), ENTITY_NAME_WARNING, 3)?;
    }
    Ok(index)
}

#[cold]
fn differing(index: usize) -> PyErr {
    PyValueError::new_err(format!(
        "all entity_rows must have the same keys, but entity_rows[{index}] differs from the first"
    ))
}

#[cold]
fn unequal(name: &str, len: usize, rows: usize) -> PyErr {
    PyValueError::new_err(format!(
        "all entity columns must have the same number of rows, but '{name}' has {len} and the first {rows}"
    ))
}
