//! New entities where RESTORE is withheld: in a transaction, their hashes are made one after the
//! other under one key of ours, and from there copied to their own, which the server refuses if
//! there is such a key. That takes no look at what is stored, and costs the server hardly more
//! than HSET alone: the fields of the hash that is copied are overwritten where they stand.
//!
//! Nobody ever sees the key of ours: the transaction that makes it removes it.

use std::hash::{BuildHasher, RandomState};

use super::codec::{CommandBuffer, append_argument};
use super::connection::{Connection, OK_BYTES};
use super::fresh::Fresh;
use super::refusal;
use super::serialized::fits_listpack;
use super::writer::{CHUNK_ROWS, Writer};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};

/// No serialized entity key begins so.
const SCRATCH_PREFIX: &[u8] = b"feastrs:new:";
/// The reply to a command in a transaction, and the number that it gives in the end.
const QUEUED_BYTES: usize = b"+QUEUED\r\n:1\r\n".len();

/// The key of the hash that is copied, encoded.
#[derive(Default)]
pub(super) struct ScratchKey(Vec<u8>);

impl ScratchKey {
    /// Different each time, so that nobody else writes there even if transactions were withheld
    /// from one moment to the next. With the project at its end, as all keys have it: that is
    /// what an ACL may ask for.
    pub(super) fn new(project: &[u8]) -> Self {
        let number = RandomState::new().hash_one(project);
        let mut encoded = Vec::new();
        let name = [SCRATCH_PREFIX, format!("{number:016x}:").as_bytes(), project].concat();
        append_argument(&mut encoded, &name);
        ScratchKey(encoded)
    }
}

impl Writer<'_> {
    /// Whether the server has transactions: without one, what others see would be wrong.
    pub(super) fn has_transactions(
        &self,
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<bool> {
        if self.learned.are_transactions_known() {
            return Ok(true);
        }
        connection.set_doing("MULTI, EXEC");
        connection.set_exclusive(true);
        connection.commands().command(&[b"MULTI"]);
        connection.commands().command(&[b"EXEC"]);
        connection.send(call)?;
        let node = connection.node().clone();
        let mut refused = None;
        for command in ["MULTI", "EXEC"] {
            match connection.receive(call)?.error() {
                // Without MULTI, EXEC is refused for another reason.
                Some(_) if refused.is_some() => {}
                Some(text) if command == "MULTI" && refusal::is_command_withheld(text) => {
                    refused = Some(text.to_vec());
                }
                Some(text) => return Err(refusal::refused(&node, command, text)),
                None => {}
            }
        }
        match &refused {
            Some(text) => self.learned.refuse_copy(&node, text),
            None => self.learned.know_transactions(),
        }
        connection.set_exclusive(false);
        Ok(refused.is_none())
    }

    /// Leaves rows with long values to the chunks that compare. What the hash that is copied has
    /// become for one of them, which is no listpack, it would be for all that follow.
    pub(super) fn leave_long(&mut self, rows: &mut Vec<usize>) {
        let (batch, fresh) = (self.batch, &mut self.fresh);
        let view = batch.view;
        rows.retain(|&row| {
            let values = batch.values.iter().map(|values| values.get(row));
            let pairs = view.features.iter().map(|feature| &feature.field[..]).zip(values);
            let timestamp = std::iter::once((view.timestamp_field.as_slice(), &b""[..]));
            let is_short = fits_listpack(timestamp.chain(pairs));
            if !is_short {
                fresh.leave(row);
            }
            is_short
        });
    }

    /// Encodes the transactions that make the rows' hashes.
    pub(super) fn encode_copies(&self, commands: &mut CommandBuffer, rows: &[usize]) {
        let Fresh { scratch: ScratchKey(scratch), .. } = &self.fresh;
        let remove = |commands: &mut CommandBuffer| {
            commands.begin(2);
            commands.argument(b"DEL");
            commands.encoded(scratch);
        };
        for rows in rows.chunks(CHUNK_ROWS) {
            commands.command(&[b"MULTI"]);
            remove(commands);
            for (index, &row) in rows.iter().enumerate() {
                self.encode_hset(commands, |commands| commands.encoded(scratch), row);
                if let Some(ttl) = self.ttl.as_ref().filter(|_| index == 0) {
                    // Copies expire when it would.
                    commands.begin(3);
                    commands.argument(b"EXPIRE");
                    commands.encoded(scratch);
                    commands.encoded(ttl);
                }
                commands.begin(3);
                commands.argument(b"COPY");
                commands.encoded(scratch);
                commands.argument_of(self.batch.keys.get(row), self.project);
            }
            remove(commands);
            commands.command(&[b"EXEC"]);
        }
    }

    /// Takes the replies to what [`encode_copies`](Self::encode_copies) encoded.
    pub(super) fn receive_copied(
        &mut self,
        rows: &[usize],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        let (mut refused, mut there_already) = (Vec::new(), 0);
        for rows in rows.chunks(CHUNK_ROWS) {
            match self.receive_transaction(rows, connection, call)? {
                Some(there) => {
                    there_already += there.len();
                    refused.extend(there);
                }
                None => refused.extend(rows),
            }
        }
        self.take_fresh(rows.len(), refused, there_already);
        Ok(())
    }

    /// The rows whose entities are there already; `None`: the server does not do this, and
    /// nothing was written.
    fn receive_transaction(
        &self,
        rows: &[usize],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<Option<Vec<usize>>> {
        let node = connection.node().clone();
        let before_copy = 2 + usize::from(self.ttl.is_some());
        let queued = before_copy + 2 * rows.len();
        connection.await_replies(OK_BYTES + queued * QUEUED_BYTES);
        // MULTI, and what was queued: a command refused here says why EXEC refuses.
        let mut is_withheld = false;
        for _ in 0..1 + queued {
            match connection.receive(call)?.error() {
                Some(text) if refusal::is_copy_withheld(text) => {
                    self.learned.refuse_copy(&node, text);
                    is_withheld = true;
                }
                Some(text) => return Err(refusal::refused(&node, "COPY", text)),
                None => {}
            }
        }
        let outcome = connection.receive(call)?;
        if is_withheld {
            return Ok(None);
        }
        if let Some(text) = outcome.first_error() {
            return Err(refusal::refused(&node, "EXEC", text));
        }
        if outcome.array_len() != Some(queued) {
            return Err(Error::new(
                ErrorKind::StoreInvalid,
                format!("{node} answered EXEC with something that is no list of {queued} replies"),
            ));
        }
        let copied = outcome.elements().skip(before_copy).step_by(2);
        let there = rows.iter().zip(copied).filter(|(_, copied)| copied.integer() != Some(1));
        Ok(Some(there.map(|(row, _)| *row).collect()))
    }
}
