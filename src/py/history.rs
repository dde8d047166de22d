//! Historical features from Python: the entity frame in, the joined columns out as Arrow
//! streams. Frames and jobs as users know them are made in Python.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, FieldRef, Fields, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};
use pyo3_arrow::input::AnyRecordBatch;

use crate::call::{Call, Interrupt, now_micros};
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::history::join::JoinOptions;
use crate::history::labels::time_column;
use crate::history::{DateRange, FrameFiles, HistoryPlan, Join, JoinedColumns, Labels, Sources};
use crate::offline::ticks::nanos_per;

use super::history_frame::{Cursor, Frame};
use super::logging;
use super::signals::{self, Signals, interruptible};
use super::store::Store;

/// A historical retrieval that is planned, and done as often as it is asked for.
#[pyclass(frozen, module = "feastrs._native")]
pub struct HistoricalJob {
    plan: HistoryPlan,
    config: RepoConfig,
    frame: Frame,
    time_column: String,
    filter_by_created: bool,
}

impl HistoricalJob {
    /// The join of `plan` to `frame`. Errors: columns that are missing, or that clash.
    pub fn new(
        py: Python<'_>,
        (plan, config): (HistoryPlan, RepoConfig),
        frame: Frame,
        filter_by_created: bool,
    ) -> PyResult<Self> {
        let columns = frame.columns(py, &plan)?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let times: Vec<(&str, bool)> =
            columns.iter().map(|(name, is_time)| (name.as_str(), *is_time)).collect();
        let time_column = time_column(&times)?.to_owned();
        plan.check_frame(&names, &time_column)?;
        Ok(HistoricalJob { plan, config, frame, time_column, filter_by_created })
    }

    /// The rows of the frame from where `cursor` is, as the join needs them, and their own
    /// columns. `None`: there are no more, or `at_least_one` and there were none before.
    fn piece(
        &self,
        py: Python<'_>,
        cursor: &mut Cursor,
        sources: &Sources,
        rows: usize,
        call: &Call<'_>,
    ) -> PyResult<Option<(Labels, Vec<RecordBatch>)>> {
        let keys = self.plan.label_columns();
        cursor.next(py, &self.frame, &self.plan, sources, &keys, &self.time_column, rows, call)
    }

    fn join(&self, sources: Option<Arc<Sources>>, call: &Call<'_>) -> Result<Join<'_>> {
        match sources {
            Some(sources) => Ok(Join::again(&self.plan, sources)),
            None => Join::open(&self.plan, &self.config, call),
        }
    }

    fn memory(&self) -> usize {
        let megabytes = usize::try_from(self.config.materialization.max_memory_mb);
        megabytes.unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }
}

#[pymethods]
impl HistoricalJob {
    /// A retrieval for a frame in Parquet files.
    #[staticmethod]
    fn of_files(
        store: &Store,
        path: &str,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
        filter_by_created: bool,
    ) -> PyResult<HistoricalJob> {
        let py = features.py();
        let planned = store.history_plan(features, full_feature_names)?;
        let files = py.detach(|| FrameFiles::open(path, &planned.1, &interruptible()))?;
        HistoricalJob::new(py, planned, Frame::Files(files), filter_by_created)
    }

    /// A retrieval for the entities that have rows between `start` and `end`, microseconds since
    /// the epoch, as they were known at `end`.
    #[staticmethod]
    fn of_range(
        store: &Store,
        start: Option<i64>,
        end: Option<i64>,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
        filter_by_created: bool,
    ) -> PyResult<HistoricalJob> {
        let planned = store.history_plan(features, full_feature_names)?;
        // The same end, however often it is run.
        let range = DateRange { start, end: Some(end.unwrap_or_else(now_micros)) };
        range.check(&planned.0)?;
        HistoricalJob::new(features.py(), planned, Frame::Range(range), filter_by_created)
    }

