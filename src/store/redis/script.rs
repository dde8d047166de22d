//! Small batches, and rows that others write all the time: one script for each row compares
//! and writes on the server, atomically and in one trip. It costs the server twice what a
//! transaction does, so many rows go another way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::codec::{CommandBuffer, Reply};
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
    pub(super) fn sha(&self) -> Option<Vec<u8>> {
        self.sha.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_sha(&self, sha: Option<Vec<u8>>) {
        *self.sha.lock().unwrap_or_else(PoisonError::into_inner) = sha;
    }

    pub(super) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scripted {
    Written,
    /// The stored one is newer.
    Older,
    /// The server does not know the script, or takes none.
    NoScript,
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
            self.learned.script.refuse();
            self.again.push_back(Chunk::new(left));
        }
        Ok(())
    }

    /// Makes the script known to the server, unless it is; `false`: the server takes none.
    fn load(&self, connection: &mut Connection, call: &Call<'_>) -> Result<bool> {
        let script = &self.learned.script;
        match script.sha() {
            _ if script.is_refused() => Ok(false),
            Some(_) => Ok(true),
            None => self.load_anew(connection, call),
        }
    }

    /// Makes the script known to the server; `false`: it takes none.
    pub(super) fn load_anew(&self, connection: &mut Connection, call: &Call<'_>) -> Result<bool> {
        let script = &self.learned.script;
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
        for &row in rows {
            self.encode_script(connection.commands(), row);
        }
        connection.send(call)?;
        let (mut left, mut written) = (Vec::new(), 0);
        for &row in rows {
            match self.scripted(connection.receive(call)?, &node, row)? {
                Scripted::Written => written += 1,
                Scripted::Older => {}
                Scripted::NoScript => left.push(row),
            }
        }
        if !left.is_empty() {
            self.learned.script.set_sha(None);
        }
        self.acknowledge(rows.len() - left.len(), written);
        Ok(left)
    }

    /// What the reply to the command for a row means.
    pub(super) fn scripted(&self, reply: Reply<'_>, node: &str, row: usize) -> Result<Scripted> {
        match (reply.error(), reply.integer()) {
            (Some(text), _) if text.starts_with(b"NOSCRIPT") => Ok(Scripted::NoScript),
            (Some(text), _) if refusal::is_command_withheld(text) => {
                self.learned.script.refuse();
                Ok(Scripted::NoScript)
            }
            (Some(text), _) => {
                Err(refusal::refused(node, "EVALSHA", text).context(self.shown_key(row)))
            }
            (None, Some(1)) => Ok(Scripted::Written),
            (None, Some(0)) => Ok(Scripted::Older),
            (None, Some(-1)) => Err(self.no_timestamp(row)),
            (None, _) => {
                let message = format!("{node} gave no number for a row that it was to write");
                Err(Error::new(ErrorKind::StoreInvalid, message))
            }
        }
    }

    /// Encodes the command for a row; the script must have been loaded once.
    pub(super) fn encode_script(&self, commands: &mut CommandBuffer, row: usize) {
        let sha = self.learned.script.sha().unwrap_or_default();
        let mut time = Vec::with_capacity(timestamp::MAX_LEN);
        self.timestamp(row).encode(&mut time);
        let overwrites = self.equal_timestamps == EqualTimestamps::Overwrite;
        commands.begin(9 + 2 * self.fields.len());
        commands.argument(b"EVALSHA");
        commands.argument(&sha);
        commands.argument(b"1");
        commands.argument_of(self.batch.keys.get(row), self.project);
        commands.encoded(&self.timestamp_field);
        commands.argument(&time);
        commands.argument(if overwrites { b"1" } else { b"0" });
        match &self.ttl {
            Some(ttl) => commands.encoded(ttl),
            None => commands.argument(b"0"),
        }
        commands.argument(self.expires_at(row).unwrap_or(-1).to_string().as_bytes());
        self.encode_features(commands, row);
    }
}
