//! A connection to the database file. Locks that others hold are waited for in slices, in
//! which the caller may stop the wait.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{ErrorCode, OpenFlags};

use super::refusal;
use crate::call::{Call, WAIT_SLICE};
use crate::error::{Error, ErrorKind, Result};

/// How long a lock is waited for, as Python's sqlite3 does by default.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages cached by a connection, in KiB, negative as SQLite wants it.
const CACHE_KIB: i32 = -16 * 1024;

/// Whether the file may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It must be there.
    Existing,
    /// It is made, with its folder, where it is not.
    Create,
}

pub(super) struct Connection {
    inner: rusqlite::Connection,
    path: PathBuf,
    // Device and inode of the file that was opened.
    identity: Option<(u64, u64)>,
}

impl Connection {
    pub(super) fn open(path: &Path, access: Access) -> Result<Self> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if access == Access::Create {
            create_folder(path)?;
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        } else if !path.exists() {
            return Err(Error::new(
                ErrorKind::StoreUnavailable,
                format!(
                    "the SQLite online store '{}' is not there; materialize first, or run `feast \
                     apply`",
                    path.display()
                ),
            ));
        }
        let inner = rusqlite::Connection::open_with_flags(path, flags)
            .map_err(|source| refusal::refused(path, "open", source))?;
        let connection = Connection { inner, path: path.to_owned(), identity: identity(path) };
        connection.configure()?;
        Ok(connection)
    }

    fn configure(&self) -> Result<()> {
        // The journal mode stays as it was found: others have the file open too.
        let set = || {
            self.inner.busy_timeout(WAIT_SLICE)?;
            self.inner.pragma_update(None, "cache_size", CACHE_KIB)?;
            self.inner.set_prepared_statement_cache_capacity(64);
            Ok(())
        };
        set().map_err(|source| refusal::refused(&self.path, "open", source))
    }

    /// The database file, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to the file that was opened.
    pub(super) fn is_current(&self) -> bool {
        self.identity.is_some() && self.identity == identity(&self.path)
    }

    /// Runs statements that give no rows, waiting for locks.
    pub(super) fn execute(&self, sql: &str, call: &Call<'_>) -> Result<()> {
        let done = self.waiting(call, || self.inner.execute_batch(sql))?;
        done.map_err(|source| refusal::refused(&self.path, first_word(sql), source))
    }

    /// A prepared statement, kept for the next time. Errors are SQLite's: the caller knows
    /// which view they are about.
    pub(super) fn prepare(
        &self,
        sql: &str,
        call: &Call<'_>,
    ) -> Result<rusqlite::Result<rusqlite::CachedStatement<'_>>> {
        self.waiting(call, || self.inner.prepare_cached(sql))
    }

    /// Runs `work` inside a transaction that `begin` opens; it is rolled back when `work` fails.
    pub(super) fn transaction<T>(
        &self,
        begin: &str,
        call: &Call<'_>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.execute(begin, call)?;
        let outcome = work().and_then(|value| self.execute("COMMIT", call).map(|()| value));
        if outcome.is_err() && !self.inner.is_autocommit() {
            // The connection is closed after an error in any case: that rolls back as well.
            let _ = self.inner.execute_batch("ROLLBACK");
        }
        outcome
    }

    /// Repeats `attempt` while somebody else holds the lock, up to the busy timeout.
    pub(super) fn waiting<T>(
        &self,
        call: &Call<'_>,
        mut attempt: impl FnMut() -> rusqlite::Result<T>,
    ) -> Result<rusqlite::Result<T>> {
        let mut started = None;
        loop {
            let outcome = attempt();
            let is_busy = matches!(
                outcome.as_ref().err().and_then(rusqlite::Error::sqlite_error_code),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            );
            if !is_busy {
                return Ok(outcome);
            }
            call.check()?;
            if started.get_or_insert_with(Instant::now).elapsed() + WAIT_SLICE >= BUSY_TIMEOUT {
                return Err(Error::new(
                    ErrorKind::StoreTimeout,
                    format!(
                        "the SQLite online store '{}' has been locked by another program for \
                         {BUSY_TIMEOUT:?}; try again when it has finished",
                        self.path.display()
                    ),
                ));
            }
        }
    }
}

fn create_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|source| {
        Error::new(ErrorKind::Io, format!("can't make the folder '{}'", folder.display()))
            .with_source(source)
    })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn first_word(sql: &str) -> &str {
    sql.split(' ').next().unwrap_or_default()
}
