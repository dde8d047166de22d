//! Online reads as Python sees them: the prepared reader, and the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{Array, ArrayRef, Int64Array, StructArray};
use arrow_schema::{DataType, Field, Fields};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyString};
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};

use crate::error::{Error, ErrorKind};
use crate::online::assemble::StatusRules;
use crate::online::matrix::to_matrix;
use crate::online::{FeatureVector, OnlineFeatures};
use crate::process_local::ProcessLocal;
use crate::value::arrow;

use super::entities::to_entities;
use super::event_loop::LoopReads;
use super::plans::Prepared;
use super::signals::interruptible;
use super::store::Store;
use super::value::column_to_list;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Reads what `prepared` says for the entities of `entity_rows`.
pub fn read(
    py: Python<'_>,
    prepared: &Prepared,
    entity_rows: &Bound<'_, PyAny>,
    rules: &StatusRules,
) -> PyResult<OnlineResult> {
    let entities = to_entities(prepared, entity_rows)?;

    let answer = py.detach(|| prepared.reader.read(&entities, rules, &interruptible()))?;

    Ok(OnlineResult::new(answer, prepared.names(py, &entities)))
}

/// Starts the same read for `reads`' loop: `future` will have the answer. Gives its number.
pub fn start(
    prepared: Arc<Prepared>,
    entity_rows: &Bound<'_, PyAny>,
    rules: StatusRules,
    reads: &LoopReads,
    future: Bound<'_, PyAny>,
) -> PyResult<u64> {
    let entities = to_entities(&prepared, entity_rows)?;

    Ok(reads.start(future.py(), prepared, entities, rules, future.unbind())?)
}

/// A reader that was prepared once, for the registry as it is: when the registry changes, it
/// prepares itself again.
#[pyclass(frozen, module = "feastrs._native")]
pub struct OnlineReader {
    store: Py<Store>,
    features: Py<PyAny>,
    full_feature_names: bool,
    present: ProcessLocal<Mutex<Option<Arc<Prepared>>>>,
}

impl OnlineReader {
    pub(super) fn new(
        store: &Bound<'_, Store>,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
    ) -> PyResult<Self> {
        let reader = OnlineReader {
            store: store.clone().unbind(),
            // A list could change.
            features: match features.cast::<PyList>() {
                Ok(list) => list.to_tuple().into_any().unbind(),
                Err(_) => features.clone().unbind(),
            },
            full_feature_names,
            present: ProcessLocal::new(),
        };
        reader.prepared(store.py())?;
        Ok(reader)
    }

    fn prepared(&self, py: Python<'_>) -> PyResult<Arc<Prepared>> {
        let store = self.store.get();
        let catalog = store.present_catalog(py)?;
        if let Some(prepared) = self.present().as_ref()
            && Arc::ptr_eq(&prepared.catalog, &catalog)
        {
            return Ok(prepared.clone());
        }
        let prepared = store.prepared(py, self.features.bind(py), self.full_feature_names)?;
        *self.present() = Some(prepared.clone());
        Ok(prepared)
    }

    // Held for a look or a swap.
    fn present(&self) -> MutexGuard<'_, Option<Arc<Prepared>>> {
        self.present.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl OnlineReader {
    /// Reads for the entities of `entities`: a list of dicts, or a dict of columns.
    fn read(&self, py: Python<'_>, entities: &Bound<'_, PyAny>) -> PyResult<OnlineResult> {
        let prepared = self.prepared(py)?;
        read(py, &prepared, entities, &self.store.get().status_rules())
    }

    /// Starts reading for the entities of `entities`; see `feastrs.event_loop`.
    fn start(
        &self,
        entities: &Bound<'_, PyAny>,
        reads: &Bound<'_, LoopReads>,
        future: Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let prepared = self.prepared(entities.py())?;
        start(prepared, entities, self.store.get().status_rules(), reads.get(), future)
    }

    /// Names of the features, in the order asked.
    #[getter]
    fn feature_names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let prepared = self.prepared(py)?;
        Ok(prepared.reader.plan().columns.iter().map(|column| column.name.to_string()).collect())
    }
}

