//! The SQLite store itself: its file, and the connections to it that wait to be used again.

use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::connection::{Access, Connection};
use super::{reader, table, writer};
use crate::call::{Call, Uninterrupted};
use crate::config::SqliteConfig;
use crate::error::Result;
use crate::process_local::ProcessLocal;
use crate::process_local::fork_gate::NoFork;
use crate::runtime;
use crate::store::{
    DeletedView, EqualTimestamps, OnlineStore, Reading, RowSink, Scope, StoreReader, StoredGroup,
    StoredView, WriteBatch, WriteReport,
};
use crate::value::PackedBytes;

/// One database file, read and written as Feast does.
pub struct SqliteStore {
    file: Arc<File>,
    equal_timestamps: EqualTimestamps,
}

/// What readers and the store share.
struct File {
    path: PathBuf,
    project: String,
    idle: ProcessLocal<Mutex<Vec<Connection>>>,
}

struct SqliteReader {
    file: Arc<File>,
    groups: Vec<StoredGroup>,
}

impl SqliteStore {
    /// The store in the file that `config` names, for the tables of `project`. Does not open
    /// the file yet.
    pub fn new(config: &SqliteConfig, project: &str) -> Self {
        SqliteStore {
            file: Arc::new(File {
                path: config.path.clone(),
                project: project.to_owned(),
                idle: ProcessLocal::new(),
            }),
            equal_timestamps: match config.equal_timestamps_skip {
                true => EqualTimestamps::Skip,
                false => EqualTimestamps::Overwrite,
            },
        }
    }
}

impl File {
    /// Runs `work` on a connection that nobody else uses meanwhile.
    ///
    /// No fork meanwhile: SQLite has locks that all of a process's connections share, and
    /// remembers for all of them which locks on the file one of them holds. A child would
    /// wait for the first for ever, and take the second for its own.
    fn run<T>(
        &self,
        access: Access,
        call: &Call<'_>,
        work: impl FnOnce(&mut Connection) -> Result<T>,
    ) -> Result<T> {
        let _no_fork = NoFork::hold();
        let waiting = self.idle().pop();
        let mut connection = match waiting {
            // The file may have been replaced or removed since: Feast's teardown unlinks it.
            Some(connection) if connection.is_current() => connection,
            _ => Connection::open(&self.path, access, call)?,
        };
        let value = work(&mut connection)?;
        self.idle().push(connection);
        Ok(value)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // Whoever panicked did so outside of push and pop: the list is whole.
        self.idle.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Python drops a store with its lock held, which whoever forks may be waiting for:
        // rather are the connections left open.
        let idle = mem::take(&mut self.idle);
        match NoFork::unless_shut() {
            Some(_no_fork) => drop(idle),
            None => mem::forget(idle),
        }
    }
}

impl OnlineStore for SqliteStore {
    fn reader(&self, groups: &[StoredGroup]) -> Arc<dyn StoreReader> {
        Arc::new(SqliteReader { file: self.file.clone(), groups: groups.to_vec() })
    }

    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport> {
        self.file.run(Access::Create, call, |connection| {
            writer::write(connection, &self.file.project, batch, self.equal_timestamps, call)
        })
    }

    fn kept_time(&self, micros: i64) -> i64 {
        writer::seconds(micros) * 1_000_000
    }

    fn delete(&self, views: &[DeletedView], _scope: Scope, call: &Call<'_>) -> Result<u64> {
        self.file.run(Access::Create, call, |connection| {
            table::drop_all(connection, &self.file.project, views, call)
        })
    }

    fn prepare(&self, views: &[StoredView], call: &Call<'_>) -> Result<()> {
        self.file.run(Access::Create, call, |connection| {
            table::create(connection, &self.file.project, views, call)
        })
    }

    /// Whether the file is there and is a database: its tables come with materializations.
    fn ping(&self, deadline: Instant) -> Reading<'_> {
        Box::pin(async move {
            let call = Call { deadline: Some(deadline), interrupt: &Uninterrupted };
            runtime::block(|| self.file.run(Access::Existing, &call, |_| Ok(()))).await?
        })
    }
}

impl StoreReader for SqliteReader {
    fn read(&self, keys: &[PackedBytes], sink: &mut dyn RowSink, call: &Call<'_>) -> Result<()> {
        let mut asked = self.groups.iter().zip(keys);
        if asked.all(|(group, keys)| keys.is_empty() || group.views.is_empty()) {
            return call.check();
        }
        self.file.run(Access::Existing, call, |connection| {
            reader::read(connection, &self.file.project, &self.groups, keys, sink, call)
        })
    }
}
