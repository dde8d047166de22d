//! Writes: for each chunk of rows WATCH and the stored timestamps, then MULTI, the rows that
//! are newer, EXEC. The next chunk's WATCH travels behind this chunk's EXEC, so a chunk costs
//! about one trip. A chunk that others got into is tried again, and in the end row by row.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use super::codec::{CommandBuffer, Reply, append_argument};
use super::connection::Connection;
use super::fresh::{Fresh, Learned};
use super::refusal;
use super::timestamp::{self, Timestamp};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{EqualTimestamps, WriteBatch, WriteReport};

/// Rows of one transaction: readers of the server wait for an EXEC, and the more keys are
/// watched the likelier is a conflict.
pub(super) const CHUNK_ROWS: usize = 100;
/// Bytes of values of one transaction, about.
const CHUNK_BYTES: usize = 1 << 20;
/// A chunk that was aborted so often is split.
const ABORTS_BEFORE_SPLIT: u32 = 2;
/// A single row that was aborted so often is given up.
const MAX_ROW_ABORTS: u32 = 100;
/// The arguments `$4`, field, in front of each value.
const FIELD_LEN: usize = 10;

/// How rows are written, whatever the batch.
pub(super) struct WriterSettings {
    /// `None`: keys live for ever. Never zero.
    pub(super) key_ttl_seconds: Option<u64>,
    /// Write without looking at the stored timestamp.
    pub(super) skip_dedup: bool,
    pub(super) equal_timestamps: EqualTimestamps,
    /// What the server has taught so far.
    pub(super) learned: Learned,
}

pub(super) struct Writer<'a> {
    pub(super) batch: &'a WriteBatch<'a>,
    pub(super) project: &'a [u8],
    equal_timestamps: EqualTimestamps,
    is_blind: bool,
    // Encoded once: what every row repeats.
    timestamp_field: Vec<u8>,
    fields: Vec<[u8; FIELD_LEN]>,
    ttl: Option<Vec<u8>>,
    next_row: usize,
    pub(super) fresh: Fresh<'a>,
    // Rows to compare and write that were sent before, in vain.
    pub(super) again: VecDeque<Chunk>,
    // The chunk that is being written, and the one that has been sent behind it.
    pub(super) current: Option<Chunk>,
    pub(super) ahead: Option<Chunk>,
    winners: Vec<usize>,
    report: WriteReport,
}

/// Rows that travel together.
pub(super) struct Chunk {
    pub(super) rows: Vec<usize>,
    pub(super) aborts: u32,
}

impl<'a> Writer<'a> {
    /// Errors: [`ErrorKind::Internal`] when the batch's columns are not equally long.
    pub(super) fn new(
        batch: &'a WriteBatch<'a>,
        project: &'a [u8],
        settings: &'a WriterSettings,
    ) -> Result<Self> {
        check_shape(batch)?;
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
        Ok(Writer {
            batch,
            project,
            equal_timestamps: settings.equal_timestamps,
            is_blind: settings.skip_dedup,
            timestamp_field,
            fields: fields.collect(),
            ttl,
            next_row: 0,
            fresh: Fresh::new(&settings.learned, batch, settings.key_ttl_seconds),
            again: VecDeque::new(),
            current: None,
            ahead: None,
            winners: Vec::with_capacity(CHUNK_ROWS),
            report: WriteReport::default(),
        })
    }

    /// What has been acknowledged so far.
    pub(super) fn report(&self) -> WriteReport {
        self.report
    }

    /// After a connection was lost: what was under way is tried again, through compare and
    /// write, for nobody knows whether it arrived.
    pub(super) fn resume(&mut self) {
        self.is_blind = false;
        self.leave_fresh();
        self.again.extend(self.ahead.take());
        self.again.extend(self.current.take());
    }

