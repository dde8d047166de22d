//! The first pass: keys and times of every row in the window, to the set of winning rows, or to
//! whoever else wants them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use arrow_array::{Array, ArrayRef, UInt32Array};

use super::blame::name_row;
use super::plan::ViewPlan;
use super::workers::{finished, spawn_named, stopped};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::{
    Candidate, CandidateBatch, Decider, KeyHasher, Moment, NullKeys, RowSet, Scan, ScanBatch,
    Timestamps, null_keys,
};
use crate::value::arrow::to_column;

/// Batches that wait for the table.
const QUEUED_BATCHES: usize = 4;

/// How the first pass is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecideOptions {
    /// Memory for the table of entities; past it, they are decided in shares on disk.
    pub table_bytes: usize,
    /// Memory for one batch of rows.
    pub batch_bytes: usize,
    /// Rows with a null key are left out instead of failing.
    pub skip_null_keys: bool,
}

/// What the first pass found.
#[derive(Debug)]
pub(super) struct Decision {
    /// The winning rows.
    pub rows: RowSet,
    /// How many rows were looked at.
    pub rows_read: u64,
    /// How many rows of the window have a null key.
    pub null_keys: u64,
}

/// Decides which rows of the view's source win. `searched` follows the reader through the source.
pub(super) fn decide(
    plan: &ViewPlan,
    options: DecideOptions,
    searched: &AtomicU64,
    call: &Call<'_>,
) -> Result<Decision> {
    let mut decider = Decider::new(options.table_bytes);
    let pass = FirstPass {
        plan,
        batch_bytes: options.batch_bytes,
        counts: &|event| plan.window.contains(event),
        searched,
    };
    let (rows_read, null_keys) = pass.run(&mut |batch| decider.observe(batch), call)?;
    if !options.skip_null_keys {
        let names: Vec<String> = plan.join_keys.iter().map(|key| key.name.clone()).collect();
        null_keys.require_none(&names)?;
    }
    let mut rows = RowSet::new(plan.source.rows());
    decider.finish(&mut rows, call)?;
    Ok(Decision { rows, rows_read, null_keys: null_keys.count })
}

/// Takes the rows of a first pass.
pub(crate) type Observe<'a> = dyn FnMut(&CandidateBatch) -> Result<()> + Send + 'a;

/// Keys and times of a view's source, read once.
#[derive(Clone, Copy)]
pub(crate) struct FirstPass<'a> {
    pub plan: &'a ViewPlan,
    /// Memory for one batch of rows.
    pub batch_bytes: usize,
    /// Whether a row of this event timestamp counts; within the plan's window in any case.
    pub counts: &'a (dyn Fn(Moment) -> bool + Sync),
    /// Follows the reader through the source.
    pub searched: &'a AtomicU64,
}

impl FirstPass<'_> {
    /// Gives all rows that count and have a key to `observe`; says how many were looked at, and
    /// which have no key. One thread reads, another observes: for a table of entities each takes
    /// about as long as the other.
    pub fn run(self, observe: &mut Observe<'_>, call: &Call<'_>) -> Result<(u64, NullKeys)> {
        let (send, receive) = sync_channel(QUEUED_BATCHES);
        let (read, observed) = thread::scope(|scope| {
            let observer = spawn_named(scope, "feastrs-decide", move || {
                receive.iter().try_for_each(|batch| observe(&batch))
            });
            let read = Pass::new(self, send).run(call);
            (read, observer.and_then(finished))
        });
        // The reader only sees that the observer has gone, and not why.
        observed?;
        read
    }
}

/// The reading side.
struct Pass<'a> {
    plan: &'a ViewPlan,
    batch_bytes: usize,
    counts: &'a (dyn Fn(Moment) -> bool + Sync),
    searched: &'a AtomicU64,
    table: SyncSender<CandidateBatch>,
    hasher: KeyHasher,
    null_keys: NullKeys,
    rows_read: u64,
}

impl<'a> Pass<'a> {
    fn new(of: FirstPass<'a>, table: SyncSender<CandidateBatch>) -> Self {
        let FirstPass { plan, batch_bytes, counts, searched } = of;
        let (hasher, null_keys) = (KeyHasher::default(), NullKeys::default());
        Pass { plan, batch_bytes, counts, searched, table, hasher, null_keys, rows_read: 0 }
    }

