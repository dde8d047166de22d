//! Frames as Python gives them, to batches of a plan's columns: anything with an Arrow capsule,
//! pandas frames, dicts of columns, lists of dicts. pandas and NumPy columns of numbers and times
//! are taken from their memory; pandas' other columns go through pyarrow, as Feast has them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::types::{
    ArrowTimestampType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, RecordBatch, new_empty_array,
};
use arrow_buffer::NullBuffer;
use numpy::{
    Element, PyArray1, PyArrayDescrMethods, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString};
use pyo3_arrow::input::{AnyArray, AnyRecordBatch};

use crate::error::{Error, ErrorKind, Result};
use crate::materialize::frame::{Cells, FrameBatch, FrameColumn, FramePlan};

use super::type_name;
use super::value::{Values, list_to_times, list_to_values};

/// NumPy's NaT.
const NOT_A_TIME: i64 = i64::MIN;

/// A frame as it was given.
pub enum Given<'py> {
    /// Arrow memory.
    Batches(Vec<RecordBatch>),
    /// Columns by name, each of `rows` rows.
    Columns { columns: Vec<(String, Bound<'py, PyAny>)>, rows: usize },
}

impl<'py> Given<'py> {
    /// Takes a frame apart; a stream is read to its end.
    pub fn new(frame: &Bound<'py, PyAny>) -> PyResult<Self> {
        if is_pandas(frame)? {
            return of_pandas(frame);
        }
        if let Ok(list) = frame.cast::<PyList>() {
            return of_rows(list);
        }
        if frame.hasattr("__arrow_c_stream__")? || frame.hasattr("__arrow_c_array__")? {
            return arrow_batches(frame).map(Given::Batches);
        }
        match frame.cast::<PyMapping>() {
            Ok(mapping) => of_mapping(mapping),
            Err(_) => Err(PyTypeError::new_err(format!(
                "the frame is of type {}; give a pandas or polars DataFrame, a pyarrow table or \
                 anything else with __arrow_c_stream__, a dict of columns, or a list of dicts",
                type_name(frame)
            ))),
        }
    }

    /// The same with the levels of a pandas index that have names, as columns behind the others:
    /// whoever grouped or joined rows by a key has it there.
    pub fn with_index(frame: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut given = Self::new(frame)?;
        if let Given::Columns { columns, .. } = &mut given
            && is_pandas(frame)?
        {
            append_index(&frame.getattr(intern!(frame.py(), "index"))?, columns)?;
        }
        Ok(given)
    }

    /// The columns that `plan` takes.
    pub fn batches(&self, plan: &FramePlan) -> PyResult<Vec<FrameBatch>> {
        match self {
            Given::Batches(batches) => Ok(batches
                .iter()
                .map(|batch| FrameBatch::of(plan, batch))
                .collect::<Result<_>>()?),
            // Without rows there may be no columns, either.
            Given::Columns { rows: 0, .. } => Ok(Vec::new()),
            Given::Columns { columns, rows } => {
                let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
                let wanted = plan.columns().iter().zip(plan.locate(&names)?);
                let cells = wanted.map(|(column, place)| cells(&columns[place].1, column, *rows));
                Ok(vec![FrameBatch { columns: cells.collect::<PyResult<_>>()?, rows: *rows }])
            }
        }
    }
}

/// The batches of anything with an Arrow capsule.
pub fn arrow_batches(frame: &Bound<'_, PyAny>) -> PyResult<Vec<RecordBatch>> {
    let reader = frame.extract::<AnyRecordBatch>()?.into_reader()?;
    // Whoever makes the stream may want the GIL for each batch.
    let batches = frame.py().detach(|| reader.collect::<std::result::Result<_, _>>());
    Ok(batches.map_err(|cause| {
        let message = "the Arrow stream could not be read";
        Error::new(ErrorKind::InvalidArgument, message).with_source(cause)
    })?)
}

/// An instance of a class that only pandas has made: it need not be imported for others.
pub fn is_pandas(frame: &Bound<'_, PyAny>) -> PyResult<bool> {
    let modules = frame.py().import(intern!(frame.py(), "sys"))?.getattr("modules")?;
    let Ok(pandas) = modules.get_item(intern!(frame.py(), "pandas")) else { return Ok(false) };
    match pandas.getattr_opt(intern!(frame.py(), "DataFrame"))? {
        Some(class) => frame.is_instance(&class),
        // It is being imported at the moment.
        None => Ok(false),
    }
}

fn of_pandas<'py>(frame: &Bound<'py, PyAny>) -> PyResult<Given<'py>> {
    let mut columns = Vec::new();
    for item in frame.call_method0(intern!(frame.py(), "items"))?.try_iter()? {
        let (name, series) = item?.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
        // Other names are no feature's.
        if let Ok(name) = name.cast::<PyString>() {
            columns.push((name.to_str()?.to_owned(), series));
        }
    }
    Ok(Given::Columns { columns, rows: frame.len()? })
}

