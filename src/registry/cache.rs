//! The snapshot of the registry that everybody reads: an immutable [`Catalog`], swapped whole.
//!
//! It is read again when it is older than `cache_ttl_seconds` (0: never) or, unless
//! `cache_mode: thread`, when the file has changed, as Feast does it
//! (`feast/infra/registry/registry.py::_get_registry_proto`). One caller reads; the others go
//! on with the snapshot that they have.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::catalog::{Catalog, ViewState};
use super::decode::decode;
use super::sources::{FileStamp, RegistryFile};
use super::splice::{Change, ChangeKind};
use crate::call::{Call, now_micros};
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::process_local::ProcessLocal;

/// Nobody is refreshing.
const NOBODY: u32 = 0;
/// After a refresh that failed, how long the old snapshot is used before the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A hot reader looks at the file no more often than this: a look costs as much as a read of
/// some features.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A registry and its latest snapshot.
#[derive(Debug)]
pub struct RegistryCache {
    source: Source,
    project: String,
    ttl: Option<Duration>,
    watches_file: bool,
    // What was there when the registry was opened, and what each process has read since.
    opened: Snapshot,
    newer: ProcessLocal<RwLock<Option<Snapshot>>>,
    // The process that is refreshing, by its id: one that was inherited by a fork is void.
    refresher: AtomicU32,
    // When the file was last looked at, microseconds after it was opened.
    looked_at: AtomicU64,
}

#[derive(Debug)]
enum Source {
    File(RegistryFile),
    /// Bytes from somebody who reads the registry himself, and says when it has changed.
    Given,
}

#[derive(Clone, Debug)]
struct Snapshot {
    catalog: Arc<Catalog>,
    // `None`: it is not of a file.
    stamp: Option<FileStamp>,
    read_at: Instant,
    // After a refresh that failed: not again before.
    retry_at: Option<Instant>,
}

impl RegistryCache {
    /// Opens and reads the registry of `config`.
    pub fn open(config: &RepoConfig) -> Result<Self> {
        let file = RegistryFile::open(&config.registry)?;
        let opened = read(&file, &config.project)?;
        let ttl = config.registry.cache_ttl_seconds;
        Ok(RegistryCache {
            source: Source::File(file),
            project: config.project.clone(),
            ttl: (ttl > 0).then(|| Duration::from_secs(ttl)),
            watches_file: config.registry.watches_file,
            opened,
            newer: ProcessLocal::new(),
            refresher: AtomicU32::new(NOBODY),
            looked_at: AtomicU64::new(0),
        })
    }

    /// A cache of a registry that somebody else reads, such as Feast: `bytes` are its present
    /// state, [`give`](Self::give) brings the next one.
    pub fn given(config: &RepoConfig, bytes: &[u8]) -> Result<Self> {
        Ok(RegistryCache {
            source: Source::Given,
            project: config.project.clone(),
            ttl: None,
            watches_file: false,
            opened: snapshot(bytes, &config.project, None)?,
            newer: ProcessLocal::new(),
            refresher: AtomicU32::new(NOBODY),
            looked_at: AtomicU64::new(0),
        })
    }

    /// Swaps the snapshot for one of `bytes`.
    pub fn give(&self, bytes: &[u8]) -> Result<Arc<Catalog>> {
        Ok(self.swap(snapshot(bytes, &self.project, None)?))
    }

    /// The snapshot, if it is known to be good without a look at the file: the way of a hot
    /// read. `None`: see [`catalog`](Self::catalog).
    pub fn fresh(&self) -> Option<Arc<Catalog>> {
        let newer = self.newer.get().read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = newer.as_ref().unwrap_or(&self.opened);
        let age = snapshot.read_at.elapsed();
        if self.ttl.is_some_and(|ttl| age >= ttl) {
            return None;
        }
        let looked_at = Duration::from_micros(self.looked_at.load(Ordering::Relaxed));
        let is_known = !self.watches_file || self.opened.read_at.elapsed() < looked_at + LOOK_EVERY;
        is_known.then(|| snapshot.catalog.clone())
    }

