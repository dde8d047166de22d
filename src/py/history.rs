//! Historical features from Python: the entity frame in, the joined columns out as an Arrow
//! stream. Frames and jobs as users know them are made in Python.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow_select::concat::concat;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};
use pyo3_arrow::input::AnyRecordBatch;

use crate::call::{Call, Interrupt};
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::history::join::JoinOptions;
use crate::history::labels::time_column;
use crate::history::{self, HistoryPlan, JoinedColumns, Labels};
use crate::offline::asof::nanos_per;

use super::frame::{Given, array, is_pandas};
use super::signals::{self, Signals};
use super::type_name;

/// A historical retrieval that is planned, and done as often as it is asked for.
#[pyclass(frozen, module = "feastrs._native")]
pub struct HistoricalJob {
    plan: HistoryPlan,
    config: RepoConfig,
    frame: Frame,
    time_column: String,
    filter_by_created: bool,
}

/// An entity frame.
enum Frame {
    /// Arrow memory.
    Arrow { schema: SchemaRef, batches: Vec<RecordBatch> },
    /// The columns of a pandas frame, looked at when they are needed.
    Pandas(Vec<(String, Py<PyAny>)>),
}

impl Frame {
    fn new(frame: &Bound<'_, PyAny>) -> PyResult<Self> {
        if is_pandas(frame)? {
            let Given::Columns { columns, .. } = Given::new(frame)? else {
                return Ok(Frame::Pandas(Vec::new()));
            };
            let columns = columns.into_iter().map(|(name, values)| (name, values.unbind()));
            return Ok(Frame::Pandas(columns.collect()));
        }
        if !frame.hasattr("__arrow_c_stream__")? && !frame.hasattr("__arrow_c_array__")? {
            return Err(PyTypeError::new_err(format!(
                "the entity frame is of type {}; give a pandas or polars DataFrame, a pyarrow \
                 table or anything else with __arrow_c_stream__, or the path of a Parquet file",
                type_name(frame)
            )));
        }
        let reader = frame.extract::<AnyRecordBatch>()?.into_reader()?;
        let schema = reader.schema();
        let batches = frame.py().detach(|| reader.collect::<std::result::Result<_, _>>());
        let batches = batches.map_err(|cause| {
            let message = "the entity frame can't be read as an Arrow stream";
            Error::new(ErrorKind::InvalidArgument, message).with_source(cause)
        })?;
        Ok(Frame::Arrow { schema, batches })
    }

    /// The names of the columns, and whether each is of a timestamp type.
    fn columns(&self, py: Python<'_>) -> PyResult<Vec<(String, bool)>> {
        match self {
            Frame::Arrow { schema, .. } => Ok(schema
                .fields()
                .iter()
                .map(|field| {
                    let is_time = matches!(field.data_type(), DataType::Timestamp(..));
                    (field.name().clone(), is_time)
                })
                .collect()),
            Frame::Pandas(columns) => columns
                .iter()
                .map(|(name, values)| {
                    let kind = values.bind(py).getattr(intern!(py, "dtype"))?;
                    let kind = kind.getattr_opt(intern!(py, "kind"))?;
                    let is_time = kind.is_some_and(|kind| kind.eq("M").unwrap_or(false));
                    Ok((name.clone(), is_time))
                })
                .collect(),
        }
    }

    /// The column of that name as one array.
    fn column(&self, py: Python<'_>, name: &str) -> PyResult<ArrayRef> {
        match self {
            Frame::Arrow { schema, batches } => {
                let place = schema.index_of(name).map_err(|_| gone(name))?;
                let parts: Vec<&ArrayRef> =
                    batches.iter().map(|batch| batch.column(place)).collect();
                match parts.as_slice() {
                    [] => Ok(arrow_array::new_empty_array(schema.field(place).data_type())),
                    [one] => Ok((*one).clone()),
                    parts => {
                        let parts: Vec<_> = parts.iter().map(|part| part.as_ref()).collect();
                        Ok(concat(&parts).map_err(|cause| gone(name).with_source(cause))?)
                    }
                }
            }
            Frame::Pandas(columns) => {
                let found = columns.iter().find(|(known, _)| known == name);
                let (_, values) = found.ok_or_else(|| gone(name))?;
                match array(values.bind(py))? {
                    Some(array) => Ok(array),
                    None => Err(Error::new(
                        ErrorKind::TypeMismatch,
                        format!(
                            "column '{name}' of the entity frame holds Python objects; install \
                             pyarrow, which can read them"
                        ),
                    )
                    .into()),
                }
            }
        }
    }
}

