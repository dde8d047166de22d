//! The second pass: winning rows with their features, from the source to the store. One
//! thread reads and cuts rows into chunks by entity, others encode and write (or compare with
//! what a store has); each entity belongs to one writer, so two never meet on one key.

use std::sync::mpsc::{Receiver, Sender, SyncSender};

use arrow_array::{Array, ArrayRef};

use super::blame::name_row;
use super::decide::{Head, take_all};
use super::plan::ViewPlan;
use super::workers::stopped;
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::{KeyHasher, Part, RowSet, Scan, ScanBatch};
use crate::store::{OnlineStore, WriteBatch, WriteReport};
use crate::value::PackedBytes;
use crate::value::arrow::encode_values;

/// Chunks that wait for a writer: enough to bridge a slow read, few enough to bound memory.
pub(crate) const QUEUED_CHUNKS: usize = 2;
/// Rows in one write where the user does not say.
pub(super) const DEFAULT_WRITE_ROWS: usize = 2_000;

/// Rows on their way to one writer.
pub(crate) struct Chunk {
    keys: PackedBytes,
    event_timestamps: Vec<i64>,
    created_timestamps: Option<Vec<Option<i64>>>,
    features: Vec<ArrayRef>,
    // For each row its number in the source, to name it in errors.
    positions: Vec<u64>,
    // Rows of the source that are done with when this chunk is.
    source_rows: u64,
}

/// What a writer tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub source_rows: u64,
    pub report: WriteReport,
}

/// Reads the rows in `winners` and gives them to the writers.
pub(crate) struct Reader<'a> {
    plan: &'a ViewPlan,
    writers: Vec<SyncSender<Chunk>>,
    pending: Vec<Pending>,
    hasher: KeyHasher,
    batch_bytes: usize,
    write_rows: usize,
    // Where the scan has come to; how many rows of the source were told to be done with.
    rows_done: u64,
    rows_told: u64,
}

/// Pieces of a chunk that is not full yet.
#[derive(Default)]
struct Pending {
    pieces: Vec<Chunk>,
    rows: usize,
    bytes: usize,
}

impl<'a> Reader<'a> {
    /// For these writers; chunks have about `write_rows` rows and no more than about
    /// `batch_bytes` bytes.
    pub fn new(
        plan: &'a ViewPlan,
        writers: Vec<SyncSender<Chunk>>,
        batch_bytes: usize,
        write_rows: usize,
    ) -> Self {
        let pending = writers.iter().map(|_| Pending::default()).collect();
        let hasher = KeyHasher::default();
        let (rows_done, rows_told) = (0, 0);
        Reader { plan, writers, pending, hasher, batch_bytes, write_rows, rows_done, rows_told }
    }

    /// Reads to the end, or until a writer has gone.
    pub fn run(mut self, winners: &RowSet, call: &Call<'_>) -> Result<()> {
        self.transfer(winners, None, call)?;
        self.finish()
    }

    /// Reads the rows in `winners`, all of which are in `part`, if there is one.
    pub fn transfer(
        &mut self,
        winners: &RowSet,
        part: Option<&Part>,
        call: &Call<'_>,
    ) -> Result<()> {
        let columns = self.plan.all_columns();
        let scan = Scan {
            source: &self.plan.source,
            columns: &columns,
            window: None,
            keys: &[],
            rows: Some(winners),
            batch_bytes: self.batch_bytes,
        };
        let mut take = |batch: ScanBatch| {
            call.check()?;
            self.take(&batch, winners)
        };
        match part {
            Some(part) => scan.run_part(part, &mut take),
            None => scan.run(&mut take),
        }
    }

    /// Gives the writers what is left.
    pub fn finish(mut self) -> Result<()> {
        (0..self.writers.len()).try_for_each(|shard| self.flush(shard))
    }

