//! Small batches, and rows that others write all the time: one script for each row compares
//! and writes on the server, atomically and in one trip. It costs the server twice what a
//! transaction does, so many rows go another way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::codec::CommandBuffer;
use super::connection::Connection;
use super::fresh::MIN_BATCH_ROWS;
use super::refusal;
use super::timestamp;
use super::writer::{Chunk, Writer};
use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::EqualTimestamps;

const SCRIPT: &str = include_str!("compare_and_write.lua");

/// What a store has learned about scripts.
#[derive(Default)]
pub(super) struct LearnedScript {
    // The name that the server gave the script.
    sha: Mutex<Option<Vec<u8>>>,
    is_refused: AtomicBool,
}

impl LearnedScript {
    fn sha(&self) -> Option<Vec<u8>> {
        self.sha.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_sha(&self, sha: Option<Vec<u8>>) {
        *self.sha.lock().unwrap_or_else(PoisonError::into_inner) = sha;
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }
}

impl Writer<'_> {
    /// Whether the whole batch goes by script.
    pub(super) fn is_for_script(&self) -> bool {
        self.batch.keys.len() < MIN_BATCH_ROWS && !self.learned.script.is_refused()
    }

    /// Writes the current chunk; rows whose script the server refuses are left to transactions.
    pub(super) fn run_script(
        &mut self,
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<()> {
        connection.set_doing("EVALSHA");
        let mut left = self.current.as_ref().map(|chunk| chunk.rows.clone()).unwrap_or_default();
        // Once more where the server has forgotten the script.
        for _ in 0..2 {
            if left.is_empty() || !self.load(connection, call)? {
                break;
            }
            left = self.evaluate(&left, connection, call)?;
        }
        self.current = None;
        if !left.is_empty() {
            self.learned.script.is_refused.store(true, Ordering::Relaxed);
            self.again.push_back(Chunk::new(left));
        }
        Ok(())
    }

    /// Makes the script known to the server; `false`: it takes none.
    fn load(&self, connection: &mut Connection, call: &Call<'_>) -> Result<bool> {
        let script = &self.learned.script;
        if script.is_refused() {
            return Ok(false);
        }
        if script.sha().is_some() {
            return Ok(true);
        }
        let node = connection.node().clone();
        connection.commands().command(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()]);
        connection.send(call)?;
        let reply = connection.receive(call)?;
        match (reply.error(), reply.text()) {
            (None, Some(sha)) => script.set_sha(Some(sha.to_vec())),
            (Some(text), _) if !refusal::is_command_withheld(text) => {
                return Err(refusal::refused(&node, "SCRIPT LOAD", text));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Runs the script for `rows`; gives those that were not looked at.
    fn evaluate(
        &mut self,
        rows: &[usize],
        connection: &mut Connection,
        call: &Call<'_>,
    ) -> Result<Vec<usize>> {
        let node = connection.node().clone();
        let sha = self.learned.script.sha().unwrap_or_default();
        for &row in rows {
            self.encode_script(connection.commands(), &sha, row);
        }
        connection.send(call)?;
        let (mut left, mut written) = (Vec::new(), 0);
        for &row in rows {
            let reply = connection.receive(call)?;
            match (reply.error(), reply.integer()) {
                (Some(text), _) if text.starts_with(b"NOSCRIPT") => left.push(row),
                (Some(text), _) if refusal::is_command_withheld(text) => left.push(row),
                (Some(text), _) => {
                    let error = refusal::refused(&node, "EVALSHA", text);
                    return Err(error.context(self.shown_key(row)));
                }
                (None, Some(1)) => written += 1,
                (None, Some(0)) => {}
                (None, Some(-1)) => return Err(self.no_timestamp(row)),
                (None, _) => {
                    let message = format!("{} gave no number for a row", &node[..]);
                    return Err(Error::new(ErrorKind::StoreInvalid, message));
                }
            }
        }
        if !left.is_empty() {
            self.learned.script.set_sha(None);
        }
        self.acknowledge(rows.len() - left.len(), written);
        Ok(left)
    }

    fn encode_script(&self, commands: &mut CommandBuffer, sha: &[u8], row: usize) {
        let mut time = Vec::with_capacity(timestamp::MAX_LEN);
        self.timestamp(row).encode(&mut time);
        let overwrites = self.equal_timestamps == EqualTimestamps::Overwrite;
        commands.begin(8 + 2 * self.fields.len());
        commands.argument(b"EVALSHA");
        commands.argument(sha);
        commands.argument(b"1");
        commands.argument_of(self.batch.keys.get(row), self.project);
        commands.encoded(&self.timestamp_field);
        commands.argument(&time);
        commands.argument(if overwrites { b"1" } else { b"0" });
        match &self.ttl {
            Some(ttl) => commands.encoded(ttl),
            None => commands.argument(b"0"),
        }
        self.encode_features(commands, row);
    }
}