    /// Sends all rows that count to the table, and says how many were looked at.
    fn run(mut self, call: &Call<'_>) -> Result<(u64, NullKeys)> {
        let (plan, searched) = (self.plan, self.searched);
        let scan = Scan {
            source: &plan.source,
            columns: &plan.head,
            window: Some((plan.event_column(), plan.window)),
            keys: &[],
            rows: None,
            batch_bytes: self.batch_bytes,
        };
        scan.run(&mut |batch| {
            call.check()?;
            searched.store(batch.positions.last().map_or(0, |range| range.end), Ordering::Relaxed);
            let candidates = self.candidates(&batch)?;
            if candidates.candidates.is_empty() {
                return Ok(());
            }
            self.table.send(candidates).map_err(|_| stopped())
        })?;
        Ok((self.rows_read, self.null_keys))
    }

    fn candidates(&mut self, batch: &ScanBatch) -> Result<CandidateBatch> {
        let head = Head::of(self.plan, &batch.columns)?;
        let mut candidates = Vec::with_capacity(batch.rows());
        let mut inside = Vec::with_capacity(batch.rows());
        for (index, row) in batch.row_numbers().enumerate() {
            // Null event times are in no window: Feast's filter drops such rows too.
            let Some(event) = head.event.get(index) else { continue };
            if (self.counts)(event) {
                let created = head.created.as_ref().and_then(|created| created.get(index));
                candidates.push(Candidate { event, created, row });
                inside.push(index as u32);
            }
        }
        self.rows_read += batch.rows() as u64;
        if candidates.is_empty() {
            return Ok(CandidateBatch::default());
        }
        let positions: Vec<u64> = candidates.iter().map(|candidate| candidate.row).collect();
        let mut keys = self.plan.key_columns(head.keys, &inside, &positions, batch.rows())?;
        if let Some(nulls) = null_keys(&keys).filter(|nulls| nulls.null_count() > 0) {
            let kept: Vec<u32> = (0..candidates.len())
                .filter(|&index| nulls.is_valid(index))
                .map(|index| index as u32)
                .collect();
            let lost = candidates.iter().enumerate().filter(|(index, _)| nulls.is_null(*index));
            lost.for_each(|(_, candidate)| self.null_keys.add(candidate.row));
            candidates = kept.iter().map(|&index| candidates[index as usize]).collect();
            keys = take_all(&keys, &kept)?;
        }
        let keys = self.plan.encode_key_values(&keys, candidates.len())?;
        let hashes = keys.iter().map(|key| self.hasher.hash(key)).collect();
        Ok(CandidateBatch { keys, hashes, candidates })
    }
}

/// The leading columns of a batch: keys as the source has them, and times.
pub(super) struct Head<'a> {
    pub keys: &'a [ArrayRef],
    pub event: Timestamps,
    pub created: Option<Timestamps>,
}

impl<'a> Head<'a> {
    pub fn of(plan: &ViewPlan, columns: &'a [ArrayRef]) -> Result<Self> {
        let (keys, times) = columns.split_at(plan.join_keys.len());
        let [event, rest @ ..] = times else {
            return Err(Error::new(ErrorKind::Internal, "a batch came without its timestamps"));
        };
        let event = Timestamps::from_array(event, plan.event_column())?;
        let created = match (plan.created_column(), rest.first()) {
            (Some(name), Some(array)) => Some(Timestamps::from_array(array, name)?),
            _ => None,
        };
        Ok(Head { keys, event, created })
    }
}

impl ViewPlan {
    /// The key columns at `rows` (of `len` in all) in the form that keys are encoded from.
    /// `positions` are the numbers of those rows in the source, for errors.
    pub(super) fn key_columns(
        &self,
        columns: &[ArrayRef],
        rows: &[u32],
        positions: &[u64],
        len: usize,
    ) -> Result<Vec<ArrayRef>> {
        let chosen = if rows.len() == len { columns.to_vec() } else { take_all(columns, rows)? };
        let keys = chosen.iter().zip(&self.join_keys);
        keys.map(|(array, key)| {
            let convert = |array: &dyn Array| to_column(array, key.value_type, &key.name);
            let column = convert(array).map_err(|error| {
                let alone = |row| convert(array.slice(row, 1).as_ref()).map(drop);
                name_row(error, &self.source, positions, alone)
            })?;
            Ok(column.values)
        })
        .collect()
    }
}

/// The rows of each column at `rows`, in that order.
pub(super) fn take_all(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>> {
    let rows = UInt32Array::from(rows.to_vec());
    let take = |column: &ArrayRef| arrow_select::take::take(column, &rows, None);
    columns.iter().map(take).collect::<std::result::Result<_, _>>().map_err(|cause| {
        Error::new(ErrorKind::Internal, "can't take rows of a batch").with_source(cause)
    })
}