    /// The snapshot, read again first if it is due. If that fails, the old one is given and a
    /// warning logged: who serves features goes on while a registry is repaired.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        let snapshot = self.current();
        if !self.is_due(&snapshot) {
            return Ok(snapshot.catalog);
        }
        let Some(_turn) = Turn::take(&self.refresher) else {
            return Ok(snapshot.catalog);
        };
        let Source::File(file) = &self.source else {
            return Ok(snapshot.catalog);
        };
        match read(file, &self.project) {
            Ok(fresh) => Ok(self.swap(fresh)),
            Err(error) => {
                log::warn!("the registry is not refreshed, the old one is used: {error}");
                let retry_at = Some(Instant::now() + RETRY_AFTER);
                Ok(self.swap(Snapshot { retry_at, ..snapshot }))
            }
        }
    }

    /// Reads the registry now, whatever its age. One that is given stays as it was given.
    pub fn refresh(&self) -> Result<Arc<Catalog>> {
        match &self.source {
            Source::File(file) => Ok(self.swap(read(file, &self.project)?)),
            Source::Given => Ok(self.current().catalog),
        }
    }

    /// Makes `change` in the registry's file and swaps the snapshot.
    pub fn update(&self, call: Call<'_>, change: &Change) -> Result<Arc<Catalog>> {
        match &self.source {
            Source::File(file) => file.update(call, change)?,
            Source::Given => {
                let message = "the registry is read by Feast, which has to write it, too";
                return Err(Error::new(ErrorKind::NeedsFeast, message));
            }
        };
        self.refresh()
    }

    /// Records that rows of `view` from `start` to `end` (microseconds since the epoch) are in
    /// the online store.
    pub fn apply_materialization(
        &self,
        call: Call<'_>,
        view: &str,
        start: i64,
        end: i64,
    ) -> Result<Arc<Catalog>> {
        self.update(call, &self.change(view, ChangeKind::Materialized { start, end }))
    }

    /// Sets the state of `view`.
    pub fn set_state(&self, call: Call<'_>, view: &str, state: ViewState) -> Result<Arc<Catalog>> {
        self.update(call, &self.change(view, ChangeKind::State(state)))
    }

    fn change(&self, view: &str, kind: ChangeKind) -> Change {
        let (project, view) = (self.project.clone(), view.to_owned());
        Change { project, view, kind, now: now_micros() }
    }

    fn is_due(&self, snapshot: &Snapshot) -> bool {
        if snapshot.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            return false;
        }
        let age = snapshot.read_at.elapsed();
        let is_old = self.ttl.is_some_and(|ttl| age >= ttl);
        let is_changed = match &self.source {
            Source::File(file) if self.watches_file => {
                file.stamp().is_some_and(|stamp| Some(stamp) != snapshot.stamp)
            }
            _ => false,
        };
        let now = self.opened.read_at.elapsed().as_micros();
        self.looked_at.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        is_old || is_changed
    }

    // A poisoned lock is a panic between two moves of a pointer: both states are whole.
    fn current(&self) -> Snapshot {
        let newer = self.newer.get().read().unwrap_or_else(PoisonError::into_inner);
        newer.as_ref().unwrap_or(&self.opened).clone()
    }

    fn swap(&self, fresh: Snapshot) -> Arc<Catalog> {
        let catalog = fresh.catalog.clone();
        *self.newer.get().write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        catalog
    }
}

fn read(file: &RegistryFile, project: &str) -> Result<Snapshot> {
    let (bytes, stamp) = file.read()?;
    snapshot(&bytes, project, Some(stamp)).map_err(|error| file.named(error))
}

fn snapshot(bytes: &[u8], project: &str, stamp: Option<FileStamp>) -> Result<Snapshot> {
    let catalog = Arc::new(decode(bytes, project)?);
    Ok(Snapshot { catalog, stamp, read_at: Instant::now(), retry_at: None })
}

/// The turn to refresh, given back when dropped.
struct Turn<'a>(&'a AtomicU32);

