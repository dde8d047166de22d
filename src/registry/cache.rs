//! The snapshot of the registry that everybody reads: an immutable [`Catalog`], swapped whole.
//!
//! It is read again when it is older than `cache_ttl_seconds` (0: never) or, unless
//! `cache_mode: thread`, when the file has changed, as Feast does it
//! (`feast/infra/registry/registry.py::_get_registry_proto`). One caller reads; the others go
//! on with the snapshot that they have. One in an object store is only asked whether it has
//! changed.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::catalog::{Catalog, ViewState};
use super::decode::decode;
use super::sources::{RegistrySource, Stamp};
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

/// The same for a registry in an object store, which is asked over a network.
const RETRY_OBJECT_AFTER: Duration = Duration::from_secs(10);
/// By how much of its time a snapshot of an object store may be read again too early, so that
/// processes which start together don't all ask at once.
const SPREAD: f64 = 0.2;

/// A registry and its latest snapshot. Clones share it.
#[derive(Clone, Debug)]
pub struct RegistryCache(Arc<Shared>);

/// What a refresh in the background needs.
#[derive(Debug)]
struct Shared {
    source: RegistrySource,
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
    earliness: ProcessLocal<Earliness>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    catalog: Arc<Catalog>,
    stamp: Stamp,
    read_at: Instant,
    // After a refresh that failed: not again before.
    retry_at: Option<Instant>,
}

/// A number from 0 to 1 that differs from process to process.
#[derive(Debug)]
struct Earliness(f64);

impl Default for Earliness {
    fn default() -> Self {
        // Random by machine, and by process: children of a fork would draw the same number.
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        Earliness((hasher.finish() % 1024) as f64 / 1024.0)
    }
}

impl RegistryCache {
    /// Opens and reads the registry of `config`.
    pub fn open(config: &RepoConfig, call: Call<'_>) -> Result<Self> {
        let source = RegistrySource::open(&config.registry)?;
        let opened = read(&source, &config.project, None, call)?.ok_or_else(nothing_read)?;
        Ok(Self::new(source, opened, config))
    }

    /// A cache of a registry that somebody else reads, such as Feast: `bytes` are its present
    /// state, [`give`](Self::give) brings the next one.
    pub fn given(config: &RepoConfig, bytes: &[u8]) -> Result<Self> {
        let opened = snapshot(bytes, &config.project, Stamp::Given)?;
        Ok(Self::new(RegistrySource::Given, opened, config))
    }

    fn new(source: RegistrySource, opened: Snapshot, config: &RepoConfig) -> Self {
        let is_given = matches!(source, RegistrySource::Given);
        let ttl = config.registry.cache_ttl_seconds;
        RegistryCache(Arc::new(Shared {
            project: config.project.clone(),
            ttl: (ttl > 0 && !is_given).then(|| Duration::from_secs(ttl)),
            watches_file: config.registry.watches_file && !is_given,
            opened,
            newer: ProcessLocal::new(),
            refresher: AtomicU32::new(NOBODY),
            looked_at: AtomicU64::new(0),
            earliness: ProcessLocal::new(),
            source,
        }))
    }

    /// Whether somebody else reads the registry, and writes it.
    pub fn is_given(&self) -> bool {
        matches!(self.0.source, RegistrySource::Given)
    }

    /// Swaps the snapshot for one of `bytes`.
    pub fn give(&self, bytes: &[u8]) -> Result<Arc<Catalog>> {
        Ok(self.0.swap(snapshot(bytes, &self.0.project, Stamp::Given)?))
    }

    /// The snapshot, however old: for who has it refreshed elsewhere.
    pub fn latest(&self) -> Arc<Catalog> {
        let newer = self.0.newer.get().read().unwrap_or_else(PoisonError::into_inner);
        newer.as_ref().unwrap_or(&self.0.opened).catalog.clone()
    }

    /// The snapshot, if it is known to be good without a look at the file: the way of a hot
    /// read. `None`: see [`catalog`](Self::catalog).
    pub fn fresh(&self) -> Option<Arc<Catalog>> {
        let shared = &*self.0;
        let newer = shared.newer.get().read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = newer.as_ref().unwrap_or(&shared.opened);
        let now = Instant::now();
        if shared.is_old(snapshot, now) {
            return None;
        }
        let looked_at = Duration::from_micros(shared.looked_at.load(Ordering::Relaxed));
        let since_opened = now.saturating_duration_since(shared.opened.read_at);
        let is_known = !shared.watches_file || since_opened < looked_at + LOOK_EVERY;
        is_known.then(|| snapshot.catalog.clone())
    }

