//! Entities that are new: their hash is sent whole, in Redis's own serialized form, and the
//! server takes it only if there is no such key. That is atomic, and costs the server a tenth
//! of what the same fields cost one by one. What is refused goes the way of [`Writer`]; a
//! refusal costs time, never data.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use super::codec::{CommandBuffer, append_argument};
use super::connection::{Connection, OK_BYTES};
use super::refusal;
use super::replace::LearnedReplace;
use super::script::LearnedScript;
use super::serialized::{Form, fits_listpack, serialize_hash};
use super::timestamp;
use super::writer::{CHUNK_ROWS, Chunk, Writer};
use crate::call::Call;
use crate::error::Result;
use crate::store::WriteBatch;

/// Smaller batches are pushes: mostly of entities that are there already.
pub(super) const MIN_BATCH_ROWS: usize = 32;
/// Rows that are sent at once when the first of a batch were new: enough to keep the server busy
/// while the next are encoded. Nothing is atomic but each row.
const SENT_AT_ONCE: usize = 500;
/// After a batch of which most entities were there, so many batches go without a trial.
const BATCHES_WITHOUT_TRIAL: u32 = 15;
/// The same for chunks of which one looked whether any entity was there.
const CHUNKS_WITHOUT_TRIAL: u32 = 15;

/// What a store has learned about RESTORE from its server's replies.
#[derive(Default)]
pub(super) struct Learned {
    // Forms that were refused: none, listpacks, or the command itself.
    refused: AtomicU8,
    batches_without_trial: AtomicU32,
    // Whether the log has it that RESTORE is refused.
    is_refusal_told: AtomicBool,
    /// Where hashes can't be sent whole.
    pub(super) absence: Absence,
    /// About existing entities.
    pub(super) replace: LearnedReplace,
    /// About small batches.
    pub(super) script: LearnedScript,
}

/// Whether chunks are expected to have nothing but new entities.
#[derive(Default)]
pub(super) struct Absence {
    is_expected: AtomicBool,
    chunks_to_skip: AtomicU32,
}

impl Absence {
    pub(super) fn is_likely(&self) -> bool {
        self.is_expected.load(Ordering::Relaxed)
    }

    /// A chunk had none but new ones.
    pub(super) fn expect(&self) {
        let left = self.chunks_to_skip.load(Ordering::Relaxed);
        match left.checked_sub(1) {
            None => self.is_expected.store(true, Ordering::Relaxed),
            Some(left) => self.chunks_to_skip.store(left, Ordering::Relaxed),
        }
    }

    /// A chunk was looked at in vain: not again for a while.
    pub(super) fn was_wrong(&self) {
        self.is_expected.store(false, Ordering::Relaxed);
        self.chunks_to_skip.store(CHUNKS_WITHOUT_TRIAL, Ordering::Relaxed);
    }
}

const LISTPACKS_REFUSED: u8 = 1;
const RESTORE_REFUSED: u8 = 2;

impl Learned {
    /// Whether the next batch is worth a trial.
    fn is_worth_a_trial(&self) -> bool {
        let left = self.batches_without_trial.load(Ordering::Relaxed);
        if left > 0 {
            self.batches_without_trial.store(left - 1, Ordering::Relaxed);
        }
        left == 0 && !self.is_restore_refused()
    }

    fn is_restore_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) >= RESTORE_REFUSED
    }

    pub(super) fn are_listpacks_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) >= LISTPACKS_REFUSED
    }

    /// The server does not take listpacks.
    pub(super) fn refuse_listpacks(&self) {
        self.refuse(LISTPACKS_REFUSED);
    }

    /// Says once in the store's life that, and why, it is written to in a slower way.
    pub(super) fn tell_refusal(&self, node: &str, text: &[u8]) {
        if !self.is_refusal_told.swap(true, Ordering::Relaxed) {
            let text = String::from_utf8_lossy(text);
            // Some repeat the arguments, which are no text.
            let why = text.split(", with args").next().unwrap_or_default();
            log::info!("Redis at {node} refuses RESTORE ({why}): a slower way to write is taken");
        }
    }

    fn refuse(&self, what: u8) {
        self.refused.fetch_max(what, Ordering::Relaxed);
    }
}

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

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether the server takes hashes whole.
    pub(super) fn may_restore(&self) -> bool {
        !self.learned.is_restore_refused()
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
    /// Sends rows whole as long as most of them are new; the refused ones are left to the
    /// chunks that compare.
    pub(super) fn run_fresh(&mut self, connection: &mut Connection, call: &Call<'_>) -> Result<()> {
        connection.set_doing("RESTORE");
        loop {
            self.ahead = match self.fresh.is_on() {
                true => self.next_unsent(self.fresh.rows_at_once),
                false => None,
            };
            if let Some(chunk) = self.ahead.take() {
                for &row in &chunk.rows {
                    let form = self.encode_restore(connection.commands(), row);
                    self.fresh.sent.push_back(form);
                }
                self.ahead = Some(chunk);
                connection.send(call)?;
            }
            if let Some(chunk) = self.current.take() {
                let rows = chunk.rows.clone();
                self.current = Some(chunk);
                self.receive_restored(&rows, connection, call)?;
            }
            self.current = self.ahead.take();
            if self.current.is_none() {
                break;
            }
        }
        self.leave_fresh();
        Ok(())
    }

    /// Goes on with the chunks that compare before they write: with what was refused first.
    pub(super) fn leave_fresh(&mut self) {
        self.fresh.give_up();
        self.fresh.sent.clear();
        for rows in std::mem::take(&mut self.fresh.refused).chunks(CHUNK_ROWS) {
            self.again.push_back(Chunk::new(rows.to_vec()));
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
            _ if refusal::is_command_withheld(text) => learned.refuse(RESTORE_REFUSED),
            _ if refusal::is_payload_refused(text) => learned.refuse(match form {
                Form::Listpack => LISTPACKS_REFUSED,
                Form::Plain => RESTORE_REFUSED,
            }),
            _ => return Err(refusal::refused(node, "RESTORE", text).context(self.shown_key(row))),
        }
        learned.tell_refusal(node, text);
        Ok(false)
    }

    /// After replies to so many rows, of which some were there already: whether to go on.
    pub(super) fn judge_fresh(&mut self, rows: usize, there_already: usize) {
        self.fresh.rows_at_once = SENT_AT_ONCE;
        if 2 * there_already > rows {
            self.fresh.give_up();
            self.learned.batches_without_trial.store(BATCHES_WITHOUT_TRIAL, Ordering::Relaxed);
        }
        if self.learned.is_restore_refused() {
            self.fresh.give_up();
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
        // Only now: a chunk that is cut off in the middle is tried again whole.
        let restored = rows.len() - refused.len();
        self.acknowledge(restored, restored);
        self.fresh.refused.append(&mut refused);
        self.judge_fresh(rows.len(), there_already);
        Ok(())
    }
}