impl<'a> Turn<'a> {
    /// `None`: somebody else in this process has it.
    fn take(refresher: &'a AtomicU32) -> Option<Self> {
        let process = std::process::id();
        let holder = refresher.load(Ordering::Acquire);
        if holder == process {
            return None;
        }
        refresher
            .compare_exchange(holder, process, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            .then_some(Turn(refresher))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(NOBODY, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::error::ErrorKind;
    use crate::registry::messages as pb;

    fn registry(version: &str) -> Vec<u8> {
        let spec = pb::FeatureViewSpec {
            name: "v".to_owned(),
            project: "p".to_owned(),
            ..Default::default()
        };
        let registry = pb::Registry {
            version_id: version.to_owned(),
            feature_views: vec![pb::FeatureView { spec: Some(spec), meta: None }],
            ..Default::default()
        };
        registry.encode_to_vec()
    }

    fn write(path: &std::path::Path, version: &str) {
        std::fs::write(path, registry(version)).unwrap();
    }

    fn open(folder: &std::path::Path, settings: &str) -> RegistryCache {
        let yaml = format!("project: p\nregistry: {{path: registry.db, {settings}}}\n");
        RegistryCache::open(&RepoConfig::from_yaml_text(&yaml, folder).unwrap()).unwrap()
    }

    #[test]
    fn a_changed_file_is_read_at_once_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        write(&path, "one");
        let (sync, thread) =
            (open(folder.path(), "cache_mode: sync"), open(folder.path(), "cache_mode: thread"));
        let held = sync.catalog().unwrap();
        assert!(Arc::ptr_eq(&held, &sync.catalog().unwrap()), "nothing has changed");

        write(&path, "second");

        assert_eq!(sync.catalog().unwrap().version_id, "second");
        assert_eq!(held.version_id, "one", "who holds a snapshot keeps it");
        assert_eq!(thread.catalog().unwrap().version_id, "one");
        assert_eq!(thread.refresh().unwrap().version_id, "second");
    }

    #[test]
    fn a_broken_registry_does_not_stop_who_has_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        write(&path, "one");
        let cache = open(folder.path(), "");
        std::fs::write(&path, b"not a registry").unwrap();

        assert_eq!(cache.catalog().unwrap().version_id, "one");
        let error = cache.refresh().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RegistryInvalid);
        let message = error.to_string();
        assert!(message.contains("registry.db") && message.contains("14 bytes"), "{message}");
    }

    #[test]
    fn a_given_registry_changes_when_the_next_one_is_given() {
        let yaml = "project: p\nregistry: {registry_type: sql, path: x, cache_ttl_seconds: 1}\n";
        let config = RepoConfig::from_yaml_text(yaml, std::path::Path::new("/r")).unwrap();
        let cache = RegistryCache::given(&config, &registry("one")).unwrap();

        assert_eq!(cache.refresh().unwrap().version_id, "one");
        cache.give(&registry("two")).unwrap();
        assert_eq!(cache.catalog().unwrap().version_id, "two");
        assert!(cache.give(b"not a registry").is_err());
        assert_eq!(cache.catalog().unwrap().version_id, "two");
        let refused = cache.set_state(Call::unlimited(), "v", ViewState::Materializing);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NeedsFeast);
    }

    #[test]
    fn a_change_is_seen_by_who_made_it() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("registry.db"), "one");
        let cache = open(folder.path(), "");

        let catalog = cache.apply_materialization(Call::unlimited(), "v", 1, 2).unwrap();
        assert_eq!(catalog.view("v").unwrap().materialization_intervals, [(1, 2)]);
        let catalog = cache.set_state(Call::unlimited(), "v", ViewState::Materializing).unwrap();
        assert_eq!(catalog.view("v").unwrap().state, ViewState::Materializing);
    }

    #[test]
    fn one_refreshes_and_a_fork_takes_its_parents_turn() {
        let refresher = AtomicU32::new(NOBODY);
        let turn = Turn::take(&refresher).unwrap();
        assert!(Turn::take(&refresher).is_none());
        drop(turn);
        assert_eq!(refresher.load(Ordering::Acquire), NOBODY);
        // Left behind by another process.
        refresher.store(std::process::id() + 1, Ordering::Release);
        assert!(Turn::take(&refresher).is_some());
    }
}