fn append_index<'py>(
    index: &Bound<'py, PyAny>,
    columns: &mut Vec<(String, Bound<'py, PyAny>)>,
) -> PyResult<()> {
    // Row numbers are nobody's key, whatever they are called.
    if index.get_type().name()? == "RangeIndex" {
        return Ok(());
    }
    for (level, name) in index.getattr("names")?.try_iter()?.enumerate() {
        if let Ok(name) = name?.cast::<PyString>() {
            let name = name.to_str()?.to_owned();
            if columns.iter().all(|(column, _)| *column != name) {
                let values = index.call_method1("get_level_values", (level,))?;
                columns.push((name, values.call_method0("to_series")?));
            }
        }
    }
    Ok(())
}

/// The columns are those of all rows, in the order in which they first come up; a row without
/// one has a null there, as in `pandas.DataFrame`.
fn of_rows<'py>(rows: &Bound<'py, PyList>) -> PyResult<Given<'py>> {
    let py = rows.py();
    let none = py.None().into_bound(py);
    let mut columns: Vec<(String, Bound<'py, PyList>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        let row = row.cast_into::<PyDict>().map_err(|other| {
            let given = other.into_inner();
            PyTypeError::new_err(format!(
                "row {index} of the frame is of type {}; in a list each row is a dict",
                type_name(&given)
            ))
        })?;
        for (name, value) in row.iter() {
            let Ok(name) = name.cast_into::<PyString>() else { continue };
            let place = match places.get(name.to_str()?) {
                Some(place) => *place,
                None => {
                    let nulls = PyList::new(py, std::iter::repeat_n(&none, index))?;
                    places.insert(name.to_str()?.to_owned(), columns.len());
                    columns.push((name.to_str()?.to_owned(), nulls));
                    columns.len() - 1
                }
            };
            columns[place].1.append(value)?;
        }
        for (_, column) in columns.iter().filter(|(_, column)| column.len() == index) {
            column.append(&none)?;
        }
    }
    let columns = columns.into_iter().map(|(name, column)| (name, column.into_any())).collect();
    Ok(Given::Columns { columns, rows: rows.len() })
}

/// Single values stand for every row, as in `pandas.DataFrame`.
fn of_mapping<'py>(mapping: &Bound<'py, PyMapping>) -> PyResult<Given<'py>> {
    let mut columns = Vec::new();
    let mut singles = Vec::new();
    let mut rows = None;
    for item in mapping.items()?.iter() {
        let (name, values) = item.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
        let Ok(name) = name.cast_into::<PyString>() else { continue };
        if is_single(&values)? {
            singles.push(columns.len());
        } else {
            rows.get_or_insert(values.len()?);
        }
        columns.push((name.to_str()?.to_owned(), values));
    }
    let Some(rows) = rows.or(columns.is_empty().then_some(0)) else {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "the frame is a dict of single values; give lists, also for one row",
        )
        .into());
    };
    for column in singles {
        let value = std::iter::repeat_n(&columns[column].1, rows);
        columns[column].1 = PyList::new(mapping.py(), value)?.into_any();
    }
    Ok(Given::Columns { columns, rows })
}

fn is_single(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyDict>()
        || !value.hasattr("__len__")?)
}

/// The cells of `column`, of which there must be `rows`.
fn cells(values: &Bound<'_, PyAny>, column: &FrameColumn, rows: usize) -> PyResult<Cells> {
    let cells = match array(values)? {
        Some(array) => Cells::Arrow(array),
        None => of_objects(values, column)?,
    };
    match cells.len() == rows {
        true => Ok(cells),
        false => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("column '{}' has {} rows, others have {rows}", column.name, cells.len()),
        )
        .into()),
    }
}

fn of_objects(values: &Bound<'_, PyAny>, column: &FrameColumn) -> PyResult<Cells> {
    let list = match values.cast::<PyList>() {
        Ok(list) => list.clone(),
        Err(_) => values.py().get_type::<PyList>().call1((values,))?.cast_into::<PyList>()?,
    };
    Ok(match column.value_type {
        None => Cells::Arrow(list_to_times(&list, &column.name)?),
        Some(value_type) => match list_to_values(&list, value_type, &column.name)? {
            Values::Array(array) => Cells::Arrow(array),
            Values::Wire(values) => Cells::Wire(values),
        },
    })
}

