//! The newest row of each entity of a frame, to the store.

use arrow_array::{Array, ArrayRef};

use super::columns::{Cells, FrameBatch};
use super::plan::{FrameColumn, FramePlan};
use super::times::moments;
use crate::call::Call;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::materialize::decide::take_all;
use crate::materialize::transfer::DEFAULT_WRITE_ROWS;
use crate::offline::{
    Candidate, CandidateBatch, Decider, KeyHasher, NullKeys, RowSet, Timestamps, null_keys,
};
use crate::store::{EqualTimestamps, OnlineStore, WriteBatch, WriteReport};
use crate::value::PackedBytes;
use crate::value::arrow::{encode_values, to_column};

/// How a frame is written.
#[derive(Clone, Copy, Debug)]
pub struct FrameOptions {
    /// Rows with a null key are left out and counted instead of failing.
    pub skip_null_keys: bool,
    /// Which of an entity's rows of equal event timestamps stays: the newest by created
    /// timestamp, then the last; or, with `Skip`, the first, as in Feast.
    pub equal_timestamps: EqualTimestamps,
    /// Rows in one write to the store; `None`: ours to choose.
    pub write_rows: Option<usize>,
    /// A frame is written also where every feature of every row is null.
    pub writes_bare: bool,
}

impl FrameOptions {
    /// As the repository wants it.
    pub fn of(config: &RepoConfig) -> Self {
        let skips = match &config.online_store {
            OnlineStoreConfig::Redis(redis) => redis.equal_timestamps_skip,
            OnlineStoreConfig::Sqlite(sqlite) => sqlite.equal_timestamps_skip,
            _ => false,
        };
        FrameOptions {
            skip_null_keys: config.materialization.skip_null_keys,
            equal_timestamps: match skips {
                true => EqualTimestamps::Skip,
                false => EqualTimestamps::Overwrite,
            },
            write_rows: config.materialization.online_write_batch_size,
            writes_bare: false,
        }
    }
}

/// What became of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameReport {
    /// The view's name.
    pub view: String,
    /// Rows of the frame.
    pub rows: u64,
    /// Entities whose row the store took.
    pub entities_written: u64,
    /// Entities left alone because the store has a newer row.
    pub rows_older: u64,
    /// Rows left out because a join key is null; always zero unless such rows are skipped.
    pub null_keys: u64,
    /// Why nothing was written, if there was nothing to write.
    pub nothing: Option<Nothing>,
}

/// A frame without anything to write, which is no error to Feast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// It has no rows.
    NoRows,
    /// Every feature of every row is null.
    NoValues,
}

impl Nothing {
    /// Why, as the end of a sentence that begins with "for".
    pub fn reason(self) -> &'static str {
        match self {
            Nothing::NoRows => "it has no rows",
            Nothing::NoValues => "every feature of every row is null",
        }
    }
}

/// Writes a frame; `batches` have the columns of `plan`, in its order. Rows are counted from 0
/// in errors. Nothing is written unless every key and time can be read; values are converted
/// as they are written, a few thousand rows at a time.
pub fn write_frame(
    plan: &FramePlan,
    batches: &[FrameBatch],
    options: FrameOptions,
    store: &dyn OnlineStore,
    call: &Call<'_>,
) -> Result<FrameReport> {
    let named = |error: Error| error.context(format_args!("view '{}'", plan.view));
    let rows: usize = batches.iter().map(|batch| batch.rows).sum();
    let report = FrameReport { view: plan.view.clone(), rows: rows as u64, ..Default::default() };
    let nothing = nothing_in(plan, batches);
    if let Some(nothing) = nothing.filter(|why| !options.writes_bare || *why == Nothing::NoRows) {
        return Ok(FrameReport { nothing: Some(nothing), ..report });
    }
    let frame = Frame { plan, options, rows };
    let (heads, null_keys) = frame.decide(batches, call).map_err(named)?;
    store.prepare(std::slice::from_ref(&plan.stored), call)?;
    let mut written = WriteReport::default();
    for (batch, head) in batches.iter().zip(heads) {
        let part = frame.write(batch, &head, store, call).map_err(named)?;
        written.written += part.written;
        written.older += part.older;
    }
    Ok(FrameReport {
        entities_written: written.written,
        rows_older: written.older,
        null_keys,
        ..report
    })
}

fn nothing_in(plan: &FramePlan, batches: &[FrameBatch]) -> Option<Nothing> {
    if batches.iter().all(|batch| batch.rows == 0) {
        return Some(Nothing::NoRows);
    }
    let mut features = batches.iter().flat_map(|batch| &batch.columns[plan.first_feature()..]);
    let is_bare = !plan.stored.features.is_empty() && features.all(Cells::is_all_null);
    is_bare.then_some(Nothing::NoValues)
}

