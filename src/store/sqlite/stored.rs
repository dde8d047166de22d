//! The SQLite store itself: its file, and the connections to it that wait to be used again.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::connection::{Access, Connection};
use super::{reader, table, writer};
use crate::call::Call;
use crate::config::SqliteConfig;
use crate::error::Result;
use crate::process_local::ProcessLocal;
use crate::store::{
    EqualTimestamps, OnlineStore, ReadGroup, RowSink, StoredView, WriteBatch, WriteReport,
};

/// One database file, read and written as Feast does.
pub struct SqliteStore {
    path: PathBuf,
    project: String,
    equal_timestamps: EqualTimestamps,
    idle: ProcessLocal<Mutex<Vec<Connection>>>,
}

impl SqliteStore {
    /// The store in the file that `config` names, for the tables of `project`. Does not open
    /// the file yet.
    pub fn new(config: &SqliteConfig, project: &str) -> Self {
        SqliteStore {
            path: config.path.clone(),
            project: project.to_owned(),
            equal_timestamps: match config.equal_timestamps_skip {
                true => EqualTimestamps::Skip,
                false => EqualTimestamps::Overwrite,
            },
            idle: ProcessLocal::new(),
        }
    }

    /// Runs `work` on a connection that nobody else uses meanwhile.
    fn run<T>(&self, access: Access, work: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let waiting = self.idle().pop();
        let mut connection = match waiting {
            // The file may have been replaced or removed since: Feast's teardown unlinks it.
            Some(connection) if connection.is_current() => connection,
            _ => Connection::open(&self.path, access)?,
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

impl OnlineStore for SqliteStore {
    fn read(
        &self,
        groups: &[ReadGroup<'_>],
        sink: &mut dyn RowSink,
        call: &Call<'_>,
    ) -> Result<()> {
        if groups.iter().all(|group| group.keys.is_empty() || group.views.is_empty()) {
            return call.check();
        }
        self.run(Access::Existing, |connection| {
            reader::read(connection, &self.project, groups, sink, call)
        })
    }

    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport> {
        self.run(Access::Create, |connection| {
            writer::write(connection, &self.project, batch, self.equal_timestamps, call)
        })
    }

    fn prepare(&self, views: &[StoredView], call: &Call<'_>) -> Result<()> {
        self.run(Access::Create, |connection| table::create(connection, &self.project, views, call))
    }
}
