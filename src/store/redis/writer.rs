//! Writes of a batch: what is left to write, what is under way, what was acknowledged, and how a
//! row is encoded. How it gets there is in `fresh` and `copy` (new entities), `script` (small
//! batches) and `transaction` (all others).

use std::collections::VecDeque;

use super::codec::{CommandBuffer, append_argument};
use super::connection::Connection;
use super::fresh::Fresh;
use super::learned::Learned;
use super::refusal;
use super::replace::Replace;
use super::timestamp::{self, Timestamp};
use super::transaction::Look;
use crate::call::Call;
use crate::error::Result;
use crate::store::{EqualTimestamps, WriteBatch, WriteReport};

/// Rows of one transaction: readers of the server wait for an EXEC, and the more keys are
/// watched the likelier is a conflict.
pub(super) const CHUNK_ROWS: usize = 100;
/// Bytes of values of one transaction, about.
const CHUNK_BYTES: usize = 1 << 20;
/// The arguments `$4`, field, in front of each value.
const FIELD_LEN: usize = 10;

/// How rows are written, whatever the batch.
pub(super) struct WriterSettings {
    /// `None`: keys live for ever. Never zero.
    pub(super) key_ttl_seconds: Option<u64>,
    /// Write without looking at the stored timestamp.
    pub(super) skip_dedup: bool,
    /// The fields of a row expire with its view's ttl.
    pub(super) field_ttl: bool,
    pub(super) equal_timestamps: EqualTimestamps,
    /// What the server has taught so far.
    pub(super) learned: Learned,
}

pub(super) struct Writer<'a> {
    pub(super) batch: &'a WriteBatch<'a>,
    pub(super) project: &'a [u8],
    pub(super) equal_timestamps: EqualTimestamps,
    is_blind: bool,
    // Encoded once: what every row repeats.
    pub(super) timestamp_field: Vec<u8>,
    pub(super) fields: Vec<[u8; FIELD_LEN]>,
    pub(super) ttl: Option<Vec<u8>>,
    // How long after its event timestamp a row's fields expire, microseconds.
    field_ttl: Option<i64>,
    pub(super) learned: &'a Learned,
    next_row: usize,
    pub(super) fresh: Fresh<'a>,
    // Rows to compare and write that were sent before, in vain.
    pub(super) again: VecDeque<Chunk>,
    // Rows that others write all the time: left to the script.
    pub(super) contended: Vec<usize>,
    // The chunk that is being written, and the one that has been sent behind it.
    pub(super) current: Option<Chunk>,
    pub(super) ahead: Option<Chunk>,
    pub(super) replace: Replace<'a>,
    // What the current chunk's transaction does: its commands, and for how many rows.
    pub(super) decided: CommandBuffer,
    pub(super) winners: usize,
    report: WriteReport,
}

/// Rows that travel together.
pub(super) struct Chunk {
    pub(super) rows: Vec<usize>,
    pub(super) aborts: u32,
    pub(super) look: Look,
}

impl Chunk {
    pub(super) fn new(rows: Vec<usize>) -> Self {
        Chunk { rows, aborts: 0, look: Look::Timestamps }
    }
}

impl<'a> Writer<'a> {
    /// Errors: the batch's columns are not equally long.
    pub(super) fn new(
        batch: &'a WriteBatch<'a>,
        project: &'a [u8],
        settings: &'a WriterSettings,
    ) -> Result<Self> {
        batch.check_shape()?;
        let mut timestamp_field = Vec::new();
        append_argument(&mut timestamp_field, &batch.view.timestamp_field);
        let fields = batch.view.features.iter().map(|feature| {
            let [a, b, c, d] = feature.field;
            [b'$', b'4', b'\r', b'\n', a, b, c, d, b'\r', b'\n']
        });
        let ttl = settings.key_ttl_seconds.map(|seconds| {
            let mut encoded = Vec::new();
            append_argument(&mut encoded, seconds.to_string().as_bytes());
            encoded
        });
        let field_ttl = batch.view.ttl_micros.filter(|_| settings.field_ttl);
        let mut fresh = Fresh::new(&settings.learned, batch, settings.key_ttl_seconds);
        if field_ttl.is_some() {
            // A hash that is sent whole has no times for its fields.
            fresh.give_up();
        }
        Ok(Writer {
            batch,
            project,
            equal_timestamps: settings.equal_timestamps,
            is_blind: settings.skip_dedup,
            timestamp_field,
            fields: fields.collect(),
            ttl,
            field_ttl,
            learned: &settings.learned,
            next_row: 0,
            fresh,
            again: VecDeque::new(),
            contended: Vec::new(),
            current: None,
            ahead: None,
            replace: Replace::new(&settings.learned, batch, settings),
            decided: CommandBuffer::default(),
            winners: 0,
            report: WriteReport::default(),
        })
    }