    /// Names of the features that are read, in the order asked.
    #[getter]
    fn feature_names(&self) -> Vec<&str> {
        self.plan.columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// Names of the entity frame's columns.
    #[getter]
    fn frame_columns(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let columns = self.frame.columns(py, &self.plan)?;
        Ok(columns.into_iter().map(|(name, _)| name).collect())
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

    /// The same retrieval for another frame, with the same columns.
    fn with_frame(&self, frame: &Bound<'_, PyAny>) -> PyResult<HistoricalJob> {
        let planned = (self.plan.clone(), self.config.clone());
        HistoricalJob::new(frame.py(), planned, Frame::new(frame)?, self.filter_by_created)
    }

    /// The first and the last time of the entity frame, microseconds since the epoch.
    fn time_range(&self, py: Python<'_>) -> PyResult<Option<(i64, i64)>> {
        let call = interruptible();
        let sources = py.detach(|| self.join(None, &call).map(|join| join.sources()))?;
        let mut cursor = Cursor::default();
        let mut range: Option<(i64, i64)> = None;
        while let Some((labels, _)) = self.piece(py, &mut cursor, &sources, usize::MAX, &call)? {
            let nanos = i128::from(nanos_per(labels.times.unit));
            let micros = |ticks: i64| (i128::from(ticks) * nanos).div_euclid(1_000) as i64;
            let found = labels.times.range().map(|(first, last)| (micros(first), micros(last)));
            range = match (range, found) {
                (Some((a, b)), Some((first, last))) => Some((a.min(first), b.max(last))),
                (known, found) => known.or(found),
            };
        }
        Ok(range)
    }

    /// What would be read, in words.
    fn explain(&self, py: Python<'_>) -> PyResult<String> {
        let call = interruptible();
        let sources = py.detach(|| self.join(None, &call).map(|join| join.sources()))?;
        let mut cursor = Cursor::default();
        let Some((labels, _)) = self.piece(py, &mut cursor, &sources, usize::MAX, &call)? else {
            return Ok(String::new());
        };
        let join = self.join(Some(sources), &call)?;
        let at_once = join.labels_at_once(self.memory(), false);
        let mut text = py.detach(|| join.explain(&labels, self.filter_by_created))?;
        let pieces = labels.len().div_ceil(at_once).max(1);
        text += &format!("in {pieces} piece(s) of at most {at_once} rows (max_memory_mb)\n");
        Ok(text)
    }

    /// Reads and joins. `progress` is called now and then with how much is done, from 0 to 1;
    /// what it raises ends the run.
    #[pyo3(signature = (progress = None))]
    fn run(&self, py: Python<'_>, progress: Option<Py<PyAny>>) -> PyResult<HistoricalResult> {
        let mut pieces = Vec::new();
        let state = Pieces::new(progress);
        while let Some(piece) = state.next(py, self, None)? {
            pieces.push(piece);
        }
        Ok(HistoricalResult::new(pieces))
    }

    /// The same piece by piece, of at most about `rows` rows, and not more than memory is for.
    #[pyo3(signature = (rows = None, progress = None))]
    fn pieces(slf: Py<Self>, rows: Option<usize>, progress: Option<Py<PyAny>>) -> HistoricalPieces {
        HistoricalPieces {
            job: slf,
            rows: Some(rows.unwrap_or(usize::MAX)),
            state: Pieces::new(progress),
        }
    }
}

/// How far a run has come.
struct Pieces {
    watcher: Watcher,
    at: Mutex<At>,
}

struct At {
    cursor: Cursor,
    sources: Option<Arc<Sources>>,
    /// No piece has more rows.
    limit: usize,
    /// Rows that were given out.
    done: usize,
}

impl Pieces {
    fn new(progress: Option<Py<PyAny>>) -> Self {
        let at = At { cursor: Cursor::default(), sources: None, limit: usize::MAX, done: 0 };
        Pieces { watcher: Watcher { progress, raised: Mutex::default() }, at: Mutex::new(at) }
    }

    /// The next piece; with `rows` for a caller who lets go of one before the next.
    fn next(
        &self,
        py: Python<'_>,
        job: &HistoricalJob,
        rows: Option<usize>,
    ) -> PyResult<Option<Piece>> {
        // Not a wait: who holds it may need the GIL.
        let Ok(mut at) = self.at.try_lock() else { return Err(in_use().into()) };
        let call = Call { deadline: None, interrupt: &self.watcher };
        let join = py.detach(|| job.join(at.sources.clone(), &call));
        logging::hand_over(py);
        let join = join?;
        let sources = join.sources();
        at.sources = Some(sources.clone());
        let at_once = join.labels_at_once(job.memory(), rows.is_some());
        let count = at_once.min(rows.unwrap_or(usize::MAX)).min(at.limit).max(1);
        let piece = job.piece(py, &mut at.cursor, &sources, count, &call)?;
        let Some((labels, frame)) = piece else { return Ok(None) };
        let (found, done) = (labels.len(), at.done);
        let all = job.frame.rows().unwrap_or(at.cursor.rows()).max(1) as f64;
        let joined = py.detach(|| {
            let progress = |fraction| {
                self.watcher.tell((done as f64 + found as f64 * fraction) / all);
            };
            let filter_by_created = job.filter_by_created;
            join.run(&labels, &JoinOptions { filter_by_created, progress: &progress }, &call)
        });
        match joined {
            // Its text is more than an array can hold. What failed has told its sources to stop.
            Err(error) if error.kind() == ErrorKind::Unsupported && found > 1 => {
                at.cursor.back(found);
                (at.limit, at.sources) = (found.div_ceil(2), None);
                drop(at);
                self.next(py, job, rows)
            }
            joined => {
                at.done += found;
                let frame_fields = job.frame.fields(&frame);
                Ok(Some(Piece { frame_fields, frame, joined: joined?, rows: found }))
            }
        }
    }
}

#[cold]
fn in_use() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "another thread reads from this at the moment; let each thread have one of its own",
    )
}

/// Rows of a frame with their features.
struct Piece {
    /// None where the frame is Python's.
    frame_fields: Vec<FieldRef>,
    frame: Vec<RecordBatch>,
    joined: JoinedColumns,
    rows: usize,
}

impl Piece {
    fn fields(&self) -> Fields {
        self.frame_fields.iter().chain(&self.joined.fields).cloned().collect()
    }

