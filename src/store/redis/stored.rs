//! The Redis store itself: its settings, and where its reads and writes go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::asynchronous;
use super::cluster::{AsyncClusterReader, Cluster, ClusterReader, ClusterWriter};
use super::delete::Deleter;
use super::handshake::Purpose;
use super::kept::Watch;
use super::learned::Learned;
use super::options::Options;
use super::pool::Pool;
use super::primary::Primary;
use super::read_job::ReadJob;
use super::read_layout::ReadLayout;
use super::reader::Reader;
use super::sentinel::Sentinels;
use super::tls;
use super::writer::{Writer, WriterSettings};
use crate::call::Call;
use crate::config::{ReadCommand, RedisConfig, RedisType};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime;
use crate::store::{
    ConnectionCount, DeletedView, EqualTimestamps, OnlineStore, Reading, RowSink, Scope,
    StoreReader, StoredGroup, StoredView, WriteBatch, WriteReport, WriteWatch,
};
use crate::value::PackedBytes;

/// Redis, however it is run, read and written as Feast does.
pub struct RedisStore {
    server: Arc<Server>,
    read_command: ReadCommand,
    writer: WriterSettings,
}

/// What readers and the store share.
pub(super) struct Server {
    topology: Topology,
    project: String,
    // Learned from the first refusal, for the store's life.
    is_hgetall_withheld: AtomicBool,
}

enum Topology {
    Primary(Primary),
    Cluster(Cluster),
}

struct RedisReader {
    server: Arc<Server>,
    layouts: Vec<ReadLayout>,
    is_hgetall_required: bool,
}

impl RedisStore {
    /// The store that `config` describes, for the keys of `project`. Does not connect yet.
    ///
    /// Errors: [`ErrorKind::InvalidConfig`] for a connection string that can't be used.
    pub fn new(config: &RedisConfig, project: &str) -> Result<Self> {
        Ok(RedisStore {
            server: Arc::new(Server {
                topology: topology(config)?,
                project: project.to_owned(),
                is_hgetall_withheld: AtomicBool::new(false),
            }),
            read_command: config.read_command,
            writer: WriterSettings {
                key_ttl_seconds: config.key_ttl_seconds.filter(|seconds| *seconds > 0),
                skip_dedup: config.skip_dedup,
                field_ttl: config.field_ttl,
                equal_timestamps: match config.equal_timestamps_skip {
                    true => EqualTimestamps::Skip,
                    false => EqualTimestamps::Overwrite,
                },
                learned: Learned::default(),
            },
        })
    }
}

fn topology(config: &RedisConfig) -> Result<Topology> {
    let options = Arc::new(Options::parse(&config.connection_string)?);
    let tls = options.tls.as_ref().map(tls::client_config).transpose()?;
    Ok(match config.redis_type {
        RedisType::Cluster => Topology::Cluster(Cluster::new(options, tls)),
        RedisType::Sentinel => {
            let sentinels = Sentinels::new(&config.sentinel_master, options, tls)?;
            Topology::Primary(Primary::Watched(sentinels))
        }
        RedisType::Redis => {
            let Some(address) = options.nodes.first().cloned() else {
                return Err(Error::new(ErrorKind::InvalidConfig, "connection_string has no host"));
            };
            let pool = Pool::new(address, options, tls, Purpose::Server);
            Topology::Primary(Primary::Fixed(Arc::new(pool)))
        }
    })
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
        match &self.server.topology {
            Topology::Primary(primary) => {
                primary.write(&mut writer, call)?;
                Ok(writer.report())
            }
            Topology::Cluster(cluster) => ClusterWriter::new(cluster, writer).run(call),
        }
    }

    fn watch(&self, call: &Call<'_>) -> Result<Box<dyn WriteWatch + '_>> {
        Ok(Box::new(Watch::begin(self.server.clone(), call)?))
    }

    fn delete(&self, views: &[DeletedView], scope: Scope, call: &Call<'_>) -> Result<u64> {
        let mut deleter = Deleter::new(views, scope, self.server.project.as_bytes());
        if !views.is_empty() {
            match &self.server.topology {
                Topology::Primary(primary) => primary.delete(&mut deleter, call)?,
                Topology::Cluster(cluster) => cluster.delete(&mut deleter, call)?,
            }
        }
        Ok(deleter.deleted())
    }

    fn prepare(&self, _views: &[StoredView], call: &Call<'_>) -> Result<()> {
        // Hashes come into being with their first field.
        call.check()
    }

    fn open(&self) -> Result<()> {
        match &self.server.topology {
            Topology::Primary(primary) => primary.open(),
            Topology::Cluster(_) => Ok(()),
        }
    }

    fn connections(&self) -> Option<ConnectionCount> {
        Some(match &self.server.topology {
            Topology::Primary(primary) => primary.connections(),
            Topology::Cluster(cluster) => cluster.connections(),
        })
    }

    fn close(&self) {
        match &self.server.topology {
            Topology::Primary(primary) => primary.close(),
            Topology::Cluster(cluster) => cluster.close(),
        }
    }
}