struct Frame<'a> {
    plan: &'a FramePlan,
    options: FrameOptions,
    // Of all batches together.
    rows: usize,
}

/// Keys and times of the rows of one batch that are to be written.
struct Head {
    rows: Vec<u32>,
    keys: PackedBytes,
    event_timestamps: Vec<i64>,
    created_timestamps: Option<Vec<Option<i64>>>,
    // Rows of the frame before this batch.
    first_row: usize,
}

impl Frame<'_> {
    /// Reads keys and times, and keeps of each batch the rows that are the newest of their
    /// entities. Also counts the rows without a key.
    fn decide(&self, batches: &[FrameBatch], call: &Call<'_>) -> Result<(Vec<Head>, u64)> {
        let mut null_keys = NullKeys::default();
        // The frame is in memory: so may its keys be.
        let mut decider = Decider::new(usize::MAX);
        let hasher = KeyHasher::default();
        let mut heads = Vec::with_capacity(batches.len());
        let mut first_row = 0;
        for batch in batches {
            let (head, candidates) =
                self.head(batch, first_row, &mut null_keys).map_err(|error| match first_row {
                    0 => error,
                    before => error.context(format_args!("in the batch after row {before}")),
                })?;
            let hashes = head.keys.iter().map(|key| hasher.hash(key)).collect();
            let decided = CandidateBatch { keys: head.keys, hashes, candidates };
            decider.observe(&decided)?;
            heads.push(Head { keys: decided.keys, ..head });
            first_row += batch.rows;
        }
        if !self.options.skip_null_keys {
            let names: Vec<String> = self.plan.keys().iter().map(|key| key.name.clone()).collect();
            null_keys.require_none(&names)?;
        }
        let mut winners = RowSet::new(self.rows as u64);
        decider.finish(&mut winners, call)?;
        let count: usize = heads.iter().map(|head| head.rows.len()).sum();
        if winners.len() < count as u64 {
            let is_winner = |row| winners.contains(self.number(row));
            heads.iter_mut().for_each(|head| head.retain(is_winner));
        }
        Ok((heads, null_keys.count))
    }

    /// The number by which rows of one time compete: the later one wins, or the earlier.
    fn number(&self, row: usize) -> u64 {
        match self.options.equal_timestamps {
            EqualTimestamps::Overwrite => row as u64,
            EqualTimestamps::Skip => (self.rows - 1 - row) as u64,
        }
    }

    fn head(
        &self,
        batch: &FrameBatch,
        first_row: usize,
        null: &mut NullKeys,
    ) -> Result<(Head, Vec<Candidate>)> {
        let plan = self.plan;
        let mut keys = Vec::with_capacity(plan.keys().len());
        for (cells, column) in batch.columns.iter().zip(plan.keys()) {
            keys.push(key_array(cells, column)?);
        }
        let nulls = null_keys(&keys).filter(|nulls| nulls.null_count() > 0);
        let rows: Vec<u32> = match &nulls {
            None => (0..batch.rows as u32).collect(),
            Some(nulls) => {
                let lost = (0..batch.rows).filter(|&row| nulls.is_null(row));
                lost.for_each(|row| null.add((first_row + row) as u64));
                (0..batch.rows as u32).filter(|&row| nulls.is_valid(row as usize)).collect()
            }
        };
        if nulls.is_some() {
            keys = take_all(&keys, &rows)?;
        }
        let times = self.moments(batch, plan.event_column())?;
        let created = plan.created_column();
        let created = created.map(|place| self.moments(batch, place)).transpose()?;
        let mut candidates = Vec::with_capacity(rows.len());
        for &row in &rows {
            let row = row as usize;
            let event = times.get(row).ok_or_else(|| self.no_time(first_row + row))?;
            let created = created.as_ref().and_then(|created| created.get(row)).filter(|_| {
                // Feast's rule knows nothing of them.
                self.options.equal_timestamps == EqualTimestamps::Overwrite
            });
            candidates.push(Candidate { event, created, row: self.number(first_row + row) });
        }
        let created_micros = created.map(|created| {
            rows.iter().map(|&row| created.get(row as usize).map(|at| at.micros)).collect()
        });
        let head = Head {
            keys: plan.encode_keys(&keys, rows.len())?,
            rows,
            event_timestamps: candidates.iter().map(|row| row.event.micros).collect(),
            created_timestamps: created_micros,
            first_row,
        };
        Ok((head, candidates))
    }

    fn moments(&self, batch: &FrameBatch, place: usize) -> Result<Timestamps> {
        moments(&batch.columns[place], &self.plan.columns()[place].name)
    }

    fn write(
        &self,
        batch: &FrameBatch,
        head: &Head,
        store: &dyn OnlineStore,
        call: &Call<'_>,
    ) -> Result<WriteReport> {
        let at_most = self.options.write_rows.unwrap_or(DEFAULT_WRITE_ROWS).max(1);
        let parts = head.rows.len().div_ceil(at_most).max(1);
        let part_rows = head.rows.len().div_ceil(parts).max(1);
        let mut report = WriteReport::default();
        for start in (0..head.rows.len()).step_by(part_rows) {
            call.check()?;
            let part = start..head.rows.len().min(start + part_rows);
            let values = self.encode(batch, &head.rows[part.clone()])?;
            let part_keys;
            let keys = if part.len() == head.keys.len() {
                &head.keys
            } else {
                part_keys = head.keys_of(part.clone());
                &part_keys
            };
            let created = &head.created_timestamps;
            let written = store.write(
                &WriteBatch {
                    view: &self.plan.stored,
                    keys,
                    event_timestamps: &head.event_timestamps[part.clone()],
                    created_timestamps: created.as_ref().map(|created| &created[part.clone()]),
                    values: &values,
                },
                call,
            )?;
            report.written += written.written;
            report.older += written.older;
        }
        Ok(report)
    }

    /// The features of `rows`, in wire bytes.
    fn encode(&self, batch: &FrameBatch, rows: &[u32]) -> Result<Vec<PackedBytes>> {
        let first = self.plan.first_feature();
        let columns = self.plan.columns()[first..].iter().zip(&batch.columns[first..]);
        columns.map(|(column, cells)| encode_cells(column, cells, rows)).collect()
    }

    #[cold]
    fn no_time(&self, row: usize) -> Error {
        let name = &self.plan.columns()[self.plan.event_column()].name;
        Error::new(
            ErrorKind::InvalidArgument,
            format!("row {row} has no time in its event timestamp column '{name}'"),
        )
    }
}