    /// The snapshot, read again first if it is due: on the caller's thread, or, for an object
    /// store with `cache_mode: thread`, on one of its own, while the caller goes on. If that
    /// fails, the old one is given and a warning logged: who serves features goes on while a
    /// registry is repaired.
    pub fn catalog(&self, call: Call<'_>) -> Result<Arc<Catalog>> {
        let snapshot = self.0.current();
        if !self.0.is_due(&snapshot) {
            return Ok(snapshot.catalog);
        }
        let Some(turn) = Turn::take(self.0.clone()) else {
            return Ok(snapshot.catalog);
        };
        let is_object = matches!(self.0.source, RegistrySource::Object(_));
        if is_object && !self.0.watches_file {
            let catalog = snapshot.catalog.clone();
            let name = "feastrs-registry".to_owned();
            let refresh = move || drop(turn.0.renew(snapshot, Call::unlimited()));
            // Without a thread the old snapshot does until the next look.
            let _ = std::thread::Builder::new().name(name).spawn(refresh);
            return Ok(catalog);
        }
        turn.0.renew(snapshot, call)
    }

    /// Asks for the registry now, whatever its age. One that is given stays as it was given.
    pub fn refresh(&self, call: Call<'_>) -> Result<Arc<Catalog>> {
        let shared = &*self.0;
        let known = shared.current();
        match read(&shared.source, &shared.project, Some(&known.stamp), call)? {
            Some(fresh) => Ok(shared.swap(fresh)),
            None => Ok(shared.swap(known.still_good())),
        }
    }

    /// Makes `change` in the registry and swaps the snapshot.
    pub fn update(&self, call: Call<'_>, change: &Change) -> Result<Arc<Catalog>> {
        self.0.source.update(call, change)?;
        self.refresh(call)
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

    /// Joins intervals of `view` that overlap or touch.
    pub fn compact_intervals(&self, call: Call<'_>, view: &str) -> Result<Arc<Catalog>> {
        self.update(call, &self.change(view, ChangeKind::Compacted))
    }

    fn change(&self, view: &str, kind: ChangeKind) -> Change {
        let (project, view) = (self.0.project.clone(), view.to_owned());
        Change { project, view, kind, now: now_micros() }
    }
}

impl Shared {
    fn is_due(&self, snapshot: &Snapshot) -> bool {
        if snapshot.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            return false;
        }
        let is_changed = self.watches_file && self.source.is_changed(&snapshot.stamp);
        let now = self.opened.read_at.elapsed().as_micros();
        self.looked_at.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        is_changed || self.is_old(snapshot, Instant::now())
    }

    fn is_old(&self, snapshot: &Snapshot, now: Instant) -> bool {
        let lifetime = match &self.source {
            RegistrySource::Object(_) => {
                self.ttl.map(|ttl| ttl.mul_f64(1.0 - SPREAD * self.earliness.get().0))
            }
            _ => self.ttl,
        };
        let age = now.saturating_duration_since(snapshot.read_at);
        lifetime.is_some_and(|lifetime| age >= lifetime)
    }

