//! What a materialization reads from the registry and writes back to it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::call::Call;
use crate::error::Result;
use crate::registry::cache::RegistryCache;
use crate::registry::{Catalog, FeatureView, ViewState};

/// The registry, as far as a materialization has to do with it.
pub trait Ledger: Sync {
    /// The definitions as they are now, not as they were when a cache was filled.
    fn catalog(&self, call: &Call<'_>) -> Result<Arc<Catalog>>;
    /// Sets where the view is in its life.
    fn set_state(&self, view: &FeatureView, state: ViewState, call: &Call<'_>) -> Result<()>;
    /// Records that the view is materialized from `start` to `end` (microseconds since the
    /// epoch) and is available online.
    fn record(&self, view: &FeatureView, start: i64, end: i64, call: &Call<'_>) -> Result<()>;
}

impl Ledger for RegistryCache {
    fn catalog(&self, call: &Call<'_>) -> Result<Arc<Catalog>> {
        self.refresh(*call)
    }

    fn set_state(&self, view: &FeatureView, state: ViewState, call: &Call<'_>) -> Result<()> {
        RegistryCache::set_state(self, *call, &view.name, state).map(drop)
    }

    fn record(&self, view: &FeatureView, start: i64, end: i64, call: &Call<'_>) -> Result<()> {
        self.apply_materialization(*call, &view.name, start, end).map(drop)
    }
}

/// A ledger that somebody else keeps, such as Feast: only the definitions are read.
pub struct KeptByOthers<'a>(pub &'a RegistryCache);

impl Ledger for KeptByOthers<'_> {
    fn catalog(&self, call: &Call<'_>) -> Result<Arc<Catalog>> {
        self.0.refresh(*call)
    }

    fn set_state(&self, _view: &FeatureView, _state: ViewState, call: &Call<'_>) -> Result<()> {
        call.check()
    }

    fn record(&self, _view: &FeatureView, _start: i64, _end: i64, call: &Call<'_>) -> Result<()> {
        call.check()
    }
}

/// A ledger of which the threads of one materialization take turns: they would only wait for the
/// same lock, and longer.
pub(super) struct OneAtATime<'a>(Mutex<&'a dyn Ledger>);

impl<'a> OneAtATime<'a> {
    pub fn new(ledger: &'a dyn Ledger) -> Self {
        OneAtATime(Mutex::new(ledger))
    }

    fn turn<T>(&self, call: &Call<'_>, change: impl FnOnce(&dyn Ledger) -> Result<T>) -> Result<T> {
        let ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        call.check()?;
        change(*ledger)
    }
}

impl Ledger for OneAtATime<'_> {
    fn catalog(&self, call: &Call<'_>) -> Result<Arc<Catalog>> {
        self.turn(call, |ledger| ledger.catalog(call))
    }

    fn set_state(&self, view: &FeatureView, state: ViewState, call: &Call<'_>) -> Result<()> {
        self.turn(call, |ledger| ledger.set_state(view, state, call))
    }

    fn record(&self, view: &FeatureView, start: i64, end: i64, call: &Call<'_>) -> Result<()> {
        self.turn(call, |ledger| ledger.record(view, start, end, call))
    }
}
