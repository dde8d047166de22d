//! Entities that are new: their hash is made whole, and the server takes it only if there is no
//! such key, which is atomic without a look at what is stored. Here that is RESTORE of a hash in
//! Redis's own serialized form, which costs the server a tenth of what the same fields cost one
//! by one; where the server has none, [`copy`](super::copy). What is refused goes the way of
//! [`Writer`]; a refusal costs time, never data.

use std::collections::VecDeque;

use super::codec::{CommandBuffer, append_argument};
use super::connection::{Connection, OK_BYTES};
use super::copy::{self, ScratchKey};
use super::learned::{Learned, Manner};
use super::refusal;
use super::serialized::{Form, fits_listpack, serialize_hash};
use super::timestamp;
use super::writer::{CHUNK_ROWS, Writer};
use crate::call::Call;
use crate::error::Result;
use crate::store::WriteBatch;

/// Smaller batches are pushes: mostly of entities that are there already.
pub(super) const MIN_BATCH_ROWS: usize = 32;
/// Rows that are sent at once when the first of a batch were new: enough to keep the server busy
/// while the next are encoded.
const SENT_AT_ONCE: usize = 500;

/// The way of new entities, for one batch.
pub(super) struct Fresh<'a> {
    learned: &'a Learned,
    is_on: bool,
    // Few, as long as it may be in vain.
    rows_at_once: usize,
    // The argument TTL of RESTORE, milliseconds, encoded; 0 is for ever.
    ttl: Vec<u8>,
    payload: Vec<u8>,
    // The forms of the rows that are under way, in the order in which they were sent.
    sent: VecDeque<Form>,
    refused: Vec<usize>,
}

impl<'a> Fresh<'a> {
    pub(super) fn new(
        learned: &'a Learned,
        batch: &WriteBatch<'_>,
        key_ttl_seconds: Option<u64>,
    ) -> Self {
        let mut ttl = Vec::new();
        let milliseconds = key_ttl_seconds.unwrap_or(0).saturating_mul(1000);
        append_argument(&mut ttl, milliseconds.to_string().as_bytes());
        let is_on = batch.keys.len() >= MIN_BATCH_ROWS
            && are_fields_distinct(batch)
            && learned.is_worth_a_trial();
        Fresh {
            learned,
            is_on,
            rows_at_once: CHUNK_ROWS,
            ttl,
            payload: Vec::new(),
            sent: VecDeque::new(),
            refused: Vec::new(),
        }
    }

    /// How the next rows are written; `None`: not as if their entities were new.
    pub(super) fn manner(&self) -> Option<Manner> {
        self.learned.manner().filter(|_| self.is_on)
    }

    /// Leaves a row to the chunks that compare.
    pub(super) fn leave(&mut self, row: usize) {
        self.refused.push(row);
    }

    pub(super) fn give_up(&mut self) {
        self.is_on = false;
    }
}

// A hash with a field twice would be restored as it is, and be broken.
pub(super) fn are_fields_distinct(batch: &WriteBatch<'_>) -> bool {
    let view = batch.view;
    let mut fields: Vec<&[u8]> = view.features.iter().map(|feature| &feature.field[..]).collect();
    fields.push(&view.timestamp_field);
    fields.sort_unstable();
    fields.windows(2).all(|pair| pair.first() != pair.last())
}