    /// The rows in the frame's own batches.
    fn batches(&self, fields: &Fields) -> Result<Vec<ArrayRef>> {
        let mut cuts = vec![(0, self.rows)];
        if !self.frame.is_empty() {
            let mut start = 0;
            let cut = |batch: &RecordBatch| {
                start += batch.num_rows();
                (start - batch.num_rows(), batch.num_rows())
            };
            cuts = self.frame.iter().map(cut).collect();
        }
        let structs = cuts.iter().enumerate().map(|(index, &(start, rows))| {
            let own = self.frame.get(index);
            let mut columns = own.map_or(Vec::new(), |batch| batch.columns().to_vec());
            columns.extend(self.joined.arrays.iter().map(|array| array.slice(start, rows)));
            let built = StructArray::try_new_with_length(fields.clone(), columns, None, rows);
            built.map(|rows| Arc::new(rows) as ArrayRef).map_err(|cause| {
                Error::new(ErrorKind::Internal, "columns don't fit together").with_source(cause)
            })
        });
        structs.collect()
    }
}

/// An iterator of results.
#[pyclass(frozen, module = "feastrs._native")]
pub struct HistoricalPieces {
    job: Py<HistoricalJob>,
    rows: Option<usize>,
    state: Pieces,
}

#[pymethods]
impl HistoricalPieces {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<HistoricalResult>> {
        let piece = self.state.next(py, self.job.get(), self.rows)?;
        Ok(piece.map(|piece| HistoricalResult::new(vec![piece])))
    }
}

/// Features, and the entity frame's own columns where it was Arrow memory.
#[pyclass(frozen, module = "feastrs._native")]
pub struct HistoricalResult {
    pieces: Vec<Piece>,
    rows: usize,
}

impl HistoricalResult {
    fn new(pieces: Vec<Piece>) -> Self {
        let rows = pieces.iter().map(|piece| piece.rows).sum();
        HistoricalResult { pieces, rows }
    }
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
        let fields = self.pieces.first().map_or(Fields::empty(), Piece::fields);
        let batches = self.pieces.iter().map(|piece| piece.batches(&fields));
        let batches: Vec<ArrayRef> = batches.collect::<Result<Vec<_>>>()?.concat();
        let field = Arc::new(Field::new("", DataType::Struct(fields), false));
        let stream = Box::new(ArrayIterator::new(batches.into_iter().map(Ok), field));
        Ok(to_stream_pycapsule(py, stream, requested_schema)?)
    }
}

/// A Parquet file in the making: rows of anything with an Arrow stream are written to it.
#[pyclass(frozen, module = "feastrs._native")]
pub struct ParquetFile {
    path: String,
    allow_overwrite: bool,
    config: RepoConfig,
    endpoint: Option<String>,
    sink: Mutex<Option<crate::offline::ParquetSink>>,
}

impl ParquetFile {
    fn sink(&self, schema: &SchemaRef) -> Result<crate::offline::ParquetSink> {
        let stores = &self.config.object_stores;
        let settings = crate::cloud::CloudSettings {
            endpoint: self.endpoint.clone(),
            region: stores.s3_region.clone(),
            profile: stores.s3_profile.clone(),
            is_anonymous: stores.is_anonymous,
        };
        let (folder, call) = (self.config.repo_path.as_deref(), interruptible());
        let overwrite = self.allow_overwrite;
        crate::offline::ParquetSink::open(&self.path, folder, schema, overwrite, &settings, &call)
    }
}

#[pymethods]
impl ParquetFile {
    /// A file to be written, at a path as sources have them.
    #[new]
    fn new(
        store: &Store,
        path: String,
        allow_overwrite: bool,
        s3_endpoint: Option<String>,
    ) -> Self {
        let (config, sink) = (store.config.clone(), Mutex::default());
        ParquetFile { path, allow_overwrite, config, endpoint: s3_endpoint, sink }
    }

    /// Writes the rows of anything with `__arrow_c_stream__`.
    fn write(&self, rows: &Bound<'_, PyAny>) -> PyResult<()> {
        let reader = rows.extract::<AnyRecordBatch>()?.into_reader()?;
        let schema = reader.schema();
        rows.py().detach(|| {
            let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            let sink = match &mut *sink {
                Some(sink) => sink,
                none => none.insert(self.sink(&schema)?),
            };
            for batch in reader {
                Signals.check()?;
                let batch = batch.map_err(|cause| {
                    let message = "an Arrow stream can't be read";
                    Error::new(ErrorKind::InvalidArgument, message).with_source(cause)
                })?;
                sink.write(&batch)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// Gives the file its name; where it is.
    fn finish(&self, py: Python<'_>) -> PyResult<String> {
        let path = py.detach(|| {
            let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).take();
            let nothing = || Error::new(ErrorKind::Internal, "nothing was written");
            sink.ok_or_else(nothing)?.finish(&interruptible())
        })?;
        Ok(path)
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
