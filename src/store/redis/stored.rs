//! The Redis store itself: its settings, its pool, and what is done when a connection breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fresh::Learned;
use super::handshake::Purpose;
use super::options::Options;
use super::pool::Pool;
use super::read_job::ReadJob;
use super::read_layout::ReadLayout;
use super::reader::Reader;
use super::tls;
use super::writer::{Writer, WriterSettings};
use crate::call::Call;
use crate::config::{ReadCommand, RedisConfig, RedisType};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{
    EqualTimestamps, OnlineStore, RowSink, StoreReader, StoredGroup, StoredView, WriteBatch,
    WriteReport,
};
use crate::value::PackedBytes;

/// New connections for one write, after the first was lost.
const MAX_RECONNECTS: usize = 3;

/// A standalone Redis server, read and written as Feast does.
pub struct RedisStore {
    server: Arc<Server>,
    read_command: ReadCommand,
    writer: WriterSettings,
}

/// What readers and the store share.
struct Server {
    pool: Pool,
    project: String,
    // Learned from the first refusal, for the store's life.
    is_hgetall_withheld: AtomicBool,
}

struct RedisReader {
    server: Arc<Server>,
    layouts: Vec<ReadLayout>,
    is_hgetall_required: bool,
}

impl RedisStore {
    /// The store that `config` describes, for the keys of `project`. Does not connect yet.
    ///
    /// Errors: [`ErrorKind::InvalidConfig`] for a connection string that can't be used,
    /// [`ErrorKind::NeedsFeast`] for clusters and sentinels.
    pub fn new(config: &RedisConfig, project: &str) -> Result<Self> {
        if config.redis_type != RedisType::Redis {
            return Err(Error::new(
                ErrorKind::NeedsFeast,
                format!(
                    "online_store has redis_type '{}'; feastrs itself speaks to standalone \
                     servers (redis) only",
                    config.redis_type.name()
                ),
            ));
        }
        let options = Arc::new(Options::parse(&config.connection_string)?);
        let tls = options.tls.as_ref().map(tls::client_config).transpose()?;
        let Some(address) = options.nodes.first().cloned() else {
            return Err(Error::new(ErrorKind::InvalidConfig, "connection_string names no host"));
        };
        Ok(RedisStore {
            server: Arc::new(Server {
                pool: Pool::new(address, options, tls, Purpose::Server),
                project: project.to_owned(),
                is_hgetall_withheld: AtomicBool::new(false),
            }),
            read_command: config.read_command,
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
}

impl OnlineStore for RedisStore {
    fn reader(&self, groups: &[StoredGroup]) -> Arc<dyn StoreReader> {
        let layout = |group| ReadLayout::new(group, self.read_command);
        Arc::new(RedisReader {
            server: self.server.clone(),
            layouts: groups.iter().map(layout).collect(),
            is_hgetall_required: self.read_command == ReadCommand::Hgetall,
        })
    }

    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport> {
        let mut writer = Writer::new(batch, self.server.project.as_bytes(), &self.writer)?;
        let mut connection = self.server.pool.take(call)?;
        for _ in 0..MAX_RECONNECTS {
            match self.server.pool.run(connection, |c| writer.run(c, call)) {
                Err(error) if error.kind() == ErrorKind::StoreUnavailable => writer.resume(),
                outcome => return outcome.map(|()| writer.report()),
            }
            connection = self.server.pool.connect(call)?;
        }
        self.server.pool.run(connection, |c| writer.run(c, call)).map(|()| writer.report())
    }

    fn prepare(&self, _views: &[StoredView], call: &Call<'_>) -> Result<()> {
        // Hashes come into being with their first field.
        call.check()
    }
}

impl StoreReader for RedisReader {
    fn read(&self, keys: &[PackedBytes], sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        let Server { pool, project, is_hgetall_withheld } = self.server.as_ref();
        let may_hgetall = self.is_hgetall_required || !is_hgetall_withheld.load(Ordering::Relaxed);
        let job = ReadJob::new(&self.layouts, keys, project.as_bytes(), may_hgetall);
        let mut reader = Reader::new(job);
        if reader.is_finished() {
            return call.check();
        }
        let connection = pool.take(call)?;
        let is_reused = connection.is_reused();
        let mut outcome = pool.run(connection, |c| reader.run(c, sink, call));
        if let Err(error) = &outcome {
            // A server closes idle connections as it likes; the first to use one finds out.
            let is_stale = is_reused && error.kind() == ErrorKind::StoreUnavailable;
            let is_late = pool.retries_timeouts() && error.kind() == ErrorKind::StoreTimeout;
            if is_stale || is_late {
                reader.resume();
                let connection = pool.connect(call)?;
                outcome = pool.run(connection, |c| reader.run(c, sink, call));
            }
        }
        if reader.has_given_up_hgetall() {
            is_hgetall_withheld.store(true, Ordering::Relaxed);
        }
        outcome
    }
}
