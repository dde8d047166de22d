//! New entities where RESTORE is withheld: in a transaction, their hashes are made one after the
//! other under one key of ours, and from there copied to their own, which the server refuses if
//! there is such a key. That takes no look at what is stored, and costs the server hardly more
//! than HSET alone: the fields of the hash that is copied are overwritten where they stand.
//!
//! No reader ever finds the key of ours: the transaction that makes it removes it.

use std::hash::{BuildHasher, RandomState};
use std::process;

use super::codec::{CommandBuffer, append_argument};
use super::connection::Connection;
use super::refusal;
use super::serialized::{MAX_LISTPACK_BYTES, fits_listpack};
use super::writer::{CHUNK_ROWS, Writer};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};

/// What is sent, as errors name it.
pub(super) const COMMANDS: &str = "MULTI, HSET, COPY, EXEC";
/// No serialized entity key begins so.
const SCRATCH_PREFIX: &[u8] = b"fs:";
/// The reply to a command in a transaction, and the number that it gives in the end.
const QUEUED_BYTES: usize = b"+QUEUED\r\n:1\r\n".len();

/// The key of the hash that is copied, encoded.
pub(super) struct ScratchKey(Vec<u8>);

impl ScratchKey {
    /// A key that hardly another batch has, in whatever process: should transactions be withheld
    /// from one moment to the next, nobody else writes there. It ends with the project, as all keys do,
    /// for that is what an ACL may ask of them; and it is short, for the server hashes it twice
    /// for each row.
    pub(super) fn new(project: &[u8]) -> Self {
        // Its seed is inherited by processes that are forked.
        let number = RandomState::new().hash_one(process::id());
        let number = format!("{:04x}", number % (1 << 16));
        let name = [SCRATCH_PREFIX, number.as_bytes(), project].concat();
        let mut encoded = Vec::new();
        append_argument(&mut encoded, &name);
        ScratchKey(encoded)
    }
}

impl Writer<'_> {
    /// Whether the view is narrow enough. A hash that is no listpack is not worth copying, and
    /// the one that is copied would remain none.
    pub(super) fn is_worth_copying(&self) -> bool {
        let view = self.batch.view;
        let fields = view.features.iter().map(|feature| &feature.field[..]);
        let fields = fields.chain([view.timestamp_field.as_slice()]);
        fits_listpack(fields.map(|field| (field, &b""[..])))
    }

    /// Leaves rows with long values to the chunks that compare, and puts the others in the order
    /// of their longest value: where the server's limit is lower, those that it takes for a
    /// listpack still come before those that it does not.
    pub(super) fn prepare_copies(&mut self, rows: &mut Vec<usize>) {
        let values = self.batch.values;
        let longest = |row| values.iter().map(|values| values.get(row).len()).max().unwrap_or(0);
        let (mut short, long): (Vec<_>, Vec<_>) = rows
            .drain(..)
            .map(|row| (longest(row), row))
            .partition(|(length, _)| *length <= MAX_LISTPACK_BYTES);
        short.sort_by_key(|(length, _)| *length);
        rows.extend(short.into_iter().map(|(_, row)| row));
        long.into_iter().for_each(|(_, row)| self.fresh.leave(row));
    }

    /// Encodes the transactions that make the rows' hashes.
    pub(super) fn encode_copies(
        &self,
        commands: &mut CommandBuffer,
        ScratchKey(scratch): &ScratchKey,
        rows: &[usize],
    ) {
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
        connection.await_replies(2 * rows.len() * QUEUED_BYTES);
        for part in rows.chunks(CHUNK_ROWS) {
            match self.receive_transaction(part, connection, call)? {
                Some(there) => {
                    there_already += there.len();
                    refused.extend(there);
                }
                None => refused.extend(part),
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
        // DEL, HSET, and EXPIRE if it is there; COPY and the next HSET in turn; DEL.
        let before_copy = 2 + usize::from(self.ttl.is_some());
        let queued = before_copy + 2 * rows.len();
        self.receive_multi(connection, call)?;
        // A command that is refused when it is queued says why EXEC refuses.
        let mut is_withheld = false;
        for _ in 0..queued {
            match connection.receive(call)?.error() {
                Some(text) if refusal::is_copy_withheld(text) => {
                    self.learned.refuse_copy(&node, text);
                    is_withheld = true;
                }
                Some(text) => return Err(refusal::refused(&node, COMMANDS, text)),
                None => {}
            }
        }
        let outcome = connection.receive(call)?;
        if is_withheld {
            return Ok(None);
        }
        if let Some(text) = outcome.first_error() {
            return Err(refusal::refused(&node, COMMANDS, text));
        }
        if outcome.array_len() != Some(queued) {
            return Err(Error::new(
                ErrorKind::StoreInvalid,
                format!(
                    "{node} answered EXEC with something that is no list of {queued} replies; is \
                     there a proxy in between that does not pass transactions on?"
                ),
            ));
        }
        let copied = outcome.elements().skip(before_copy).step_by(2);
        let there = rows.iter().zip(copied).filter(|(_, copied)| copied.integer() != Some(1));
        Ok(Some(there.map(|(row, _)| *row).collect()))
    }
}
