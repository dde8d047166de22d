//! The registry, refreshed in the background: never on the way of a request. A refresh that
//! fails leaves the old snapshot in use, and is told of where the server's health is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::metrics::{Metrics, Outcome};
use crate::call::Call;
use crate::error::{Error, ErrorKind};
use crate::registry::cache::RegistryCache;

/// After a refresh that failed the next is tried no later than this.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Refreshes a registry, and knows how that went.
#[derive(Debug)]
pub struct Refresher {
    registry: RegistryCache,
    history: Mutex<History>,
}

#[derive(Debug)]
struct History {
    good_at: Instant,
    failing: Option<(Instant, String)>,
    failures: u64,
}

/// How fresh a registry is.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// Since the registry was last read, or seen to be unchanged.
    pub age: Duration,
    /// Since when refreshes fail, and what the last one said; `None`: the last one was good.
    pub failing: Option<(Duration, String)>,
    /// Refreshes that failed since the start.
    pub failures: u64,
}

impl Refresher {
    /// Refreshes `registry`, which has just been read.
    pub fn new(registry: RegistryCache) -> Self {
        let history = History { good_at: Instant::now(), failing: None, failures: 0 };
        Refresher { registry, history: Mutex::new(history) }
    }

    /// How fresh the registry is now.
    pub fn freshness(&self) -> Freshness {
        let history = self.history();
        let failing = history.failing.as_ref();
        Freshness {
            age: history.good_at.elapsed(),
            failing: failing.map(|(since, why)| (since.elapsed(), why.clone())),
            failures: history.failures,
        }
    }

    /// Refreshes every `ttl` after the last refresh, for ever.
    pub(super) async fn run(&self, ttl: Duration) {
        let mut pause = ttl;
        loop {
            sleep(pause).await;
            pause = if self.refresh().await { ttl } else { ttl.min(RETRY_AFTER) };
        }
    }

    /// Refreshes now, on a thread that may block; whether that went well.
    async fn refresh(&self) -> bool {
        let registry = self.registry.clone();
        let refreshed = move || registry.refresh(Call::unlimited()).map(drop);
        let refreshed = tokio::task::spawn_blocking(refreshed).await;
        let refreshed = refreshed.unwrap_or_else(|source| {
            Err(Error::new(ErrorKind::Internal, "the refresh broke off").with_source(source))
        });
        let mut history = self.history();
        match refreshed {
            Ok(()) => {
                Metrics::of_process().registry_refreshed(Outcome::Success);
                if history.failing.take().is_some() {
                    log::info!("the registry is refreshed again");
                }
                history.good_at = Instant::now();
                true
            }
            Err(error) => {
                Metrics::of_process().registry_refreshed(Outcome::Error);
                log::warn!("the registry is not refreshed, the old one is used: {error}");
                let since = history.failing.take().map_or_else(Instant::now, |(since, _)| since);
                history.failing = Some((since, error.to_string()));
                history.failures += 1;
                false
            }
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // Whoever panicked did so between two assignments: each state will do.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RepoConfig;
    use crate::runtime;

    #[test]
    fn a_failing_refresh_keeps_the_old_snapshot_and_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        std::fs::write(&path, b"\x22\x03one").unwrap();
        let yaml = "project: p\nregistry: {path: registry.db, cache_mode: thread}\n";
        let config = RepoConfig::from_yaml_text(yaml, folder.path()).unwrap();
        let registry = RegistryCache::open(&config, Call::unlimited()).unwrap();
        let refresher = Refresher::new(registry.clone());
        let refresh = || runtime::handle().unwrap().block_on(refresher.refresh());

        std::fs::write(&path, b"not a registry").unwrap();
        assert!(!refresh() && !refresh());
        let freshness = refresher.freshness();
        assert_eq!(freshness.failures, 2);
        let (since, why) = freshness.failing.unwrap();
        assert!(since <= freshness.age && why.contains("registry.db"), "{why}");
        assert_eq!(registry.latest().version_id, "one");

        std::fs::write(&path, b"\x22\x03two").unwrap();
        assert!(refresh());
        assert!(refresher.freshness().failing.is_none());
        assert_eq!(registry.latest().version_id, "two");
    }
}
