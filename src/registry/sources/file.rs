//! The file that a registry lives in: read whole, replaced whole.
//!
//! feastrs writers exclude each other by a lock on `<registry>.lock` and replace the file
//! atomically. Stock Feast takes no lock, truncates and writes: readers read a torn file again,
//! and a writer looks afterwards whether its change is still there.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::fields::check_framing;
use crate::registry::splice::Change;

/// How often a file that looks torn is read before it is called broken.
const READS: u32 = 12;
/// The pause between two such reads.
const READ_PAUSE: Duration = Duration::from_millis(25);
/// The pause between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How long to wait for the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a change is made again that somebody without the lock wrote over.
const UPDATES: u32 = 8;

/// What tells one state of the file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    modified: Option<SystemTime>,
    len: u64,
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        FileStamp { modified: metadata.modified().ok(), len: metadata.len() }
    }
}

/// A registry in a local file.
#[derive(Clone, Debug)]
pub struct RegistryFile {
    path: PathBuf,
}

impl RegistryFile {
    /// The file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        RegistryFile { path: path.into() }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file looks like now; `None` if that can't be said.
    pub fn stamp(&self) -> Option<FileStamp> {
        std::fs::metadata(&self.path).ok().map(|metadata| FileStamp::of(&metadata))
    }

    /// The bytes of the registry and the stamp that they were read at. A file that is cut off
    /// or changes meanwhile is read again for a moment, then given as it is.
    pub fn read(&self) -> Result<(Vec<u8>, FileStamp)> {
        let mut reads = 1;
        loop {
            let (bytes, before, after) = self.read_once()?;
            let is_whole = before == after && !bytes.is_empty() && check_framing(&bytes).is_ok();
            if is_whole || reads == READS {
                return Ok((bytes, after));
            }
            reads += 1;
            std::thread::sleep(READ_PAUSE);
        }
    }

    fn read_once(&self) -> Result<(Vec<u8>, FileStamp, FileStamp)> {
        let read = || -> std::io::Result<_> {
            let mut file = File::open(&self.path)?;
            let before = FileStamp::of(&file.metadata()?);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok((bytes, before, FileStamp::of(&file.metadata()?)))
        };
        read().map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        let path = self.path.display();
        if error.kind() == IoKind::NotFound {
            let message = format!(
                "no registry at '{path}'; run 'feast apply' in the feature repository, or \
                 correct 'registry' in feature_store.yaml"
            );
            return Error::new(ErrorKind::RegistryNotFound, message);
        }
        Error::new(ErrorKind::Io, format!("the registry '{path}' can't be read")).with_source(error)
    }

    /// Makes `change` in the file and gives its new bytes: under the lock, by an atomic replace
    /// where the system allows one, and again if somebody without the lock wrote over it.
    pub fn update(&self, call: Call<'_>, change: &Change) -> Result<Vec<u8>> {
        let path = self.real_path()?;
        let _lock = lock(&path, call)?;
        for _ in 0..UPDATES {
            let (bytes, _) = self.read()?;
            let changed = change.apply(&bytes).map_err(|error| self.named(error))?;
            replace_file(&path, &changed)?;
            let (written, _) = self.read()?;
            if written == changed || change.is_in(&written).map_err(|error| self.named(error))? {
                return Ok(written);
            }
            call.check()?;
        }
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "the registry '{}' is written over by others all the time; the change is not in it",
                self.path.display()
            ),
        ))
    }

    /// `error` with the path of the registry.
    pub(super) fn named(&self, error: Error) -> Error {
        error.context(format!("registry '{}'", self.path.display()))
    }

    /// The file behind symbolic links, so that a link stays one and all take the same lock.
    fn real_path(&self) -> Result<PathBuf> {
        std::fs::canonicalize(&self.path).map_err(|error| self.unreadable(error))
    }
}

