//! Entity frames of every form, and a cursor that goes through one piece by piece.

use arrow_array::{ArrayRef, RecordBatch, new_empty_array};
use arrow_schema::{DataType, FieldRef, SchemaRef};
use arrow_select::concat::concat;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3_arrow::input::AnyRecordBatch;

use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::history::{DateRange, FrameFiles, HistoryPlan, Labels, Sources, entities};

use super::frame::{Given, array, is_pandas};
use super::type_name;

/// An entity frame.
pub enum Frame {
    /// Arrow memory.
    Arrow { schema: SchemaRef, batches: Vec<RecordBatch> },
    /// The columns of a pandas frame, looked at when they are needed.
    Pandas(Vec<(String, Py<PyAny>)>),
    /// Parquet files, read when they are needed.
    Files(FrameFiles),
    /// The entities that have rows in a time range, searched when they are needed.
    Range(DateRange),
}

impl Frame {
    /// Takes a frame; an Arrow stream is read to its end.
    pub fn new(frame: &Bound<'_, PyAny>) -> PyResult<Self> {
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
    pub fn columns(&self, py: Python<'_>, plan: &HistoryPlan) -> PyResult<Vec<(String, bool)>> {
        let is_time = |field: &FieldRef| matches!(field.data_type(), DataType::Timestamp(..));
        let of = |schema: &SchemaRef| {
            schema.fields().iter().map(|field| (field.name().clone(), is_time(field))).collect()
        };
        match self {
            Frame::Arrow { schema, .. } => Ok(of(schema)),
            Frame::Files(files) => Ok(of(files.schema())),
            Frame::Range(_) => {
                let keys = plan.label_columns().into_iter().map(|name| (name.to_owned(), false));
                Ok(keys.chain([("event_timestamp".to_owned(), true)]).collect())
            }
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

    /// How many rows there are, where that is told before they are read.
    pub fn rows(&self) -> Option<usize> {
        match self {
            Frame::Files(files) => usize::try_from(files.rows()).ok(),
            _ => None,
        }
    }

    /// The fields of the frame's own columns, of which `batches` are some rows; none for pandas.
    pub fn fields(&self, batches: &[RecordBatch]) -> Vec<FieldRef> {
        let schema = match self {
            Frame::Arrow { schema, .. } => Some(schema.clone()),
            Frame::Files(files) => Some(files.schema().clone()),
            Frame::Range(_) => batches.first().map(RecordBatch::schema),
            Frame::Pandas(_) => None,
        };
        schema.map_or(Vec::new(), |schema| schema.fields().iter().cloned().collect())
    }
}

fn of_pandas(py: Python<'_>, columns: &[(String, Py<PyAny>)], name: &str) -> PyResult<ArrayRef> {
    let found = columns.iter().find(|(known, _)| known == name);
    let (_, values) = found.ok_or_else(|| gone(name))?;
    match array(values.bind(py))? {
        Some(array) => Ok(array),
        None => Err(Error::new(
            ErrorKind::TypeMismatch,
            format!(
                "column '{name}' of the entity frame holds Python objects; install pyarrow, which \
                 can read them"
            ),
        )
        .into()),
    }
}

fn of_batches(schema: &SchemaRef, batches: &[RecordBatch], name: &str) -> Result<ArrayRef> {
    let place = schema.index_of(name).map_err(|_| gone(name))?;
    let parts: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(place)).collect();
    match parts.as_slice() {
        [] => Ok(new_empty_array(schema.field(place).data_type())),
        [one] => Ok((*one).clone()),
        parts => {
            let parts: Vec<_> = parts.iter().map(|part| part.as_ref()).collect();
            concat(&parts).map_err(|cause| gone(name).with_source(cause))
        }
    }
}

#[cold]
fn gone(name: &str) -> Error {
    let message = format!("the column '{name}' of the entity frame can't be read");
    Error::new(ErrorKind::InvalidArgument, message)
}

/// How far one has come in a frame.
#[derive(Default)]
pub struct Cursor {
    /// All rows that were read and not given out: of files, those of one row group or more.
    ahead: Option<Ahead>,
    /// The next row group of a frame that is files.
    group: Option<usize>,
    is_begun: bool,
}

struct Ahead {
    labels: Labels,
    frame: Vec<RecordBatch>,
    given: usize,
}

impl Cursor {
    /// The next rows, at most `rows`; of a frame without rows one piece without any.
    #[allow(
        clippy::too_many_arguments,
        reason = "what a frame is read by; a struct for it would be made once"
    )]
    pub fn next(
        &mut self,
        py: Python<'_>,
        frame: &Frame,
        plan: &HistoryPlan,
        sources: &Sources,
        keys: &[&str],
        time_column: &str,
        rows: usize,
        call: &Call<'_>,
    ) -> PyResult<Option<(Labels, Vec<RecordBatch>)>> {
        self.ahead.take_if(|ahead| ahead.given == ahead.labels.len());
        if self.ahead.is_none() {
            if self.is_begun && self.group.is_none() {
                return Ok(None);
            }
            self.is_begun = true;
            let (schema, mut batches) = match frame {
                Frame::Pandas(columns) => {
                    let named =
                        |name: &&str| Ok(((*name).to_owned(), of_pandas(py, columns, name)?));
                    let keys = keys.iter().map(named).collect::<PyResult<_>>()?;
                    let times = of_pandas(py, columns, time_column)?;
                    let labels = Labels::new(time_column, &times, keys)?;
                    self.ahead = Some(Ahead { labels, frame: Vec::new(), given: 0 });
                    return Ok(self.give(rows));
                }
                Frame::Arrow { schema, batches } => (schema.clone(), batches.clone()),
                Frame::Files(files) => {
                    let from = self.group.unwrap_or(0);
                    let (batches, next) = py.detach(|| files.read(from, rows, call))?;
                    self.group = next;
                    (files.schema().clone(), batches)
                }
                Frame::Range(range) => {
                    let batch = py.detach(|| entities(plan, sources, *range, call))?;
                    (batch.schema(), vec![batch])
                }
            };
            // Without rows there is a batch, too: its columns have types.
            if batches.is_empty() {
                batches.push(RecordBatch::new_empty(schema.clone()));
            }
            let named =
                |name: &&str| Ok(((*name).to_owned(), of_batches(&schema, &batches, name)?));
            let keys = keys.iter().map(named).collect::<Result<_>>()?;
            let labels =
                Labels::new(time_column, &of_batches(&schema, &batches, time_column)?, keys)?;
            self.ahead = Some(Ahead { labels, frame: batches, given: 0 });
        }
        Ok(self.give(rows))
    }

    fn give(&mut self, rows: usize) -> Option<(Labels, Vec<RecordBatch>)> {
        let ahead = self.ahead.as_mut()?;
        let start = ahead.given;
        let count = rows.min(ahead.labels.len() - start);
        ahead.given += count;
        let labels = ahead.labels.slice(start, count);
        let (mut frame, mut at) = (Vec::new(), 0);
        for batch in &ahead.frame {
            let (from, to) = (start.max(at), (start + count).min(at + batch.num_rows()));
            if from < to {
                frame.push(batch.slice(from - at, to - from));
            }
            at += batch.num_rows();
        }
        if frame.is_empty() {
            frame.extend(ahead.frame.first().map(|batch| batch.slice(0, 0)));
        }
        Some((labels, frame))
    }

    /// How many rows were read at once.
    pub fn rows(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.labels.len())
    }

    /// Goes back by `rows` of those that were given out last.
    pub fn back(&mut self, rows: usize) {
        if let Some(ahead) = &mut self.ahead {
            ahead.given = ahead.given.saturating_sub(rows);
        }
    }
}