impl Server {
    /// The connections to each server that takes writes.
    pub(super) fn masters(&self, call: &Call<'_>) -> Result<Vec<Arc<Pool>>> {
        match &self.topology {
            Topology::Primary(primary) => Ok(vec![primary.current(call)?]),
            Topology::Cluster(cluster) => cluster.masters(call),
        }
    }

    /// Whether there is somebody to ask who is master.
    pub(super) fn has_sentinels(&self) -> bool {
        matches!(self.topology, Topology::Primary(Primary::Watched(_)))
    }

    /// The connections to whoever is master now in place of the server of `pool`.
    pub(super) fn successor(&self, pool: &Arc<Pool>, call: &Call<'_>) -> Result<Arc<Pool>> {
        match &self.topology {
            Topology::Primary(primary) => primary.current(call),
            // The others of a cluster write on, whatever becomes of one.
            Topology::Cluster(_) => Ok(pool.clone()),
        }
    }
}

impl RedisReader {
    fn job<'a>(&'a self, keys: &'a [PackedBytes]) -> ReadJob<'a> {
        let is_withheld = self.server.is_hgetall_withheld.load(Ordering::Relaxed);
        let may_hgetall = self.is_hgetall_required || !is_withheld;
        ReadJob::new(&self.layouts, keys, self.server.project.as_bytes(), may_hgetall)
    }

    fn learn(&self, has_given_up_hgetall: bool) {
        if has_given_up_hgetall {
            self.server.is_hgetall_withheld.store(true, Ordering::Relaxed);
        }
    }
}

impl StoreReader for RedisReader {
    fn read(&self, keys: &[PackedBytes], sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        let job = self.job(keys);
        if job.first().is_none() {
            return call.check_deadline();
        }
        let (outcome, has_given_up_hgetall) = match &self.server.topology {
            Topology::Primary(primary) => {
                let mut reader = Reader::new(job);
                (primary.read(&mut reader, sink, call), reader.has_given_up_hgetall())
            }
            Topology::Cluster(cluster) => {
                let mut reader = ClusterReader::new(cluster, job);
                (reader.run(sink, call), reader.has_given_up_hgetall())
            }
        };
        self.learn(has_given_up_hgetall);
        outcome
    }

    fn read_async<'a>(
        &'a self,
        keys: &'a [PackedBytes],
        sink: &'a mut (dyn RowSink + Send),
        deadline: Option<Instant>,
    ) -> Reading<'a> {
        match &self.server.topology {
            Topology::Primary(primary) => Box::pin(runtime::within(deadline, async move {
                let mut reader = asynchronous::Reader::new(self.job(keys), sink);
                let outcome = primary.read_async(&mut reader).await;
                self.learn(reader.has_given_up_hgetall());
                outcome
            })),
            Topology::Cluster(cluster) => Box::pin(runtime::within(deadline, async move {
                let mut reader = AsyncClusterReader::new(cluster, self.job(keys), sink);
                let outcome = reader.run().await;
                self.learn(reader.has_given_up_hgetall());
                outcome
            })),
        }
    }
}