    /// Writes all that is left to write.
    pub(super) fn run(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        if self.is_blind {
            return self.run_blind(connection, call);
        }
        if self.fresh.is_on() {
            self.run_fresh(connection, call)?;
        }
        connection.set_doing("WATCH, HMGET, MULTI, HSET, EXEC");
        loop {
            if self.current.is_none() {
                let Some(chunk) = self.next_chunk() else { return Ok(()) };
                self.watch(&chunk, connection);
                self.current = Some(chunk);
                connection.send(call)?;
            }
            self.receive_watched(connection, call)?;
            self.encode_decision(connection.commands());
            if let Some(chunk) = self.next_chunk() {
                self.watch(&chunk, connection);
                self.ahead = Some(chunk);
            }
            connection.send(call)?;
            let is_done = self.receive_outcome(connection, call)?;
            connection.set_exclusive(self.ahead.is_some());
            let next = self.ahead.take();
            if let Some(chunk) = std::mem::replace(&mut self.current, next) {
                match is_done {
                    true => self.acknowledge(chunk.rows.len(), self.winners.len()),
                    false => self.aborted(chunk, call)?,
                }
            }
        }
    }

    fn next_chunk(&mut self) -> Option<Chunk> {
        self.again.pop_front().or_else(|| self.next_unsent())
    }

    /// The next rows that have never been sent.
    pub(super) fn next_unsent(&mut self) -> Option<Chunk> {
        let (start, total) = (self.next_row, self.batch.keys.len());
        let (mut end, mut bytes) = (start, 0);
        while end < total && end - start < CHUNK_ROWS && bytes < CHUNK_BYTES {
            bytes += self.batch.values.iter().map(|values| values.get(end).len()).sum::<usize>();
            end += 1;
        }
        self.next_row = end;
        (end > start).then(|| Chunk { rows: (start..end).collect(), aborts: 0 })
    }

    fn watch(&self, chunk: &Chunk, connection: &mut Connection) {
        connection.set_exclusive(true);
        let commands = connection.commands();
        commands.begin(1 + chunk.rows.len());
        commands.argument(b"WATCH");
        for &row in &chunk.rows {
            commands.argument_of(self.batch.keys.get(row), self.project);
        }
        for &row in &chunk.rows {
            commands.begin(3);
            commands.argument(b"HMGET");
            commands.argument_of(self.batch.keys.get(row), self.project);
            commands.encoded(&self.timestamp_field);
        }
    }

    /// Takes the stored timestamps of the current chunk and decides who wins.
    fn receive_watched(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        let node = connection.node().clone();
        let rows = self.current.as_ref().map(|chunk| chunk.rows.clone()).unwrap_or_default();
        if let Some(text) = connection.receive(call)?.error() {
            return Err(refusal::refused(&node, "WATCH", text));
        }
        self.winners.clear();
        for row in rows {
            let reply = connection.receive(call)?;
            let stored = self.stored_timestamp(reply, row, &node)?;
            if self.is_winner(row, stored) {
                self.winners.push(row);
            }
        }
        Ok(())
    }

    fn stored_timestamp(
        &self,
        reply: Reply<'_>,
        row: usize,
        node: &str,
    ) -> Result<Option<Timestamp>> {
        if let Some(text) = reply.error() {
            return Err(refusal::refused(node, "HMGET", text).context(self.shown_key(row)));
        }
        let stored = reply.strings().and_then(|mut strings| strings.next()).flatten();
        stored
            .map(|bytes| {
                Timestamp::decode(bytes).ok_or_else(|| {
                    let field = String::from_utf8_lossy(&self.batch.view.timestamp_field);
                    Error::new(
                        ErrorKind::StoreInvalid,
                        format!(
                            "{} has in its field '{field}' something that is no timestamp",
                            self.shown_key(row)
                        ),
                    )
                })
            })
            .transpose()
    }

    fn is_winner(&self, row: usize, stored: Option<Timestamp>) -> bool {
        let Some(stored) = stored else { return true };
        let new = self.timestamp(row);
        new > stored || new == stored && self.equal_timestamps == EqualTimestamps::Overwrite
    }

    pub(super) fn timestamp(&self, row: usize) -> Timestamp {
        Timestamp::from_micros(self.batch.event_timestamps.get(row).copied().unwrap_or_default())
    }

