//! The answer of an online read, as Python sees it.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, StructArray};
use arrow_schema::{DataType, Field, Fields};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict, PyList, PyString};
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};

use crate::error::{Error, ErrorKind};
use crate::online::assemble::StatusRules;
use crate::online::matrix::to_matrix;
use crate::online::on_demand::{ComputedView, OnDemand};
use crate::online::{
    Answer, FeatureVector, OnlineFeatures, ReadPlan, Status, ViewVersion, message,
};
use crate::value::wire::ColumnDecoder;
use crate::value::{Column, ValueType, arrow};

use super::plans::Names;
use super::value::{self, column_to_list};

const MICROS_PER_SECOND: i64 = 1_000_000;

type ToCompute<'py> = (String, Bound<'py, PyBytes>, Vec<(String, i32)>);
type Pickled<'py> = (Bound<'py, PyBytes>, Vec<i32>, usize);

/// Columns of an online read, still as the core made them; Python objects are built by the
/// method that is called, and not before.
#[pyclass(frozen, module = "feastrs._native")]
pub struct OnlineResult {
    answer: Answer,
    names: Names,
    // Empty unless the request asked for them.
    view_versions: Arc<[ViewVersion]>,
    // What functions have still to compute; `None`: nothing.
    pending: Option<Pending>,
}

struct Pending {
    on_demand: Arc<OnDemand>,
    null_status: Status,
}

impl OnlineResult {
    fn new(
        py: Python<'_>,
        answer: OnlineFeatures,
        view_versions: Arc<[ViewVersion]>,
    ) -> OnlineResult {
        let names = answer.vectors.iter();
        let names = names.map(|vector| PyString::intern(py, &vector.name).unbind()).collect();
        OnlineResult {
            answer: answer.into(),
            names: Names::Own(names),
            view_versions,
            pending: None,
        }
    }

    /// The answer that `plan` gave, with what the plan says besides: versions, if they are
    /// wanted, and functions that have still to run.
    pub(super) fn of(
        plan: &ReadPlan,
        names: Names,
        answer: Answer,
        rules: &StatusRules,
        wants_versions: bool,
    ) -> Self {
        let view_versions = match wants_versions {
            true => plan.view_versions.clone(),
            false => Arc::default(),
        };
        let pending = plan.on_demand.clone().map(|on_demand| Pending {
            on_demand,
            null_status: match rules.feast {
                None => Status::NullValue,
                Some(_) => Status::Present,
            },
        });
        OnlineResult { answer, names, view_versions, pending }
    }

    fn columns(&self) -> crate::Result<&[FeatureVector]> {
        Ok(&self.answer.whole()?.vectors)
    }