impl Head {
    fn retain(&mut self, is_winner: impl Fn(usize) -> bool) {
        let kept: Vec<usize> = (0..self.rows.len())
            .filter(|&index| is_winner(self.first_row + self.rows[index] as usize))
            .collect();
        let mut keys = PackedBytes::with_capacity(kept.len(), self.keys.byte_len());
        kept.iter().for_each(|&index| keys.push(self.keys.get(index)));
        self.keys = keys;
        self.rows = kept.iter().map(|&index| self.rows[index]).collect();
        self.event_timestamps = kept.iter().map(|&index| self.event_timestamps[index]).collect();
        if let Some(created) = &mut self.created_timestamps {
            *created = kept.iter().map(|&index| created[index]).collect();
        }
    }

    fn keys_of(&self, part: std::ops::Range<usize>) -> PackedBytes {
        let mut keys = PackedBytes::default();
        part.for_each(|index| keys.push(self.keys.get(index)));
        keys
    }
}

fn key_array(cells: &Cells, column: &FrameColumn) -> Result<ArrayRef> {
    match (cells, column.value_type) {
        (Cells::Arrow(array), Some(value_type)) => {
            Ok(to_column(array, value_type, &column.name)?.values)
        }
        _ => Err(Error::new(ErrorKind::Internal, "a key column came as values")),
    }
}

fn encode_cells(column: &FrameColumn, cells: &Cells, rows: &[u32]) -> Result<PackedBytes> {
    let Some(value_type) = column.value_type else {
        return Err(Error::new(ErrorKind::Internal, "a feature without a type"));
    };
    let array = match cells {
        Cells::Arrow(array) => array,
        Cells::Wire(values) => {
            let mut chosen = PackedBytes::with_capacity(rows.len(), values.byte_len());
            rows.iter().for_each(|&row| chosen.push(values.get(row as usize)));
            return Ok(chosen);
        }
    };
    let chosen = chosen(array, rows)?;
    encode_values(chosen.as_ref(), value_type, &column.name).map_err(|error| {
        // Among all rows it has its own number. Feast would refuse any of them.
        encode_values(array, value_type, &column.name).err().unwrap_or(error)
    })
}

/// The rows of `array` at `rows`, which ascend: a slice where they follow each other.
fn chosen(array: &ArrayRef, rows: &[u32]) -> Result<ArrayRef> {
    match (rows.first(), rows.last()) {
        (Some(&first), Some(&last)) if (last - first) as usize + 1 == rows.len() => {
            Ok(array.slice(first as usize, rows.len()))
        }
        _ => take_all(std::slice::from_ref(array), rows).map(|mut taken| taken.remove(0)),
    }
}
