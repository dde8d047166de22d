//! Writes: for each chunk of rows WATCH and the stored timestamps (or, of wide rows, the whole
//! hashes: see `replace`), then MULTI, the rows that are newer, EXEC. The next chunk's WATCH travels behind this chunk's EXEC, so a chunk costs
//! about one trip. A chunk that others got into is tried again, and in the end row by row, by
//! the script that small batches go by (see `script`).

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use super::codec::{CommandBuffer, append_argument};
use super::connection::Connection;
use super::fresh::{Fresh, Learned};
use super::refusal;
use super::replace::Replace;
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
    pub(super) equal_timestamps: EqualTimestamps,
    is_blind: bool,
    // Encoded once: what every row repeats.
    pub(super) timestamp_field: Vec<u8>,
    pub(super) fields: Vec<[u8; FIELD_LEN]>,
    pub(super) ttl: Option<Vec<u8>>,
    pub(super) learned: &'a Learned,
    next_row: usize,
    pub(super) fresh: Fresh<'a>,
    // Rows to compare and write that were sent before, in vain.
    pub(super) again: VecDeque<Chunk>,
    // Rows that others write all the time: left to the script.
    contended: Vec<usize>,
    // The chunk that is being written, and the one that has been sent behind it.
    pub(super) current: Option<Chunk>,
    pub(super) ahead: Option<Chunk>,
    replace: Replace<'a>,
    // What the current chunk's transaction does: its commands, and for how many rows.
    decided: CommandBuffer,
    winners: usize,
    report: WriteReport,
}

/// Rows that travel together.
pub(super) struct Chunk {
    pub(super) rows: Vec<usize>,
    aborts: u32,
    look: Look,
}

/// What is looked at before a chunk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Timestamps,
    /// Whole hashes, and how long they have to live.
    Hashes,
}

/// What became of a transaction.
enum Outcome {
    Done,
    /// Somebody else wrote one of the keys.
    Aborted,
    /// The server does not do this; nothing was written, and the next attempt goes another way.
    Withheld,
}

impl Chunk {
    pub(super) fn new(rows: Vec<usize>) -> Self {
        Chunk { rows, aborts: 0, look: Look::Timestamps }
    }
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
            learned: &settings.learned,
            next_row: 0,
            fresh: Fresh::new(&settings.learned, batch, settings.key_ttl_seconds),
            again: VecDeque::new(),
            contended: Vec::new(),
            current: None,
            ahead: None,
            replace: Replace::new(&settings.learned, batch, settings.key_ttl_seconds),
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