/// The lock, held until dropped. Where a file can't be made beside the registry, the
/// registry itself is locked: it is then also written in place, so the lock stays with it.
fn lock(path: &Path, call: Call<'_>) -> Result<File> {
    let beside =
        OpenOptions::new().create(true).truncate(false).write(true).open(beside(path, "lock"));
    let file = beside.or_else(|_| OpenOptions::new().write(true).open(path)).map_err(|error| {
        Error::new(ErrorKind::Io, format!("the registry '{}' can't be written", path.display()))
            .with_source(error)
    })?;
    let give_up = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                call.check()?;
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                let message = format!(
                    "another process has held the lock of the registry '{}' for {} s; see who \
                     is stuck, then try again",
                    path.display(),
                    LOCK_TIMEOUT.as_secs()
                );
                return Err(Error::new(ErrorKind::Io, message));
            }
            // A file system without locks: the check after writing is what is left.
            Err(TryLockError::Error(error)) => {
                log::warn!("no lock on the registry '{}': {error}", path.display());
                return Ok(file);
            }
        }
    }
}

/// `registry.db` -> `registry.db.<suffix>` in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_atomically(path, bytes).or_else(|_| write_in_place(path, bytes)).map_err(|error| {
        Error::new(ErrorKind::Io, format!("the registry '{}' can't be written", path.display()))
            .with_source(error)
    })
}

fn replace_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = beside(path, &format!("{}.tmp", std::process::id()));
    let written = write_new(&temporary, path, bytes);
    let replaced = written.and_then(|()| std::fs::rename(&temporary, path));
    if replaced.is_err() {
        // It may never have been made; the error that matters is the first.
        let _ = std::fs::remove_file(&temporary);
        return replaced;
    }
    match path.parent() {
        Some(folder) => File::open(folder).and_then(|folder| folder.sync_all()),
        None => Ok(()),
    }
    .or(Ok(()))
}

fn write_new(temporary: &Path, like: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(temporary)?;
    file.set_permissions(std::fs::metadata(like)?.permissions())?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Where a rename is refused: a single file mounted into a container, a folder that may not
/// be written. Readers see it torn for a moment, as with stock Feast.
fn write_in_place(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::registry::decode::decode;
    use crate::registry::messages as pb;
    use crate::registry::splice::ChangeKind;

    fn registry() -> Vec<u8> {
        let spec = pb::FeatureViewSpec {
            name: "v".to_owned(),
            project: "p".to_owned(),
            ..Default::default()
        };
        let view = pb::FeatureView { spec: Some(spec), meta: None };
        let registry = pb::Registry {
            version_id: "old".to_owned(),
            feature_views: vec![view],
            ..Default::default()
        };
        registry.encode_to_vec()
    }

    fn file(path: &Path) -> RegistryFile {
        RegistryFile::new(path)
    }

    fn materialized(start: i64) -> Change {
        let kind = ChangeKind::Materialized { start, end: start + 1 };
        Change { project: "p".to_owned(), view: "v".to_owned(), kind, now: 5 }
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        std::fs::write(&path, registry()).unwrap();

        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for step in 0..5 {
                        let change = materialized(writer * 100 + step);
                        file(path).update(Call::unlimited(), &change).unwrap();
                    }
                });
            }
        });

        let catalog = decode(&std::fs::read(&path).unwrap(), "p").unwrap();
        assert_eq!(catalog.view("v").unwrap().materialization_intervals.len(), 20);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "only the registry and its lock are left");
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
        std::fs::write(&real, registry()).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();

        file(&link).update(Call::unlimited(), &materialized(1)).unwrap();

        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(decode(&std::fs::read(&real).unwrap(), "p").unwrap().views.len(), 1);
    }

    #[test]
    fn a_file_is_written_in_place_where_it_must_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        std::fs::write(&path, [registry(), vec![0xFF; 100]].concat()).unwrap();

        write_in_place(&path, &registry()).unwrap();

        assert_eq!(std::fs::read(&path).unwrap(), registry());
    }

    #[test]
    fn a_torn_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        std::fs::write(&path, b"").unwrap();
        let whole = registry();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(2 * READ_PAUSE);
                std::fs::write(&path, &whole).unwrap();
            });
            assert_eq!(file(&path).read().unwrap().0, whole);
        });
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = file(Path::new("/none/registry.db")).read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RegistryNotFound);
        assert!(error.to_string().contains("/none/registry.db"));
        assert!(error.to_string().contains("feast apply"));
    }
}
