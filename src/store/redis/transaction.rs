//! Rows that may be there: for each chunk WATCH and a look at what is stored (the timestamps, or
//! the whole hashes of wide rows: see `replace`), then MULTI, the rows that are newer, EXEC. The
//! next chunk's WATCH travels behind this chunk's EXEC, so a chunk costs about one trip. A chunk
//! that others got into is tried again, and in the end row by row, by the script that small
//! batches go by.

use std::thread;
use std::time::Duration;

use super::codec::CommandBuffer;
use super::connection::Connection;
use super::refusal;
use super::timestamp::Timestamp;
use super::writer::{Chunk, Writer};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::EqualTimestamps;

/// A chunk that was aborted so often is split.
const ABORTS_BEFORE_SPLIT: u32 = 2;
/// A single row that was aborted so often is given up.
const MAX_ROW_ABORTS: u32 = 100;

/// What is looked at before a chunk is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Whether any of the entities is there.
    Existence,
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

impl Writer<'_> {
    /// Writes all that is left, in transactions.
    pub(super) fn run_transactions(
        &mut self,
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        if self.again.is_empty() && self.contended.is_empty() && self.is_all_sent() {
            return Ok(());
        }
        self.need_transactions(connection, call)?;
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

    /// Makes sure that the server has transactions. Where it has none, what is sent between
    /// MULTI and EXEC would be done all the same, whatever others have written meanwhile.
    ///
    /// Errors: it has none.
    pub(super) fn need_transactions(
        &self,
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        if self.learned.are_transactions_known() {
            return Ok(());
        }
        connection.set_doing("MULTI, EXEC");
        connection.set_exclusive(true);
        connection.commands().command(&[b"MULTI"]);
        connection.commands().command(&[b"EXEC"]);
        connection.send(call)?;
        self.receive_multi(connection, call)?;
        let node = connection.node().clone();
        if let Some(text) = connection.receive(call)?.error() {
            return Err(refusal::refused(&node, "EXEC", text));
        }
        connection.set_exclusive(false);
        self.learned.know_transactions(true);
        Ok(())
    }

    /// Takes the reply to MULTI.
    pub(super) fn receive_multi(&self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        let node = connection.node().clone();
        if let Some(text) = connection.receive(call)?.error() {
            self.learned.know_transactions(false);
            return Err(refusal::refused(&node, "MULTI", text));
        }
        Ok(())
    }

    fn watch(&self, chunk: Chunk, connection: &mut Connection) -> Chunk {
        let look = match self.replace.is_on() {
            _ if self.learned.absence.is_likely() => Look::Existence,
            true => Look::Hashes,
            false => Look::Timestamps,
        };
        connection.set_exclusive(true);
        let commands = connection.commands();
        commands.begin(1 + chunk.rows.len());
        commands.argument(b"WATCH");
        for &row in &chunk.rows {
            commands.argument_of(self.batch.keys.get(row), self.project);
        }
        if look == Look::Existence {
            commands.begin(1 + chunk.rows.len());
            commands.argument(b"EXISTS");
            for &row in &chunk.rows {
                commands.argument_of(self.batch.keys.get(row), self.project);
            }
            return Chunk { look, ..chunk };
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

    /// Takes what is stored of the current chunk's rows, and decides who wins. `false`: nothing
    /// is decided, since the server withholds it, or the look was not close enough.
    fn receive_watched(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<bool> {
        let node = connection.node().clone();
        let Some(chunk) = &self.current else { return Ok(true) };
        let (rows, look) = (chunk.rows.clone(), chunk.look);
        if let Some(text) = connection.receive(call)?.error() {
            return Err(refusal::refused(&node, "WATCH", text));
        }
        self.decided.clear(usize::MAX);
        self.winners = 0;
        match look {
            Look::Existence => return self.receive_existence(&rows, connection, call),
            Look::Hashes => return self.receive_hashes(&rows, connection, call),
            Look::Timestamps => {}
        }
        let mut is_any_stored = false;
        for &row in &rows {
            let reply = connection.receive(call)?;
            if let Some(text) = reply.error() {
                return Err(refusal::refused(&node, "HMGET", text).context(self.shown_key(row)));
            }
            let stored = reply.strings().and_then(|mut strings| strings.next()).flatten();
            is_any_stored |= stored.is_some();
            if self.is_winner(row, self.decoded(stored, row)?) {
                self.decide(row);
            }
        }
        if !is_any_stored && self.learned.is_restore_refused() {
            self.learned.absence.expect();
        }
        if self.replace.is_wide() {
            self.learned.replace.learn(rows.len(), self.winners);
        }
        Ok(true)
    }

    /// New entities that can't be sent whole: one look at all keys of the chunk.
    fn receive_existence(
        &mut self,
        rows: &[usize],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<bool> {
        let node = connection.node().clone();
        let reply = connection.receive(call)?;
        match (reply.error(), reply.integer()) {
            (None, Some(0)) => {
                rows.iter().for_each(|row| self.decide(*row));
                return Ok(true);
            }
            (Some(text), _) if !refusal::is_command_withheld(text) => {
                return Err(refusal::refused(&node, "EXISTS", text));
            }
            _ => self.learned.absence.was_wrong(),
        }
        Ok(false)
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

    fn encode_decision(&self, commands: &mut CommandBuffer) {
        if self.winners == 0 {
            commands.command(&[b"UNWATCH"]);
            return;
        }
        commands.command(&[b"MULTI"]);
        commands.append(&self.decided);
        commands.command(&[b"EXEC"]);
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
        self.receive_multi(connection, call)?;
        // A command that is refused when it is queued says why EXEC refuses.
        let mut is_withheld = false;
        for _ in 0..self.decided.commands() {
            match connection.receive(call)?.error() {
                Some(text) if self.is_replacing() && refusal::is_withheld(text, b"restore") => {
                    self.learned.refuse_restore(&node, text);
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
                self.learned.refuse_listpacks(&node, text);
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
}