    /// Whether a second command sets how long the key lives.
    pub(super) fn has_ttl(&self) -> bool {
        self.ttl.is_some()
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

    /// Writes all that is left to write.
    pub(super) fn run(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        if self.is_blind {
            return self.run_blind(connection, call);
        }
        if self.fresh.is_on() {
            self.run_fresh(connection, call)?;
        }
        while self.is_for_script() {
            self.current = self.next_chunk();
            if self.current.is_none() {
                return Ok(());
            }
            self.run_script(connection, call)?;
        }
        connection.set_doing("WATCH, HMGET, MULTI, HSET, EXEC");
        loop {
            if self.current.is_none() {
                let Some(chunk) = self.next_chunk() else {
                    if self.contended.is_empty() {
                        return Ok(());
                    }
                    self.current = Some(Chunk::new(std::mem::take(&mut self.contended)));
                    self.run_script(connection, call)?;
                    continue;
                };
                self.current = Some(self.watch(chunk, connection));
                connection.send(call)?;
            }
            let is_decided = self.receive_watched(connection, call)?;
            self.encode_decision(connection.commands());
            if let Some(chunk) = self.next_chunk() {
                self.ahead = Some(self.watch(chunk, connection));
            }
            connection.send(call)?;
            let outcome = match self.receive_outcome(connection, call)? {
                Outcome::Done if !is_decided => Outcome::Withheld,
                outcome => outcome,
            };
            connection.set_exclusive(self.ahead.is_some());
            let next = self.ahead.take();
            if let Some(chunk) = std::mem::replace(&mut self.current, next) {
                match outcome {
                    Outcome::Done => self.acknowledge(chunk.rows.len(), self.winners),
                    Outcome::Aborted => self.aborted(chunk, call)?,
                    Outcome::Withheld => self.again.push_back(Chunk::new(chunk.rows)),
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
        (end > start).then(|| Chunk::new((start..end).collect()))
    }

    fn watch(&self, chunk: Chunk, connection: &mut Connection) -> Chunk {
        let look = if self.replace.is_on() { Look::Hashes } else { Look::Timestamps };
        connection.set_exclusive(true);
        let commands = connection.commands();
        commands.begin(1 + chunk.rows.len());
        commands.argument(b"WATCH");
        for &row in &chunk.rows {
            commands.argument_of(self.batch.keys.get(row), self.project);
        }
        for &row in &chunk.rows {
            let key = (self.batch.keys.get(row), self.project);
            if look == Look::Hashes {
                for command in [&b"PTTL"[..], b"HGETALL"] {
                    commands.begin(2);
                    commands.argument(command);
                    commands.argument_of(key.0, key.1);
                }
                continue;
            }
            commands.begin(3);
            commands.argument(b"HMGET");
            commands.argument_of(key.0, key.1);
            commands.encoded(&self.timestamp_field);
        }
        Chunk { look, ..chunk }
    }

    /// Takes what is stored of the current chunk's rows, and decides who wins. `false`: the
    /// server withholds it, and nothing is decided.
    fn receive_watched(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<bool> {
        let node = connection.node().clone();
        let Some(chunk) = &self.current else { return Ok(true) };
        let (rows, look) = (chunk.rows.clone(), chunk.look);
        if let Some(text) = connection.receive(call)?.error() {
            return Err(refusal::refused(&node, "WATCH", text));
        }
        self.decided.clear(usize::MAX);
        self.winners = 0;
        if look == Look::Hashes {
            return self.receive_hashes(&rows, connection, call);
        }
        for &row in &rows {
            let reply = connection.receive(call)?;
            if let Some(text) = reply.error() {
                return Err(refusal::refused(&node, "HMGET", text).context(self.shown_key(row)));
            }
            let stored = reply.strings().and_then(|mut strings| strings.next()).flatten();
            if self.is_winner(row, self.decoded(stored, row)?) {
                self.decide(row);
            }
        }
        if self.replace.is_wide() {
            self.learned.replace.learn(rows.len(), self.winners);
        }
        Ok(true)
    }

    fn receive_hashes(
        &mut self,
        rows: &[usize],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<bool> {
        let node = connection.node().clone();
        let (mut replaced, mut is_withheld) = (0, false);
        for &row in rows {
            let left = connection.receive(call)?;
            // Nothing left is not for ever.
            let milliseconds = left.wide_integer().and_then(|left| u64::try_from(left).ok());
            let milliseconds = milliseconds.map(|left| left.max(1));
            is_withheld |= left.error().is_some();
            let hash = connection.receive(call)?;
            match hash.error() {
                Some(text) if refusal::is_command_withheld(text) => is_withheld = true,
                Some(text) => {
                    let error = refusal::refused(&node, "HGETALL", text);
                    return Err(error.context(self.shown_key(row)));
                }
                None => {}
            }
            if is_withheld {
                continue;
            }
            let stored = self.decoded(self.replace.stored_timestamp(&hash), row)?;
            if !self.is_winner(row, stored) {
                continue;
            }
            let (key, timestamp) = ((self.batch.keys.get(row), self.project), self.timestamp(row));
            let decided = &mut self.decided;
            if self.replace.encode(decided, key, row, timestamp, &hash, milliseconds) {
                self.winners += 1;
                replaced += 1;
            } else {
                self.decide(row);
            }
        }
        self.learned.replace.learn(rows.len(), replaced);
        if is_withheld {
            self.learned.replace.refuse();
            self.decided.clear(usize::MAX);
            self.winners = 0;
        }
        Ok(!is_withheld)
    }

    fn decoded(&self, stored: Option<&[u8]>, row: usize) -> Result<Option<Timestamp>> {
        stored
            .map(|bytes| Timestamp::decode(bytes).ok_or_else(|| self.no_timestamp(row)))
            .transpose()
    }

    #[cold]
    pub(super) fn no_timestamp(&self, row: usize) -> Error {
        let field = String::from_utf8_lossy(&self.batch.view.timestamp_field);
        Error::new(
            ErrorKind::StoreInvalid,
            format!(
                "{} has in its field '{field}' something that is no timestamp",
                self.shown_key(row)
            ),
        )
    }

    /// The row shall be written, field by field.
    fn decide(&mut self, row: usize) {
        let mut decided = std::mem::take(&mut self.decided);
        self.encode_row(&mut decided, row);
        self.decided = decided;
        self.winners += 1;
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
        if self.winners == 0 {
            commands.command(&[b"UNWATCH"]);
            return;
        }
        commands.command(&[b"MULTI"]);
        commands.append(&self.decided);
        commands.command(&[b"EXEC"]);
    }

    pub(super) fn encode_row(&self, commands: &mut CommandBuffer, row: usize) {
        let key = self.batch.keys.get(row);
        let mut timestamp = Vec::with_capacity(timestamp::MAX_LEN);
        self.timestamp(row).encode(&mut timestamp);
        commands.begin(2 + 2 + 2 * self.fields.len());
        commands.argument(b"HSET");
        commands.argument_of(key, self.project);
        commands.encoded(&self.timestamp_field);
        commands.argument(&timestamp);
        self.encode_features(commands, row);
        if let Some(ttl) = &self.ttl {
            commands.begin(3);
            commands.argument(b"EXPIRE");
            commands.argument_of(key, self.project);
            commands.encoded(ttl);
        }
    }

    /// Field and value of each feature.
    pub(super) fn encode_features(&self, commands: &mut CommandBuffer, row: usize) {
        for (field, values) in self.fields.iter().zip(self.batch.values) {
            commands.encoded(field);
            commands.argument(values.get(row));
        }
    }

    /// Takes the replies to what [`encode_decision`](Self::encode_decision) encoded.
    fn receive_outcome(&self, connection: &mut Connection, call: &Call<'_>) -> Result<Outcome> {
        let node = connection.node().clone();
        if self.winners == 0 {
            return match connection.receive(call)?.error() {
                Some(text) => Err(refusal::refused(&node, "UNWATCH", text)),
                None => Ok(Outcome::Done),
            };
        }
        // MULTI, and what was queued: a command refused here says why EXEC refuses.
        let mut is_withheld = false;
        for _ in 0..1 + self.decided.commands() {
            match connection.receive(call)?.error() {
                Some(text) if self.is_replacing() && refusal::is_command_withheld(text) => {
                    is_withheld = true;
                }
                Some(text) => return Err(refusal::refused(&node, "HSET", text)),
                None => {}
            }
        }
        let outcome = connection.receive(call)?;
        if is_withheld {
            self.learned.replace.refuse();
            return Ok(Outcome::Withheld);
        }
        match outcome.first_error() {
            Some(text) if self.is_replacing() && refusal::is_payload_refused(text) => {
                self.learned.refuse_listpacks();
                Ok(Outcome::Withheld)
            }
            Some(text) => Err(refusal::refused(&node, "EXEC", text)),
            None if outcome.is_nil() => Ok(Outcome::Aborted),
            None => Ok(Outcome::Done),
        }
    }

    fn is_replacing(&self) -> bool {
        self.current.as_ref().is_some_and(|chunk| chunk.look == Look::Hashes)
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
            self.again.push_back(Chunk::new(rows));
            self.again.push_back(Chunk::new(second));
            return Ok(());
        }
        if rows.len() == 1 && aborts >= ABORTS_BEFORE_SPLIT && !self.learned.script.is_refused() {
            self.contended.extend(rows);
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
        self.again.push_back(Chunk { aborts, ..Chunk::new(rows) });
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