impl Writer<'_> {
    /// Writes rows as new ones as long as most of them are; the refused ones are left to the
    /// chunks that compare.
    pub(super) fn run_fresh(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        while let Some(manner) = self.fresh.manner() {
            if manner == Manner::Copy {
                if !self.is_worth_copying() {
                    break;
                }
                self.need_transactions(connection, call)?;
            }
            self.run_manner(manner, connection, call)?;
            if self.is_all_sent() {
                break;
            }
        }
        self.leave_fresh();
        Ok(())
    }

    /// Writes until all is sent, or another manner is better.
    fn run_manner(
        &mut self,
        manner: Manner,
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        connection.set_doing(match manner {
            Manner::Restore => "RESTORE",
            Manner::Copy => copy::COMMANDS,
        });
        connection.set_exclusive(manner == Manner::Copy);
        let scratch = ScratchKey::new(self.project);
        loop {
            self.ahead = match self.fresh.manner() == Some(manner) {
                true => self.next_unsent(self.fresh.rows_at_once),
                false => None,
            };
            if let Some(mut chunk) = self.ahead.take() {
                match manner {
                    Manner::Restore => self.encode_restores(connection.commands(), &chunk.rows),
                    Manner::Copy => {
                        self.prepare_copies(&mut chunk.rows);
                        self.encode_copies(connection.commands(), &scratch, &chunk.rows);
                    }
                }
                self.ahead = Some(chunk);
                connection.send(call)?;
            }
            if let Some(chunk) = self.current.take() {
                let rows = chunk.rows.clone();
                self.current = Some(chunk);
                match manner {
                    Manner::Restore => self.receive_restored(&rows, connection, call)?,
                    Manner::Copy => self.receive_copied(&rows, connection, call)?,
                }
            }
            self.current = self.ahead.take();
            if self.current.is_none() {
                connection.set_exclusive(false);
                return Ok(());
            }
        }
    }

    /// Goes on with the chunks that compare before they write: with what was refused first.
    pub(super) fn leave_fresh(&mut self) {
        self.fresh.give_up();
        self.fresh.sent.clear();
        let refused = std::mem::take(&mut self.fresh.refused);
        self.push_again(&refused);
    }

    fn encode_restores(&mut self, commands: &mut CommandBuffer, rows: &[usize]) {
        for &row in rows {
            let form = self.encode_restore(commands, row);
            self.fresh.sent.push_back(form);
        }
    }

    /// Encodes the command that makes the row's hash; the form that it was given.
    pub(super) fn encode_restore(&mut self, commands: &mut CommandBuffer, row: usize) -> Form {
        let mut time = Vec::with_capacity(timestamp::MAX_LEN);
        self.timestamp(row).encode(&mut time);
        let view = self.batch.view;
        let stored = [(view.timestamp_field.as_slice(), time.as_slice())];
        let features = view.features.iter().zip(self.batch.values);
        let values = features.map(|(feature, values)| (&feature.field[..], values.get(row)));
        let pairs: Vec<(&[u8], &[u8])> = stored.into_iter().chain(values).collect();
        let is_listpack =
            !self.fresh.learned.are_listpacks_refused() && fits_listpack(pairs.iter().copied());
        let form = if is_listpack { Form::Listpack } else { Form::Plain };
        serialize_hash(form, pairs.into_iter(), &mut self.fresh.payload);
        commands.begin(4);
        commands.argument(b"RESTORE");
        commands.argument_of(self.batch.keys.get(row), self.project);
        commands.encoded(&self.fresh.ttl);
        commands.argument(&self.fresh.payload);
        form
    }

    /// What an error reply to the command means; whether it is that the entity is there.
    pub(super) fn is_there(&self, text: &[u8], form: Form, node: &str, row: usize) -> Result<bool> {
        let learned = self.fresh.learned;
        match text {
            _ if text.starts_with(b"BUSYKEY") => return Ok(true),
            _ if refusal::is_command_withheld(text) => learned.refuse_restore(node, text),
            // Nor may the key be written otherwise, as will be said then.
            _ if refusal::is_key_withheld(text) => {}
            _ if refusal::is_payload_refused(text) => match form {
                Form::Listpack => learned.refuse_listpacks(node, text),
                Form::Plain => learned.refuse_restore(node, text),
            },
            _ => return Err(refusal::refused(node, "RESTORE", text).context(self.shown_key(row))),
        }
        Ok(false)
    }

    /// After replies to so many rows, of which some were there already: whether to go on.
    pub(super) fn judge_fresh(&mut self, rows: usize, there_already: usize) {
        self.fresh.rows_at_once = SENT_AT_ONCE;
        if 2 * there_already > rows {
            self.fresh.give_up();
            self.learned.was_in_vain();
        }
    }

    fn receive_restored(
        &mut self,
        rows: &[usize],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        let node = connection.node().clone();
        let (mut refused, mut there_already) = (Vec::new(), 0);
        connection.await_replies(rows.len() * OK_BYTES);
        for &row in rows {
            let form = self.fresh.sent.pop_front().unwrap_or(Form::Plain);
            let reply = connection.receive(call)?;
            let Some(text) = reply.error() else { continue };
            there_already += usize::from(self.is_there(text, form, &node, row)?);
            refused.push(row);
        }
        self.take_fresh(rows.len(), refused, there_already);
        Ok(())
    }

    /// After all replies to so many rows: a chunk that is cut off in the middle is tried again
    /// whole.
    pub(super) fn take_fresh(
        &mut self,
        rows: usize,
        mut refused: Vec<usize>,
        there_already: usize,
    ) {
        let written = rows - refused.len();
        self.acknowledge(written, written);
        self.fresh.refused.append(&mut refused);
        self.judge_fresh(rows, there_already);
    }
}