    /// What has been acknowledged so far.
    pub(super) fn report(&self) -> WriteReport {
        self.report
    }

    /// Whether rows are written without a look at what is stored.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Writes these rows, and no others, in transactions of their own.
    pub(super) fn run_chunks(
        &mut self,
        chunks: impl Iterator<Item = Vec<usize>>,
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        self.next_row = self.batch.keys.len();
        self.fresh.give_up();
        self.again.extend(chunks.map(Chunk::new));
        self.run(connection, call)
    }

    /// The rows that [`run_chunks`](Self::run_chunks) did not get to write.
    pub(super) fn take_left(&mut self) -> Vec<usize> {
        self.resume();
        let chunks = std::mem::take(&mut self.again);
        let left = chunks.into_iter().flat_map(|chunk| chunk.rows);
        left.chain(std::mem::take(&mut self.contended)).collect()
    }

    /// After a connection was lost: what was under way is tried again, through compare and
    /// write, for nobody knows whether it arrived.
    pub(super) fn resume(&mut self) {
        self.is_blind = false;
        self.leave_fresh();
        self.again.extend(self.ahead.take());
        self.again.extend(self.current.take());
    }

    /// The server that acknowledged rows is no more the one to write to, and may have told
    /// nobody of them: all are compared and written again.
    pub(super) fn begin_again(&mut self) {
        self.resume();
        self.again.clear();
        self.contended.clear();
        self.next_row = 0;
        self.report = WriteReport::default();
    }

    /// Writes all that is left to write.
    pub(super) fn run(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        if self.is_blind {
            return self.run_blind(connection, call);
        }
        self.run_fresh(connection, call)?;
        while self.is_for_script() {
            self.current = self.next_chunk();
            if self.current.is_none() {
                return Ok(());
            }
            self.run_script(connection, call)?;
        }
        self.run_transactions(connection, call)
    }

    pub(super) fn next_chunk(&mut self) -> Option<Chunk> {
        self.again.pop_front().or_else(|| self.next_unsent(CHUNK_ROWS))
    }

    /// The next rows that have never been sent, `rows` at most.
    pub(super) fn next_unsent(&mut self, rows: usize) -> Option<Chunk> {
        let start = self.next_row;
        let end = start + self.chunk_len(start..self.batch.keys.len(), rows);
        self.next_row = end;
        (end > start).then(|| Chunk::new((start..end).collect()))
    }

    /// Leaves rows to the chunks that compare before they write.
    pub(super) fn push_again(&mut self, mut rows: &[usize]) {
        while !rows.is_empty() {
            let (chunk, rest) = rows.split_at(self.chunk_len(rows.iter().copied(), CHUNK_ROWS));
            self.again.push_back(Chunk::new(chunk.to_vec()));
            rows = rest;
        }
    }

    /// How many of the first of `rows` travel together, `most` at most.
    fn chunk_len(&self, rows: impl Iterator<Item = usize>, most: usize) -> usize {
        let mut bytes = 0;
        let fits = rows.take(most).take_while(|&row| {
            let has_room = bytes < CHUNK_BYTES;
            bytes += self.batch.values.iter().map(|values| values.get(row).len()).sum::<usize>();
            has_room
        });
        fits.count()
    }

    /// Whether there is no row that has never been sent.
    pub(super) fn is_all_sent(&self) -> bool {
        self.next_row >= self.batch.keys.len()
    }