    fn take(&mut self, batch: &ScanBatch, winners: &RowSet) -> Result<()> {
        let (rows, positions): (Vec<u32>, Vec<u64>) =
            (0u32..).zip(batch.row_numbers()).filter(|&(_, row)| winners.contains(row)).unzip();
        let (head, features) = batch.columns.split_at(self.plan.head.len());
        let head = Head::of(self.plan, head)?;
        let keys = self.plan.key_columns(head.keys, &rows, &positions, batch.rows())?;
        let keys = self.plan.encode_keys(&keys, rows.len())?;
        let mut shards = vec![Vec::new(); self.writers.len()];
        for (index, (key, &row)) in keys.iter().zip(&rows).enumerate() {
            shards[self.hasher.shard(key, self.writers.len())].push((index, row));
        }
        let mut source_rows = self.rows_passed(batch);
        for (shard, members) in shards.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let mut chunk = self.piece(&head, features, &keys, members)?;
            chunk.positions = members.iter().map(|&(index, _)| positions[index]).collect();
            chunk.source_rows = std::mem::take(&mut source_rows);
            self.push(shard, chunk)?;
        }
        Ok(())
    }

    /// How many rows of the source are done with by `batch`: its own and those of its row group
    /// that were passed over in front of it.
    fn rows_passed(&mut self, batch: &ScanBatch) -> u64 {
        let Some(last) = batch.positions.last() else { return 0 };
        let is_further = (batch.group_start..last.end).contains(&self.rows_done);
        let from = if is_further { self.rows_done } else { batch.group_start };
        let passed = last.end - from;
        self.rows_done = last.end;
        let passed = passed.min(self.plan.source.rows() - self.rows_told);
        self.rows_told += passed;
        passed
    }

    /// The `members` of a batch, each an index into `keys` and the row.
    fn piece(
        &self,
        head: &Head<'_>,
        features: &[ArrayRef],
        keys: &PackedBytes,
        members: &[(usize, u32)],
    ) -> Result<Chunk> {
        let rows: Vec<u32> = members.iter().map(|&(_, row)| row).collect();
        let mut own_keys = PackedBytes::with_capacity(rows.len(), keys.byte_len());
        members.iter().for_each(|&(key, _)| own_keys.push(keys.get(key)));
        let times = rows.iter().map(|&row| head.event.get(row as usize).map(|at| at.micros));
        let event_timestamps: Option<Vec<i64>> = times.collect();
        let created_timestamps = head.created.as_ref().map(|created| {
            rows.iter().map(|&row| created.get(row as usize).map(|at| at.micros)).collect()
        });
        Ok(Chunk {
            keys: own_keys,
            event_timestamps: event_timestamps.ok_or_else(lost_time)?,
            created_timestamps,
            features: take_all(features, &rows)?,
            positions: Vec::new(),
            source_rows: 0,
        })
    }

    fn push(&mut self, shard: usize, chunk: Chunk) -> Result<()> {
        let pending = &mut self.pending[shard];
        pending.rows += chunk.keys.len();
        pending.bytes += chunk.bytes();
        pending.pieces.push(chunk);
        if pending.rows >= self.write_rows || pending.bytes >= self.batch_bytes {
            return self.flush(shard);
        }
        Ok(())
    }

    fn flush(&mut self, shard: usize) -> Result<()> {
        for chunk in merge(std::mem::take(&mut self.pending[shard]).pieces)? {
            // A writer that has gone has told why; this thread only has to end.
            self.writers[shard].send(chunk).map_err(|_| stopped())?;
        }
        Ok(())
    }
}

impl Chunk {
    /// Encoded keys.
    pub fn keys(&self) -> &PackedBytes {
        &self.keys
    }

    /// Event timestamps, microseconds since the epoch.
    pub fn event_timestamps(&self) -> &[i64] {
        &self.event_timestamps
    }

    /// Rows of the source that are done with when this chunk is.
    pub fn source_rows(&self) -> u64 {
        self.source_rows
    }

    /// For each feature of `plan` the serialized values of `rows`.
    pub fn encode(
        &self,
        plan: &ViewPlan,
        rows: std::ops::Range<usize>,
    ) -> Result<Vec<PackedBytes>> {
        let positions = &self.positions[rows.clone()];
        let columns = self.features.iter().zip(&plan.features);
        columns
            .map(|(array, feature)| {
                let slice = array.slice(rows.start, rows.len());
                let encode =
                    |array: &dyn Array| encode_values(array, feature.value_type, &feature.name);
                encode(slice.as_ref()).map_err(|error| {
                    let alone = |row| encode(slice.slice(row, 1).as_ref()).map(drop);
                    name_row(error, &plan.source, positions, alone)
                })
            })
            .collect()
    }