/// Columns of an online read, still as the core made them; Python objects are built by the
/// method that is called, and not before.
#[pyclass(frozen, module = "feastrs._native")]
pub struct OnlineResult {
    answer: OnlineFeatures,
    // Those of the vectors, as Python strings.
    names: Vec<Py<PyString>>,
}

impl OnlineResult {
    pub(super) fn new(answer: OnlineFeatures, names: Vec<Py<PyString>>) -> Self {
        OnlineResult { answer, names }
    }

    fn struct_array(&self, include_event_timestamps: bool) -> crate::Result<StructArray> {
        let mut fields: Vec<Field> = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for vector in &self.answer.vectors {
            let (field, array) = arrow::export(&vector.column, &vector.name)?;
            fields.push(field);
            arrays.push(array);
            if include_event_timestamps {
                fields.push(Field::new(timestamp_name(vector), DataType::Int64, false));
                arrays.push(Arc::new(Int64Array::from_iter_values(seconds(vector))));
            }
        }
        StructArray::try_new(Fields::from(fields), arrays, None).map_err(|error| {
            Error::new(ErrorKind::Internal, "columns of an answer differ in length")
                .with_source(error)
        })
    }
}

#[pymethods]
impl OnlineResult {
    /// Column names: join keys, then features in the order asked.
    #[getter]
    fn names(&self) -> Vec<&str> {
        self.answer.vectors.iter().map(|vector| &*vector.name).collect()
    }

    /// Names of the features alone, in the order asked.
    #[getter]
    fn feature_names(&self) -> Vec<&str> {
        self.answer.features().iter().map(|vector| &*vector.name).collect()
    }

    /// Rows of the request.
    fn __len__(&self) -> usize {
        self.answer.rows
    }

    /// Column name -> list of values.
    #[pyo3(signature = (include_event_timestamps = false))]
    fn to_dict<'py>(
        &self,
        py: Python<'py>,
        include_event_timestamps: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (vector, name) in self.answer.vectors.iter().zip(&self.names) {
            dict.set_item(name, column_to_list(py, &vector.column)?)?;
            if include_event_timestamps {
                dict.set_item(
                    timestamp_name(vector),
                    PyList::new(py, seconds(vector).collect::<Vec<_>>())?,
                )?;
            }
        }
        Ok(dict)
    }

    /// Column name -> list of status names.
    fn statuses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for vector in &self.answer.vectors {
            let names: Vec<&str> = vector.statuses.iter().map(|status| status.name()).collect();
            dict.set_item(&*vector.name, names)?;
        }
        Ok(dict)
    }

    /// The features as a NumPy array of shape (rows, features).
    fn to_numpy<'py>(
        &self,
        py: Python<'py>,
        dtype: &str,
        missing: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let shape = [self.answer.rows, self.answer.features().len()];
        match dtype {
            "float64" => {
                let matrix = py.detach(|| to_matrix::<f64>(&self.answer, missing))?;
                Ok(PyArray1::from_vec(py, matrix).reshape(shape)?.into_any())
            }
            "float32" => {
                let matrix = py.detach(|| to_matrix::<f32>(&self.answer, missing as f32))?;
                Ok(PyArray1::from_vec(py, matrix).reshape(shape)?.into_any())
            }
            other => Err(PyValueError::new_err(format!(
                "dtype '{other}' is not supported by to_numpy; use 'float64' or 'float32'"
            ))),
        }
    }

    /// The Arrow C stream of the columns.
    #[pyo3(signature = (requested_schema = None, include_event_timestamps = false))]
    fn arrow_c_stream<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
        include_event_timestamps: bool,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let rows = py.detach(|| self.struct_array(include_event_timestamps))?;
        let field = Arc::new(Field::new("", rows.data_type().clone(), false));
        let rows: ArrayRef = Arc::new(rows);
        let stream = Box::new(ArrayIterator::new([Ok(rows)].into_iter(), field));
        Ok(to_stream_pycapsule(py, stream, requested_schema)?)
    }
}

fn timestamp_name(vector: &FeatureVector) -> String {
    format!("{}__ts", vector.name)
}

// Feast gives whole seconds here.
fn seconds(vector: &FeatureVector) -> impl Iterator<Item = i64> {
    vector.event_timestamps.iter().map(|micros| micros.div_euclid(MICROS_PER_SECOND))
}