#[cold]
fn gone(name: &str) -> Error {
    let message = format!("the column '{name}' of the entity frame can't be read");
    Error::new(ErrorKind::InvalidArgument, message)
}

impl HistoricalJob {
    /// The join of `plan` to `frame`. Errors: columns that are missing, or that clash.
    pub fn new(
        plan: HistoryPlan,
        config: RepoConfig,
        frame: &Bound<'_, PyAny>,
        filter_by_created: bool,
    ) -> PyResult<Self> {
        let frame_columns = Frame::new(frame)?;
        let columns = frame_columns.columns(frame.py())?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let times: Vec<(&str, bool)> =
            columns.iter().map(|(name, is_time)| (name.as_str(), *is_time)).collect();
        let time_column = time_column(&times)?.to_owned();
        plan.check_frame(&names, &time_column)?;
        Ok(HistoricalJob { plan, config, frame: frame_columns, time_column, filter_by_created })
    }

    fn labels(&self, py: Python<'_>) -> PyResult<Labels> {
        let named = |name: &str| Ok((name.to_owned(), self.frame.column(py, name)?));
        let columns = self.plan.label_columns().into_iter().map(named);
        let columns = columns.collect::<PyResult<_>>()?;
        let times = self.frame.column(py, &self.time_column)?;
        Ok(Labels::new(&self.time_column, &times, columns)?)
    }
}

#[pymethods]
impl HistoricalJob {
    /// Names of the features that are read, in the order asked.
    #[getter]
    fn feature_names(&self) -> Vec<&str> {
        self.plan.columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// Names of the entity frame's columns.
    #[getter]
    fn frame_columns(&self) -> Vec<&str> {
        match &self.frame {
            Frame::Arrow { schema, .. } => {
                schema.fields().iter().map(|field| field.name().as_str()).collect()
            }
            Frame::Pandas(columns) => columns.iter().map(|(name, _)| name.as_str()).collect(),
        }
    }

    /// The references, those included that on-demand views add.
    #[getter]
    fn references(&self) -> Vec<String> {
        self.plan.references.clone()
    }

    /// The column of the entity frame that says when each row is.
    #[getter]
    fn time_column(&self) -> &str {
        &self.time_column
    }

    /// Whether columns are named `view__feature`.
    #[getter]
    fn full_feature_names(&self) -> bool {
        self.plan.full_feature_names
    }

    /// The views to compute: name, name in the request, serialized view, names of the columns
    /// that are asked of it.
    #[getter]
    fn on_demand<'py>(&self, py: Python<'py>) -> Vec<(&str, &str, Bound<'py, PyBytes>, Vec<&str>)> {
        let views = self.plan.on_demand.iter();
        views
            .map(|view| {
                let columns = view.columns.iter().map(String::as_str).collect();
                let definition = PyBytes::new(py, &view.definition);
                (view.name.as_str(), view.request_name.as_str(), definition, columns)
            })
            .collect()
    }

    /// The first and the last time of the entity frame, microseconds since the epoch.
    fn time_range(&self, py: Python<'_>) -> PyResult<Option<(i64, i64)>> {
        let times = self.labels(py)?.times;
        let nanos = i128::from(nanos_per(times.unit));
        let micros = |ticks: i64| (i128::from(ticks) * nanos).div_euclid(1_000) as i64;
        Ok(times.range().map(|(first, last)| (micros(first), micros(last))))
    }