    fn bytes(&self) -> usize {
        let features = self.features.iter().map(|array| array.get_array_memory_size());
        self.keys.byte_len() + features.sum::<usize>()
    }

    fn can_join(&self, other: &Chunk) -> bool {
        let columns = self.features.iter().zip(&other.features);
        columns.into_iter().all(|(left, right)| left.data_type() == right.data_type())
    }
}

/// The pieces as few chunks: one, unless files differ in the types of their columns.
fn merge(pieces: Vec<Chunk>) -> Result<Vec<Chunk>> {
    let mut groups: Vec<Vec<Chunk>> = Vec::new();
    for piece in pieces {
        match groups.last_mut() {
            Some(group) if group[0].can_join(&piece) => group.push(piece),
            _ => groups.push(vec![piece]),
        }
    }
    groups.into_iter().map(join).collect()
}

/// Joins chunks of equal types; `group` has at least one.
fn join(mut group: Vec<Chunk>) -> Result<Chunk> {
    if group.len() == 1 {
        return Ok(group.remove(0));
    }
    let features = (0..group[0].features.len())
        .map(|column| {
            let parts: Vec<&dyn Array> =
                group.iter().map(|chunk| chunk.features[column].as_ref()).collect();
            arrow_select::concat::concat(&parts).map_err(|cause| {
                Error::new(ErrorKind::Internal, "can't join batches").with_source(cause)
            })
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    let mut keys = PackedBytes::default();
    group.iter().flat_map(|chunk| chunk.keys.iter()).for_each(|key| keys.push(key));
    let created = group.iter_mut().map(|chunk| chunk.created_timestamps.take());
    let created: Option<Vec<Vec<Option<i64>>>> = created.collect();
    Ok(Chunk {
        keys,
        event_timestamps: group.iter().flat_map(|chunk| chunk.event_timestamps.clone()).collect(),
        created_timestamps: created.map(|parts| parts.concat()),
        features,
        positions: group.iter().flat_map(|chunk| chunk.positions.clone()).collect(),
        source_rows: group.iter().map(|chunk| chunk.source_rows).sum(),
    })
}

/// Encodes and writes chunks until there are no more. `told` hears of each acknowledged write.
pub(super) fn write_chunks(
    plan: &ViewPlan,
    chunks: Receiver<Chunk>,
    write_rows: usize,
    store: &dyn OnlineStore,
    call: &Call<'_>,
    told: &Sender<Written>,
) -> Result<()> {
    for chunk in chunks {
        let rows = chunk.keys.len();
        // Even parts: a small last one would cost a trip of its own.
        let parts = rows.div_ceil(write_rows.max(1)).max(1);
        let part_rows = rows.div_ceil(parts);
        let mut source_rows = chunk.source_rows;
        for start in (0..rows).step_by(part_rows.max(1)) {
            call.check()?;
            let report = write_part(plan, &chunk, start..rows.min(start + part_rows), store, call)?;
            // Nobody listens any more only when the call is being stopped.
            let _ = told.send(Written { source_rows, report });
            source_rows = 0;
        }
    }
    Ok(())
}

fn write_part(
    plan: &ViewPlan,
    chunk: &Chunk,
    rows: std::ops::Range<usize>,
    store: &dyn OnlineStore,
    call: &Call<'_>,
) -> Result<WriteReport> {
    let values = chunk.encode(plan, rows.clone())?;
    let part_keys;
    let keys = if rows.len() == chunk.keys.len() {
        &chunk.keys
    } else {
        let mut keys = PackedBytes::default();
        rows.clone().for_each(|row| keys.push(chunk.keys.get(row)));
        part_keys = keys;
        &part_keys
    };
    let batch = WriteBatch {
        view: &plan.stored,
        keys,
        event_timestamps: &chunk.event_timestamps[rows.clone()],
        created_timestamps: chunk.created_timestamps.as_ref().map(|all| &all[rows]),
        values: &values,
    };
    store.write(&batch, call)
}

#[cold]
fn lost_time() -> Error {
    Error::new(ErrorKind::SourceChanged, "a row lost its event timestamp between two passes")
}
