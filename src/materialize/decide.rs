//! The first pass: keys and times of every row in the window, to the winning rows, those of the
//! newest part of the source first, or to whoever else wants them.

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
    Candidate, CandidateBatch, Decider, KeyHasher, Moment, NullKeys, Part, RowSet, Scan, ScanBatch,
    Timestamps, null_keys,
};
use crate::value::arrow::to_column;

/// Batches that wait for the table.
const QUEUED_BATCHES: usize = 4;

/// What the first pass saw.
#[derive(Debug)]
pub(super) struct Decision {
    /// How many rows were looked at.
    pub rows_read: u64,
    /// How many rows of the window have a null key.
    pub null_keys: u64,
}

/// Winning rows, to be read again.
pub(super) struct Winners {
    pub rows: RowSet,
    /// The part of the source that all of them are in; `None`: they may be anywhere.
    pub part: Option<Part>,
}

/// Takes winners, of which there may be none.
pub(super) type Give<'g> = dyn FnMut(Winners) -> Result<()> + Send + 'g;

impl Winners {
    fn give(self, to: &mut Give<'_>) -> Result<()> {
        if self.rows.is_empty() { Ok(()) } else { to(self) }
    }
}

/// Decides which rows of the source win: of its newest part first, and as soon as a part is
/// decided its winners go to `winners`. Rows with a null key are left out where `skip_null_keys`
/// says so, and fail where not.
pub(super) fn decide(
    pass: FirstPass<'_>,
    decider: Decider,
    skip_null_keys: bool,
    winners: &mut Give<'_>,
    call: &Call<'_>,
) -> Result<Decision> {
    let plan = pass.plan;
    let mut settling = Settling { decider, source_rows: plan.source.rows(), winners };
    let (rows_read, null_keys) = pass.run(&mut settling, call)?;
    if !skip_null_keys {
        let names: Vec<String> = plan.join_keys.iter().map(|key| key.name.clone()).collect();
        null_keys.require_none(&names)?;
    }
    settling.finish(call)?;
    Ok(Decision { rows_read, null_keys: null_keys.count })
}

/// Gives the winners of each part away when it ends.
struct Settling<'a> {
    decider: Decider,
    source_rows: u64,
    winners: &'a mut Give<'a>,
}

impl Settling<'_> {
    fn finish(self, call: &Call<'_>) -> Result<()> {
        let mut rows = RowSet::new(self.source_rows);
        // The table is given back before its rows are read again.
        self.decider.finish(&mut rows, call)?;
        Winners { rows, part: None }.give(self.winners)
    }
}

impl Observe for Settling<'_> {
    fn rows(&mut self, batch: &CandidateBatch) -> Result<()> {
        self.decider.observe(batch)
    }

    fn part_ends(&mut self, part: &Part) -> Result<()> {
        let mut rows = RowSet::new(self.source_rows);
        self.decider.settle(&mut rows);
        Winners { rows, part: Some(part.clone()) }.give(self.winners)
    }
}

/// Takes the rows of a first pass.
pub(crate) trait Observe: Send {
    /// Some more rows.
    fn rows(&mut self, batch: &CandidateBatch) -> Result<()>;

    /// All rows of `part` have come; those that are still to come are older.
    fn part_ends(&mut self, _part: &Part) -> Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&CandidateBatch) -> Result<()> + Send> Observe for F {
    fn rows(&mut self, batch: &CandidateBatch) -> Result<()> {
        self(batch)
    }
}

/// Keys and times of a view's source, read once.
#[derive(Clone, Copy)]
pub(crate) struct FirstPass<'a> {
    pub plan: &'a ViewPlan,
    /// What is read in turn, each newer than the next; nothing: the source as it is.
    pub parts: &'a [Part],
    /// Memory for one batch of rows.
    pub batch_bytes: usize,
    /// Whether a row of this event timestamp counts; within the plan's window in any case.
    pub counts: &'a (dyn Fn(Moment) -> bool + Sync),
    /// Counts the rows that the reader has come by.
    pub searched: &'a AtomicU64,
}

/// On its way from the reader to the observer.
enum Step<'a> {
    Rows(CandidateBatch),
    PartEnds(&'a Part),
}