    pub(super) fn timestamp(&self, row: usize) -> Timestamp {
        Timestamp::from_micros(self.batch.event_timestamps.get(row).copied().unwrap_or_default())
    }

    pub(super) fn encode_row(&self, commands: &mut CommandBuffer, row: usize) {
        let key = self.batch.keys.get(row);
        self.encode_hset(commands, |commands| commands.argument_of(key, self.project), row);
        if let Some(milliseconds) = self.expires_at(row) {
            commands.begin(6 + self.fields.len());
            commands.argument(b"HPEXPIREAT");
            commands.argument_of(key, self.project);
            commands.argument(milliseconds.to_string().as_bytes());
            commands.argument(b"FIELDS");
            commands.argument((1 + self.fields.len()).to_string().as_bytes());
            commands.encoded(&self.timestamp_field);
            self.fields.iter().for_each(|field| commands.encoded(field));
        }
        if let Some(ttl) = &self.ttl {
            commands.begin(3);
            commands.argument(b"EXPIRE");
            commands.argument_of(key, self.project);
            commands.encoded(ttl);
        }
    }

    /// The row as the fields of the hash whose key is encoded by `key`.
    pub(super) fn encode_hset(
        &self,
        commands: &mut CommandBuffer,
        key: impl FnOnce(&mut CommandBuffer),
        row: usize,
    ) {
        let mut timestamp = Vec::with_capacity(timestamp::MAX_LEN);
        self.timestamp(row).encode(&mut timestamp);
        commands.begin(2 + 2 + 2 * self.fields.len());
        commands.argument(b"HSET");
        key(commands);
        commands.encoded(&self.timestamp_field);
        commands.argument(&timestamp);
        self.encode_features(commands, row);
    }

    /// Field and value of each feature.
    pub(super) fn encode_features(&self, commands: &mut CommandBuffer, row: usize) {
        for (field, values) in self.fields.iter().zip(self.batch.values) {
            commands.encoded(field);
            commands.argument(values.get(row));
        }
    }

    /// When the fields of a row expire, milliseconds since the epoch; `None`: never. What is over
    /// already is gone at once. Never negative, which the server would refuse.
    pub(super) fn expires_at(&self, row: usize) -> Option<i64> {
        let ttl = self.field_ttl?;
        let event = self.batch.event_timestamps.get(row).copied().unwrap_or_default();
        Some((event.saturating_add(ttl) / 1000).max(0))
    }

    /// How many replies [`encode_row`](Self::encode_row) leads to.
    pub(super) fn commands_for_row(&self) -> usize {
        1 + usize::from(self.ttl.is_some()) + usize::from(self.field_ttl.is_some())
    }

    pub(super) fn acknowledge(&mut self, rows: usize, written: usize) {
        self.report.written += written as u64;
        self.report.older += (rows - written) as u64;
    }

    /// `skip_dedup`: rows are written without a look at what is stored.
    fn run_blind(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        connection.set_doing("HSET");
        loop {
            self.ahead = self.next_chunk();
            if let Some(chunk) = &self.ahead {
                for &row in &chunk.rows {
                    self.encode_row(connection.commands(), row);
                }
                connection.send(call)?;
            }
            if let Some(chunk) = &self.current {
                let rows = chunk.rows.clone();
                self.receive_written(&rows, connection, call)?;
            }
            self.current = self.ahead.take();
            if self.current.is_none() {
                return Ok(());
            }
        }
    }

    fn receive_written(
        &mut self,
        rows: &[usize],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        let node = connection.node().clone();
        for &row in rows {
            for _ in 0..self.commands_for_row() {
                if let Some(text) = connection.receive(call)?.error() {
                    return Err(refusal::refused(&node, "HSET", text).context(self.shown_key(row)));
                }
            }
        }
        self.acknowledge(rows.len(), rows.len());
        Ok(())
    }

    #[cold]
    pub(super) fn shown_key(&self, row: usize) -> String {
        let key = [self.batch.keys.get(row), self.project].concat();
        format!("Redis key {}", refusal::shown(&key))
    }
}