    /// The name of column `index`.
    fn name(&self, index: usize) -> crate::Result<&Py<PyString>> {
        self.names.get(index).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("column {index} of an answer has no name"))
        })
    }

    fn struct_array(&self, include_event_timestamps: bool) -> crate::Result<StructArray> {
        let mut fields: Vec<Field> = Vec::new();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for vector in self.columns()? {
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
    fn names(&self) -> crate::Result<Vec<&str>> {
        Ok(self.columns()?.iter().map(|vector| &*vector.name).collect())
    }

    /// Names of the features alone, in the order asked.
    #[getter]
    fn feature_names(&self) -> crate::Result<Vec<&str>> {
        Ok(self.answer.whole()?.features().iter().map(|vector| &*vector.name).collect())
    }

    /// Rows of the request.
    fn __len__(&self) -> usize {
        self.answer.rows()
    }

    /// Column name -> list of values.
    #[pyo3(signature = (include_event_timestamps = false))]
    fn to_dict<'py>(
        &self,
        py: Python<'py>,
        include_event_timestamps: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = match include_event_timestamps {
            true => PyDict::new(py),
            false => self.names.dict(py)?,
        };
        for index in 0..self.answer.width() {
            let list = value::to_list(py, &self.answer.values(index)?)?;
            dict.set_item(self.name(index)?, list)?;
            if include_event_timestamps {
                let vector = &self.columns()?[index];
                let seconds = PyList::new(py, seconds(vector).collect::<Vec<_>>())?;
                dict.set_item(timestamp_name(vector), seconds)?;
            }
        }
        Ok(dict)
    }

    /// Column name -> list of status names.
    fn statuses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for vector in self.columns()? {
            let names: Vec<&str> = vector.statuses.iter().map(|status| status.name()).collect();
            dict.set_item(&*vector.name, names)?;
        }
        Ok(dict)
    }

    /// On-demand views whose functions have still to run: for each its name, its serialized
    /// definition, and the features asked of it with the numbers of their value types. None:
    /// there are none, and the answer is whole.
    #[getter]
    fn on_demand<'py>(&self, py: Python<'py>) -> Option<Vec<ToCompute<'py>>> {
        let pending = self.pending.as_ref()?;
        let view = |view: &ComputedView| {
            let features = view.features.iter();
            let features = features.map(|one| (one.name.clone(), one.value_type as i32)).collect();
            (view.name.clone(), PyBytes::new(py, &view.definition), features)
        };
        Some(pending.on_demand.views.iter().map(view).collect())
    }

    /// What the function of on-demand view number `view` is given: name -> list of values.
    fn on_demand_inputs<'py>(&self, py: Python<'py>, view: usize) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        if let Some(pending) = &self.pending {
            for (name, vector) in pending.on_demand.inputs(view, self.answer.whole()?) {
                dict.set_item(name, column_to_list(py, &vector.column)?)?;
            }
        }
        Ok(dict)
    }

    /// The whole answer, with what the functions computed: for each on-demand view and
    /// feature the serialized values, one for each row, or None where the function gave none.
    fn with_computed(
        &self,
        py: Python<'_>,
        computed: Vec<Vec<Option<Vec<Bound<'_, PyBytes>>>>>,
    ) -> PyResult<Self> {
        let Some(pending) = &self.pending else {
            return Err(PyValueError::new_err("no function has still to run"));
        };
        let mut columns = Vec::with_capacity(computed.len());
        for (view, features) in pending.on_demand.views.iter().zip(computed) {
            let features = view.features.iter().zip(features);
            let decoded = features.map(|(feature, values)| match values {
                Some(values) => decode(feature.value_type, &values).map(Some),
                None => Ok(None),
            });
            columns.push(decoded.collect::<crate::Result<Vec<_>>>()?);
        }
        let whole = py.detach(|| {
            pending.on_demand.finish(self.answer.whole()?, columns, pending.null_status)
        })?;
        Ok(OnlineResult::new(py, whole, self.view_versions.clone()))
    }

    /// View -> version, where the request asked for versions.
    fn view_versions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for one in self.view_versions.iter() {
            dict.set_item(&one.view, one.version)?;
        }
        Ok(dict)
    }

    /// A serialized `feast.serving.GetOnlineFeaturesResponse`.
    fn to_wire<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| message::encode(self.answer.whole()?, &self.view_versions))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// What `to_wire` gave, with the numbers of the columns' value types.
    #[staticmethod]
    fn from_wire(
        py: Python<'_>,
        wire: &[u8],
        value_types: Vec<i32>,
        join_keys: usize,
    ) -> PyResult<Self> {
        let types = value_types
            .into_iter()
            .map(|number| ValueType::require(number, "a column of an answer"))
            .collect::<crate::Result<Vec<_>>>()?;
        let (answer, versions) = py.detach(|| message::decode(wire, &types, join_keys))?;
        Ok(OnlineResult::new(py, answer, versions.into()))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Pickled<'py>)> {
        let columns = self.columns()?.iter();
        let types = columns.map(|vector| vector.column.value_type as i32).collect();
        let again = py.get_type::<Self>().getattr("from_wire")?;
        Ok((again, (self.to_wire(py)?, types, self.answer.join_keys())))
    }

    /// The features as a NumPy array of shape (rows, features).
    fn to_numpy<'py>(
        &self,
        py: Python<'py>,
        dtype: &str,
        missing: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let shape = [self.answer.rows(), self.answer.width() - self.answer.join_keys()];
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

/// What `feastrs.OnlineResponse` is made upon: its constructor and the method that every caller
/// ends with cost a small read more in Python than decoding its values does.
#[pyclass(frozen, subclass, module = "feastrs._native")]
pub struct ResponseBase {
    result: Py<OnlineResult>,
}

#[pymethods]
impl ResponseBase {
    /// Computes first what functions have still to compute.
    #[new]
    fn new(result: Bound<'_, OnlineResult>) -> PyResult<Self> {
        if result.get().pending.is_none() {
            return Ok(ResponseBase { result: result.unbind() });
        }
        let functions = result.py().import(intern!(result.py(), "feastrs.on_demand"))?;
        let whole = functions.call_method1(intern!(result.py(), "finish"), (result,))?;
        Ok(ResponseBase { result: whole.cast_into::<OnlineResult>()?.unbind() })
    }

    /// What was read.
    #[getter(_result)]
    fn result(&self, py: Python<'_>) -> Py<OnlineResult> {
        self.result.clone_ref(py)
    }

    /// The columns as lists of Python values.
    ///
    /// Args:
    ///     include_event_timestamps: also give, after each column, one named ``<column>__ts``:
    ///         when the value was true, in whole seconds since the epoch, 0 where there is none.
    ///
    /// Returns:
    ///     Column name to values, one for each row of the request.
    #[pyo3(signature = (include_event_timestamps = false))]
    fn to_dict<'py>(
        &self,
        py: Python<'py>,
        include_event_timestamps: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.result.get().to_dict(py, include_event_timestamps)
    }
}

fn decode(value_type: ValueType, values: &[Bound<'_, PyBytes>]) -> crate::Result<Column> {
    let mut decoder = ColumnDecoder::new(value_type, values.len());
    for value in values {
        decoder.push(value.as_bytes())?;
    }
    decoder.finish()
}

fn timestamp_name(vector: &FeatureVector) -> String {
    format!("{}__ts", vector.name)
}

// Feast gives whole seconds here.
fn seconds(vector: &FeatureVector) -> impl Iterator<Item = i64> {
    vector.event_timestamps.iter().map(|micros| micros.div_euclid(MICROS_PER_SECOND))
}