impl FirstPass<'_> {
    /// Gives all rows that count and have a key to `observer`; says how many were looked at, and
    /// which have no key. One thread reads, another observes: for a table of entities each takes
    /// about as long as the other.
    pub fn run(self, observer: &mut dyn Observe, call: &Call<'_>) -> Result<(u64, NullKeys)> {
        let (send, receive) = sync_channel(QUEUED_BATCHES);
        let (read, observed) = thread::scope(|scope| {
            let observing = spawn_named(scope, "feastrs-decide", move || {
                receive.iter().try_for_each(|step| match step {
                    Step::Rows(batch) => observer.rows(&batch),
                    Step::PartEnds(part) => observer.part_ends(part),
                })
            });
            let read = Pass::new(self, send).run(call);
            (read, observing.and_then(finished))
        });
        // The reader only sees that the observer has gone, and not why.
        observed?;
        read
    }
}

/// The reading side.
struct Pass<'a> {
    of: FirstPass<'a>,
    observer: SyncSender<Step<'a>>,
    hasher: KeyHasher,
    null_keys: NullKeys,
    rows_read: u64,
    // The part that is being read, where rows are settled by what is known of parts.
    part: Option<&'a Part>,
}

impl<'a> Pass<'a> {
    fn new(of: FirstPass<'a>, observer: SyncSender<Step<'a>>) -> Self {
        let (hasher, null_keys) = (KeyHasher::default(), NullKeys::default());
        Pass { of, observer, hasher, null_keys, rows_read: 0, part: None }
    }

    /// Sends all rows that count to the observer, and says how many were looked at.
    fn run(mut self, call: &Call<'_>) -> Result<(u64, NullKeys)> {
        let FirstPass { plan, parts, batch_bytes, .. } = self.of;
        let scan = Scan {
            source: &plan.source,
            columns: &plan.head,
            window: Some((plan.event_column(), plan.window)),
            keys: &[],
            rows: None,
            batch_bytes,
        };
        if parts.is_empty() {
            scan.run(&mut |batch| self.take(&batch, call))?;
        }
        for (number, part) in parts.iter().enumerate() {
            self.part = (parts.len() > 1).then_some(part);
            scan.run_part(part, &mut |batch| self.take(&batch, call))?;
            if number + 1 < parts.len() {
                self.send(Step::PartEnds(part))?;
            }
        }
        Ok((self.rows_read, self.null_keys))
    }

    fn take(&mut self, batch: &ScanBatch, call: &Call<'_>) -> Result<()> {
        call.check()?;
        self.of.searched.fetch_add(batch.rows() as u64, Ordering::Relaxed);
        let candidates = self.candidates(batch)?;
        match candidates.candidates.is_empty() {
            true => Ok(()),
            false => self.send(Step::Rows(candidates)),
        }
    }

    fn send(&self, step: Step<'a>) -> Result<()> {
        self.observer.send(step).map_err(|_| stopped())
    }

    fn candidates(&mut self, batch: &ScanBatch) -> Result<CandidateBatch> {
        let plan = self.of.plan;
        let head = Head::of(plan, &batch.columns)?;
        let mut candidates = Vec::with_capacity(batch.rows());
        let mut inside = Vec::with_capacity(batch.rows());
        for (index, row) in batch.row_numbers().enumerate() {
            // Null event times are in no window: Feast's filter drops such rows too.
            let Some(event) = head.event.get(index) else { continue };
            if self.part.is_some_and(|part| !part.may_have(event)) {
                return Err(not_as_told(plan, row));
            }
            if (self.of.counts)(event) {
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
        let mut keys = plan.key_columns(head.keys, &inside, &positions, batch.rows())?;
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
        let keys = plan.encode_key_values(&keys, candidates.len())?;
        let hashes = keys.iter().map(|key| self.hasher.hash(key)).collect();
        Ok(CandidateBatch { keys, hashes, candidates })
    }
}

#[cold]
fn not_as_told(plan: &ViewPlan, row: u64) -> Error {
    Error::new(
        ErrorKind::SourceInvalid,
        format!(
            "{} is newer or older than the file's own statistics of '{}' say; write the file anew \
             with a writer that gets them right, or without them",
            plan.source.locate(row),
            plan.event_column()
        ),
    )
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
    /// Whether the source says of itself that every row has a key.
    pub(super) fn has_no_null_keys(&self) -> bool {
        self.join_keys.iter().all(|key| self.source.has_no_nulls(&key.source_name))
    }

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
