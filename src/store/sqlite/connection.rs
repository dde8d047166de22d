//! A connection to the database file. Locks that others hold are waited for in slices, in
//! which the caller may stop the wait.
//!
//! SQLite has no queue for its lock: whoever looks at the right moment gets it, and beside
//! writers that hurry one may be unlucky for long. So nobody gives up while others get on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{ErrorCode, OpenFlags};

use super::refusal;
use crate::call::{Call, WAIT_SLICE};
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::fork_gate;

/// How long a lock is waited for in which nothing is written, as long as Python's sqlite3 waits
/// by default.
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
    busy_timeout: Duration,
}

impl Connection {
    pub(super) fn open(path: &Path, access: Access, call: &Call<'_>) -> Result<Self> {
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
        let (identity, busy_timeout) = (identity(path), BUSY_TIMEOUT);
        let connection = Connection { inner, path: path.to_owned(), identity, busy_timeout };
        connection.configure(call)?;
        Ok(connection)
    }

    fn configure(&self, call: &Call<'_>) -> Result<()> {
        // The journal mode stays as it was found: others have the file open too.
        let set = || {
            self.inner.busy_timeout(WAIT_SLICE)?;
            self.inner.pragma_update(None, "cache_size", CACHE_KIB)?;
            self.inner.set_prepared_statement_cache_capacity(64);
            Ok(())
        };
        // Even the size of the cache is set only after a look into the file.
        self.waiting(call, set)?.map_err(|source| refusal::refused(&self.path, "open", source))
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

    /// Repeats `attempt` while somebody else holds the lock. It is given up when nothing has been
    /// written for the busy timeout, or by the caller.
    pub(super) fn waiting<T>(
        &self,
        call: &Call<'_>,
        mut attempt: impl FnMut() -> rusqlite::Result<T>,
    ) -> Result<rusqlite::Result<T>> {
        let mut stalled: Option<(Instant, [Option<SystemTime>; 3])> = None;
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
            if self.inner.is_autocommit() {
                // No transaction, so no lock of ours.
                fork_gate::let_fork_pass();
            }
            let written = self.written();
            match stalled {
                Some((since, before)) if before == written => {
                    if since.elapsed() + WAIT_SLICE >= self.busy_timeout {
                        return Err(self.stalled());
                    }
                }
                _ => stalled = Some((Instant::now(), written)),
            }
        }
    }

    /// When the database, its journal and its write-ahead log were last written to.
    fn written(&self) -> [Option<SystemTime>; 3] {
        // SQLite's own name of the file: links are followed, as for the other two.
        let database = self.inner.path().unwrap_or_default();
        ["", "-journal", "-wal"].map(|suffix| {
            fs::metadata(format!("{database}{suffix}")).and_then(|found| found.modified()).ok()
        })
    }

    #[cold]
    fn stalled(&self) -> Error {
        Error::new(
            ErrorKind::StoreTimeout,
            format!(
                "the SQLite online store '{}' has been locked by another program for {:?}, in \
                 which nothing was written; try again when it has finished",
                self.path.display(),
                self.busy_timeout
            ),
        )
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn opened(path: &Path, busy_timeout: Duration) -> Connection {
        let mut connection = Connection::open(path, Access::Create, &Call::unlimited()).unwrap();
        connection.busy_timeout = busy_timeout;
        connection
    }

    fn write(connection: &Connection, work: impl FnOnce()) -> Result<()> {
        let call = Call::unlimited();
        connection.transaction("BEGIN IMMEDIATE", &call, || {
            connection.execute("INSERT INTO t VALUES (1)", &call)?;
            work();
            Ok(())
        })
    }

    #[test]
    fn nobody_gives_up_while_others_write() {
        let folder = tempfile::tempdir().unwrap();
        for mode in ["DELETE", "WAL"] {
            let path = folder.path().join(mode);
            // One who waits, and one who leaves hardly a gap between transactions.
            let patient = opened(&path, WAIT_SLICE * 3);
            let mode = format!("PRAGMA journal_mode = {mode}; CREATE TABLE t (x)");
            patient.execute(&mode, &Call::unlimited()).unwrap();
            let begun = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let busy = opened(&path, BUSY_TIMEOUT);
                    let begin = || {
                        begun.wait();
                    };
                    write(&busy, begin).unwrap();
                    for _ in 0..8 {
                        write(&busy, || thread::sleep(WAIT_SLICE)).unwrap();
                    }
                });
                begun.wait();
                write(&patient, || ()).unwrap();
            });
        }
    }

    #[test]
    fn a_lock_under_which_nothing_happens_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("online.db");
        let (holder, other) = (opened(&path, BUSY_TIMEOUT), opened(&path, WAIT_SLICE * 3));
        holder.execute("CREATE TABLE t (x); BEGIN EXCLUSIVE", &Call::unlimited()).unwrap();

        let error = write(&other, || ()).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::StoreTimeout);
        assert!(error.to_string().contains("nothing was written"), "{error}");
    }
}