    /// Reads and joins. `progress` is called now and then with how much is done, from 0 to 1;
    /// what it raises ends the run.
    #[pyo3(signature = (progress = None))]
    fn run(&self, py: Python<'_>, progress: Option<Py<PyAny>>) -> PyResult<HistoricalResult> {
        let labels = self.labels(py)?;
        let rows = labels.len();
        let watcher = Watcher { progress, raised: Mutex::default() };
        let joined = py.detach(|| {
            let call = Call { deadline: None, interrupt: &watcher };
            let options = JoinOptions {
                config: &self.config,
                filter_by_created: self.filter_by_created,
                progress: &|fraction| watcher.tell(fraction),
            };
            history::join(&self.plan, &labels, &options, &call)
        })?;
        let frame = match &self.frame {
            Frame::Arrow { schema, batches } => Some((schema.clone(), batches.clone())),
            Frame::Pandas(_) => None,
        };
        Ok(HistoricalResult { joined, frame, rows })
    }
}

/// Features, and the entity frame's own columns where it was Arrow memory.
#[pyclass(frozen, module = "feastrs._native")]
pub struct HistoricalResult {
    joined: JoinedColumns,
    frame: Option<(SchemaRef, Vec<RecordBatch>)>,
    rows: usize,
}

#[pymethods]
impl HistoricalResult {
    fn __len__(&self) -> usize {
        self.rows
    }

    /// The Arrow C stream of the columns, in the frame's own batches.
    #[pyo3(signature = (requested_schema = None))]
    fn arrow_c_stream<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let (fields, batches) = self.batches()?;
        let field = Arc::new(Field::new("", DataType::Struct(fields), false));
        let stream = Box::new(ArrayIterator::new(batches.into_iter().map(Ok), field));
        Ok(to_stream_pycapsule(py, stream, requested_schema)?)
    }
}

impl HistoricalResult {
    fn batches(&self) -> Result<(Fields, Vec<ArrayRef>)> {
        let whole = [(0, self.rows)];
        let (own, cuts) = match &self.frame {
            None => (&[][..], whole.to_vec()),
            Some((_, batches)) => {
                let mut start = 0;
                let cut = |batch: &RecordBatch| {
                    start += batch.num_rows();
                    (start - batch.num_rows(), batch.num_rows())
                };
                (batches.as_slice(), batches.iter().map(cut).collect())
            }
        };
        let frame_fields = self.frame.iter().flat_map(|(schema, _)| schema.fields().iter());
        let all: Vec<FieldRef> = frame_fields.chain(&self.joined.fields).cloned().collect();
        let fields = Fields::from(all);
        let structs = cuts.iter().enumerate().map(|(index, &(start, rows))| {
            let mut columns = own.get(index).map_or(Vec::new(), |batch| batch.columns().to_vec());
            columns.extend(self.joined.arrays.iter().map(|array| array.slice(start, rows)));
            let built = StructArray::try_new_with_length(fields.clone(), columns, None, rows);
            built.map(|rows| Arc::new(rows) as ArrayRef).map_err(|cause| {
                Error::new(ErrorKind::Internal, "columns don't fit together").with_source(cause)
            })
        });
        let structs = structs.collect::<Result<_>>()?;
        Ok((fields, structs))
    }
}

/// A Python callable that is told of progress. What it raises stops the run, like a signal.
struct Watcher {
    progress: Option<Py<PyAny>>,
    raised: Mutex<Option<PyErr>>,
}

impl Watcher {
    fn tell(&self, fraction: f64) {
        let Some(progress) = &self.progress else { return };
        // With the interpreter gone nobody listens, and the next check stops the run.
        let _ = Python::try_attach(|py| {
            if let Err(error) = progress.call1(py, (fraction,)) {
                *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
    }
}

impl Interrupt for Watcher {
    fn check(&self) -> Result<()> {
        match self.raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(raised) => Err(signals::stopped_by(raised)),
            None => Signals.check(),
        }
    }
}