    /// Reads the registry, if it is another than that of `known`.
    ///
    /// Errors: the caller wants to stop.
    fn renew(&self, known: Snapshot, call: Call<'_>) -> Result<Arc<Catalog>> {
        match read(&self.source, &self.project, Some(&known.stamp), call) {
            Ok(Some(fresh)) => Ok(self.swap(fresh)),
            Ok(None) => Ok(self.swap(known.still_good())),
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                log::warn!("the registry is not refreshed, the old one is used: {error}");
                let pause = match &self.source {
                    RegistrySource::Object(_) => RETRY_OBJECT_AFTER,
                    _ => RETRY_AFTER,
                };
                let retry_at = Some(Instant::now() + pause);
                Ok(self.swap(Snapshot { retry_at, ..known }))
            }
        }
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

impl Snapshot {
    /// The same, as of now.
    fn still_good(self) -> Self {
        Snapshot { read_at: Instant::now(), retry_at: None, ..self }
    }
}

/// `None`: the registry is that of `known` still.
fn read(
    source: &RegistrySource,
    project: &str,
    known: Option<&Stamp>,
    call: Call<'_>,
) -> Result<Option<Snapshot>> {
    let Some((bytes, stamp)) = source.read(call, known)? else {
        return Ok(None);
    };
    snapshot(&bytes, project, stamp).map(Some).map_err(|error| source.named(error))
}

#[cold]
fn nothing_read() -> Error {
    Error::new(ErrorKind::Internal, "a registry that was never read is said to be unchanged")
}

fn snapshot(bytes: &[u8], project: &str, stamp: Stamp) -> Result<Snapshot> {
    let catalog = Arc::new(decode(bytes, project)?);
    Ok(Snapshot { catalog, stamp, read_at: Instant::now(), retry_at: None })
}

/// The turn to refresh, given back when dropped.
struct Turn(Arc<Shared>);

impl Turn {
    /// `None`: somebody else in this process has it.
    fn take(shared: Arc<Shared>) -> Option<Self> {
        let process = std::process::id();
        let holder = shared.refresher.load(Ordering::Acquire);
        if holder == process {
            return None;
        }
        let swapped =
            shared.refresher.compare_exchange(holder, process, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok().then_some(Turn(shared))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.refresher.store(NOBODY, Ordering::Release);
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
        let config = RepoConfig::from_yaml_text(&yaml, folder).unwrap();
        RegistryCache::open(&config, Call::unlimited()).unwrap()
    }

    #[test]
    fn a_changed_file_is_read_at_once_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        write(&path, "one");
        let (sync, thread) =
            (open(folder.path(), "cache_mode: sync"), open(folder.path(), "cache_mode: thread"));
        let held = sync.catalog(Call::unlimited()).unwrap();
        assert!(
            Arc::ptr_eq(&held, &sync.catalog(Call::unlimited()).unwrap()),
            "nothing has changed"
        );

        write(&path, "second");

        assert_eq!(sync.catalog(Call::unlimited()).unwrap().version_id, "second");
        assert_eq!(held.version_id, "one", "who holds a snapshot keeps it");
        assert_eq!(thread.catalog(Call::unlimited()).unwrap().version_id, "one");
        assert_eq!(thread.refresh(Call::unlimited()).unwrap().version_id, "second");
    }

    #[test]
    fn a_broken_registry_does_not_stop_who_has_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        write(&path, "one");
        let cache = open(folder.path(), "");
        std::fs::write(&path, b"not a registry").unwrap();

        assert_eq!(cache.catalog(Call::unlimited()).unwrap().version_id, "one");
        let error = cache.refresh(Call::unlimited()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RegistryInvalid);
        let message = error.to_string();
        assert!(message.contains("registry.db") && message.contains("14 bytes"), "{message}");
    }

    #[test]
    fn a_given_registry_changes_when_the_next_one_is_given() {
        let yaml = "project: p\nregistry: {registry_type: sql, path: x, cache_ttl_seconds: 1}\n";
        let config = RepoConfig::from_yaml_text(yaml, std::path::Path::new("/r")).unwrap();
        let cache = RegistryCache::given(&config, &registry("one")).unwrap();

        assert_eq!(cache.refresh(Call::unlimited()).unwrap().version_id, "one");
        cache.give(&registry("two")).unwrap();
        assert_eq!(cache.catalog(Call::unlimited()).unwrap().version_id, "two");
        assert!(cache.give(b"not a registry").is_err());
        assert_eq!(cache.catalog(Call::unlimited()).unwrap().version_id, "two");
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
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("registry.db"), "one");
        let shared = open(folder.path(), "").0;
        let turn = Turn::take(shared.clone()).unwrap();
        assert!(Turn::take(shared.clone()).is_none());
        drop(turn);
        assert_eq!(shared.refresher.load(Ordering::Acquire), NOBODY);
        // Left behind by another process.
        shared.refresher.store(std::process::id() + 1, Ordering::Release);
        assert!(Turn::take(shared).is_some());
    }
}
