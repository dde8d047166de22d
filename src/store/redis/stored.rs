//! The Redis store itself: its settings, its pool, and what is done when a connection breaks.

use std::sync::atomic::{AtomicBool, Ordering};

use super::fresh::Learned;
use super::options::Options;
use super::pool::Pool;
use super::reader::Reader;
use super::writer::{Writer, WriterSettings};
use crate::call::Call;
use crate::config::{ReadCommand, RedisConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{
    EqualTimestamps, OnlineStore, ReadGroup, RowSink, StoredView, WriteBatch, WriteReport,
};

/// New connections for one write, after the first was lost.
const MAX_RECONNECTS: usize = 3;

/// A standalone Redis server, read and written as Feast does.
pub struct RedisStore {
    pool: Pool,
    project: String,
    read_command: ReadCommand,
    // Learned from the first refusal, for the store's life.
    is_hgetall_withheld: AtomicBool,
    writer: WriterSettings,
}

impl RedisStore {
    /// The store that `config` describes, for the keys of `project`. Does not connect yet.
    ///
    /// Errors: [`ErrorKind::InvalidConfig`] for a connection string that can't be used,
    /// [`ErrorKind::NeedsFeast`] for clusters and sentinels.
    pub fn new(config: &RedisConfig, project: &str) -> Result<Self> {
        if config.redis_type != "redis" {
            return Err(Error::new(
                ErrorKind::NeedsFeast,
                format!(
                    "online_store has redis_type '{}'; feastrs itself speaks to standalone \
                     servers (redis) only",
                    config.redis_type
                ),
            ));
        }
        let options = Options::parse(&config.connection_string)?;
        Ok(RedisStore {
            pool: Pool::new(options)?,
            project: project.to_owned(),
            read_command: config.read_command,
            is_hgetall_withheld: AtomicBool::new(false),
            writer: WriterSettings {
                key_ttl_seconds: config.key_ttl_seconds.filter(|seconds| *seconds > 0),
                skip_dedup: config.skip_dedup,
                equal_timestamps: match config.equal_timestamps_skip {
                    true => EqualTimestamps::Skip,
                    false => EqualTimestamps::Overwrite,
                },
                learned: Learned::default(),
            },
        })
    }

    fn read_command(&self) -> ReadCommand {
        match self.read_command {
            ReadCommand::Auto if self.is_hgetall_withheld.load(Ordering::Relaxed) => {
                ReadCommand::Hmget
            }
            command => command,
        }
    }
}

impl OnlineStore for RedisStore {
    fn read(
        &self,
        groups: &[ReadGroup<'_>],
        sink: &mut dyn RowSink,
        call: &Call<'_>,
    ) -> Result<()> {
        let mut reader = Reader::new(groups, self.project.as_bytes(), self.read_command());
        if reader.is_finished() {
            return call.check();
        }
        let connection = self.pool.take(call)?;
        let is_reused = connection.is_reused();
        let mut outcome = self.pool.run(connection, |c| reader.run(c, sink, call));
        if let Err(error) = &outcome {
            // A server closes idle connections as it likes; the first to use one finds out.
            let is_stale = is_reused && error.kind() == ErrorKind::StoreUnavailable;
            let is_late = self.pool.retries_timeouts() && error.kind() == ErrorKind::StoreTimeout;
            if is_stale || is_late {
                reader.resume();
                let connection = self.pool.connect(call)?;
                outcome = self.pool.run(connection, |c| reader.run(c, sink, call));
            }
        }
        if reader.has_seen_hgetall_withheld() {
            self.is_hgetall_withheld.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport> {
        let mut writer = Writer::new(batch, self.project.as_bytes(), &self.writer)?;
        let mut connection = self.pool.take(call)?;
        for _ in 0..MAX_RECONNECTS {
            match self.pool.run(connection, |c| writer.run(c, call)) {
                Err(error) if error.kind() == ErrorKind::StoreUnavailable => writer.resume(),
                outcome => return outcome.map(|()| writer.report()),
            }
            connection = self.pool.connect(call)?;
        }
        self.pool.run(connection, |c| writer.run(c, call)).map(|()| writer.report())
    }

    fn prepare(&self, _views: &[StoredView], call: &Call<'_>) -> Result<()> {
        // Hashes come into being with their first field.
        call.check()
    }
}