    fn encode_decision(&self, commands: &mut CommandBuffer) {
        if self.winners.is_empty() {
            commands.command(&[b"UNWATCH"]);
            return;
        }
        commands.command(&[b"MULTI"]);
        for &row in &self.winners {
            self.encode_row(commands, row);
        }
        commands.command(&[b"EXEC"]);
    }

    fn encode_row(&self, commands: &mut CommandBuffer, row: usize) {
        let key = self.batch.keys.get(row);
        let mut timestamp = Vec::with_capacity(timestamp::MAX_LEN);
        self.timestamp(row).encode(&mut timestamp);
        commands.begin(2 + 2 + 2 * self.fields.len());
        commands.argument(b"HSET");
        commands.argument_of(key, self.project);
        commands.encoded(&self.timestamp_field);
        commands.argument(&timestamp);
        for (field, values) in self.fields.iter().zip(self.batch.values) {
            commands.encoded(field);
            commands.argument(values.get(row));
        }
        if let Some(ttl) = &self.ttl {
            commands.begin(3);
            commands.argument(b"EXPIRE");
            commands.argument_of(key, self.project);
            commands.encoded(ttl);
        }
    }

    /// Takes the replies to what [`encode_decision`](Self::encode_decision) encoded; `false`
    /// when the transaction was aborted because a key had changed.
    fn receive_outcome(&self, connection: &mut Connection, call: &Call<'_>) -> Result<bool> {
        let node = connection.node().clone();
        if self.winners.is_empty() {
            return match connection.receive(call)?.error() {
                Some(text) => Err(refusal::refused(&node, "UNWATCH", text)),
                None => Ok(true),
            };
        }
        // MULTI, and what was queued: a command refused here says why EXEC refuses.
        for _ in 0..1 + self.winners.len() * self.commands_for_row() {
            if let Some(text) = connection.receive(call)?.error() {
                return Err(refusal::refused(&node, "HSET", text));
            }
        }
        let outcome = connection.receive(call)?;
        match outcome.first_error() {
            Some(text) => Err(refusal::refused(&node, "EXEC", text)),
            None => Ok(!outcome.is_nil()),
        }
    }

    fn commands_for_row(&self) -> usize {
        if self.ttl.is_some() { 2 } else { 1 }
    }

    pub(super) fn acknowledge(&mut self, rows: usize, written: usize) {
        self.report.written += written as u64;
        self.report.older += (rows - written) as u64;
    }

    /// Somebody else wrote one of the chunk's keys in between: decide anew, and where that
    /// happens again and again, about fewer keys at a time.
    fn aborted(&mut self, chunk: Chunk, call: &Call<'_>) -> Result<()> {
        call.check()?;
        let aborts = chunk.aborts + 1;
        let mut rows = chunk.rows;
        if rows.len() > 1 && aborts >= ABORTS_BEFORE_SPLIT {
            let second = rows.split_off(rows.len() / 2);
            self.again.push_back(Chunk { rows, aborts: 0 });
            self.again.push_back(Chunk { rows: second, aborts: 0 });
            return Ok(());
        }
        if aborts > MAX_ROW_ABORTS {
            return Err(Error::new(
                ErrorKind::StoreRefused,
                format!(
                    "{} was changed by others during each of {aborts} attempts to write it; let \
                     fewer jobs write the same entities at once",
                    rows.first().map(|&row| self.shown_key(row)).unwrap_or_default()
                ),
            ));
        }
        if rows.len() == 1 {
            // Out of step with whoever writes the same key.
            thread::sleep(Duration::from_micros(50) * aborts);
        }
        self.again.push_back(Chunk { rows, aborts });
        Ok(())
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

fn check_shape(batch: &WriteBatch<'_>) -> Result<()> {
    let rows = batch.keys.len();
    let is_square = batch.event_timestamps.len() == rows
        && batch.values.len() == batch.view.features.len()
        && batch.values.iter().all(|values| values.len() == rows);
    match is_square {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Internal,
            format!("a batch of view '{}' has columns of unequal length", batch.view.name),
        )),
    }
}
