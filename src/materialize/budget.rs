//! The memory of a materialization, divided between the views that are under way at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::call::Call;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::Result;

/// Views that are under way at once, at most: one reads while another waits for the store or the
/// registry, and more only wait for the same processors.
const MAX_VIEWS: usize = 4;
/// What a view takes for what it reads and writes at the moment, however small its batches: with
/// less for each, they go one after another.
const MIN_SHARE_BYTES: usize = 64 << 20;
/// What an entity takes while its newest row is searched, about: its key and the row's times.
const ENTITY_BYTES: u64 = 96;
/// How long to wait for memory before looking for interrupts.
const WAIT: Duration = Duration::from_millis(50);

/// `max_memory_mb`, as far as no view has it.
pub(super) struct Budget {
    total: usize,
    views: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    /// For a materialization of `views` views.
    pub fn new(config: &RepoConfig, views: usize) -> Self {
        let megabytes = usize::try_from(config.materialization.max_memory_mb);
        let total = megabytes.unwrap_or(usize::MAX).saturating_mul(1 << 20);
        let at_once = match config.online_store {
            // It lets one connection write at a time.
            OnlineStoreConfig::Sqlite(_) => 1,
            _ => MAX_VIEWS.min(total / MIN_SHARE_BYTES),
        };
        let views = at_once.min(views).max(1);
        Budget { total, views, free: Mutex::new(total), freed: Condvar::new() }
    }

    /// How many views may be under way at once.
    pub fn views(&self) -> usize {
        self.views
    }

    /// Waits for the share of a view with `rows` rows: as much as any has, or what it needs to
    /// find the newest rows in memory, if it can have that: large views go one after another, as
    /// each would otherwise search on disk.
    pub fn claim(&self, rows: u64, call: &Call<'_>) -> Result<Share<'_>> {
        // Half of a share is for the search.
        let needed = usize::try_from(rows.saturating_mul(2 * ENTITY_BYTES)).unwrap_or(usize::MAX);
        let bytes = needed.clamp(self.total / self.views, self.total);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            call.check()?;
            let waited = self.freed.wait_timeout(free, WAIT);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= bytes;
        Ok(Share { budget: self, bytes })
    }
}

/// Memory of one view, given back when dropped.
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Share<'_> {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    fn budget(views: usize) -> Budget {
        Budget { total: 100 << 20, views, free: Mutex::new(100 << 20), freed: Condvar::new() }
    }

    struct Stopped;

    impl crate::call::Interrupt for Stopped {
        fn check(&self) -> Result<()> {
            Err(Error::new(ErrorKind::Interrupted, "stopped"))
        }
    }

    #[test]
    fn small_views_share_and_large_ones_have_all() {
        let budget = budget(4);
        let call = Call::unlimited();
        let small: Vec<_> = (0..3).map(|_| budget.claim(10, &call).unwrap()).collect();
        assert!(small.iter().all(|share| share.bytes() == 25 << 20));
        let stopped = Call { deadline: None, interrupt: &Stopped };
        assert_eq!(budget.claim(1 << 40, &stopped).err().unwrap().kind(), ErrorKind::Interrupted);

        std::thread::scope(|scope| {
            let large = scope.spawn(|| budget.claim(1 << 40, &call).unwrap().bytes());
            drop(small);
            assert_eq!(large.join().unwrap(), 100 << 20);
        });
        assert_eq!(*budget.free.lock().unwrap(), 100 << 20);
    }
}