/// The column as an Arrow array; `None` where it has to be looked at object by object.
pub fn array(values: &Bound<'_, PyAny>) -> PyResult<Option<ArrayRef>> {
    if values.is_instance_of::<PyList>() {
        return Ok(None);
    }
    if let Ok(array) = values.cast::<PyUntypedArray>() {
        return of_numpy(array, None);
    }
    let py = values.py();
    let dtype = values.getattr_opt(intern!(py, "dtype"))?;
    let inner = match dtype {
        Some(_) => values.getattr_opt(intern!(py, "values"))?,
        None => None,
    };
    let (Some(inner), Some(dtype)) = (inner, dtype) else {
        let has = |name| values.hasattr(name);
        return match has("__arrow_c_array__")? || has("__arrow_c_stream__")? {
            true => of_capsule(values).map(Some),
            false => Ok(None),
        };
    };
    // A pandas Series. Numbers are taken from NumPy's memory without asking for more.
    if let Ok(array) = inner.cast::<PyUntypedArray>()
        && array.dtype().kind() != b'M'
        && let Some(array) = of_numpy(array, None)?
    {
        return Ok(Some(array));
    }
    let zone = dtype.getattr_opt(intern!(py, "tz"))?.map(|zone| zone.str()).transpose()?;
    let is_utc = zone.as_ref().is_some_and(|zone| zone == "UTC");
    if let Ok(array) = inner.cast::<PyUntypedArray>()
        && (zone.is_none() || is_utc)
        && let Some(array) = of_numpy(array, is_utc.then_some("UTC"))?
    {
        return Ok(Some(array));
    }
    match py.import(intern!(py, "pyarrow")) {
        Ok(pyarrow) => {
            let from_pandas = PyDict::new(py);
            from_pandas.set_item("from_pandas", true)?;
            of_capsule(&pyarrow.call_method("array", (values,), Some(&from_pandas))?).map(Some)
        }
        Err(_) => Ok(None),
    }
}

fn of_capsule(values: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let reader = values.extract::<AnyArray>()?.into_reader()?;
    let data_type = reader.field().data_type().clone();
    let joined = reader.collect::<std::result::Result<Vec<ArrayRef>, _>>().and_then(|chunks| {
        let parts: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk.as_ref()).collect();
        match parts.as_slice() {
            [] => Ok(new_empty_array(&data_type)),
            [_] => Ok(chunks[0].clone()),
            parts => arrow_select::concat::concat(parts),
        }
    });
    Ok(joined.map_err(|cause| {
        let message = "an Arrow column could not be read";
        Error::new(ErrorKind::InvalidArgument, message).with_source(cause)
    })?)
}

/// A copy of a one-dimensional NumPy array of numbers, booleans or times; `None` for others.
fn of_numpy(array: &Bound<'_, PyUntypedArray>, zone: Option<&str>) -> PyResult<Option<ArrayRef>> {
    if array.ndim() != 1 {
        return Ok(None);
    }
    let dtype = array.dtype();
    Ok(match (dtype.kind(), dtype.itemsize()) {
        (b'f', 8) => numbers::<Float64Type>(array),
        (b'f', 4) => numbers::<Float32Type>(array),
        (b'i', 8) => numbers::<Int64Type>(array),
        (b'i', 4) => numbers::<Int32Type>(array),
        (b'i', 2) => numbers::<Int16Type>(array),
        (b'i', 1) => numbers::<Int8Type>(array),
        (b'u', 8) => numbers::<UInt64Type>(array),
        (b'u', 4) => numbers::<UInt32Type>(array),
        (b'u', 2) => numbers::<UInt16Type>(array),
        (b'u', 1) => numbers::<UInt8Type>(array),
        (b'b', _) => {
            items::<bool>(array).map(|bits| Arc::new(BooleanArray::from(bits)) as ArrayRef)
        }
        (b'M', _) => {
            let unit: String = dtype.getattr("str")?.extract()?;
            let ticks = array.call_method1("view", ("i8",))?;
            let ticks = ticks.cast::<PyUntypedArray>()?;
            match unit.as_str() {
                "<M8[ns]" => times::<TimestampNanosecondType>(ticks, zone),
                "<M8[us]" => times::<TimestampMicrosecondType>(ticks, zone),
                "<M8[ms]" => times::<TimestampMillisecondType>(ticks, zone),
                "<M8[s]" => times::<TimestampSecondType>(ticks, zone),
                _ => None,
            }
        }
        _ => None,
    })
}

/// `None` for another byte order than the machine's.
fn items<T: Element + Copy>(array: &Bound<'_, PyUntypedArray>) -> Option<Vec<T>> {
    let array = array.cast::<PyArray1<T>>().ok()?;
    Some(array.readonly().as_array().to_vec())
}

fn numbers<T: ArrowPrimitiveType>(array: &Bound<'_, PyUntypedArray>) -> Option<ArrayRef>
where
    T::Native: Element + Copy,
{
    let numbers = items::<T::Native>(array)?;
    Some(Arc::new(PrimitiveArray::<T>::new(numbers.into(), None)))
}

fn times<T: ArrowTimestampType>(
    ticks: &Bound<'_, PyUntypedArray>,
    zone: Option<&str>,
) -> Option<ArrayRef> {
    let ticks = items::<i64>(ticks)?;
    let nulls: NullBuffer = ticks.iter().map(|tick| *tick != NOT_A_TIME).collect();
    let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
    let times = PrimitiveArray::<T>::new(ticks.into(), nulls);
    Some(Arc::new(times.with_timezone_opt(zone)))
}
