//! Writing frames from Python: plans kept, frames taken apart, written without the GIL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use crate::call::Call;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::Result;
use crate::materialize::frame::{
    FrameBatch, FrameOptions, FramePlan, FrameReport, Nothing, write_frame,
};
use crate::process_local::ProcessLocal;
use crate::registry::Catalog;
use crate::store::{EqualTimestamps, OnlineStore};

use super::frame::Given;

/// What became of a view: its name, rows, entities written, rows older, null keys, and why
/// nothing was written, if there was nothing to write.
pub type Written = (String, u64, u64, u64, u64, Option<&'static str>);

/// As Python takes it.
pub fn written(report: FrameReport) -> Written {
    let nothing = report.nothing.map(|nothing| match nothing {
        Nothing::NoRows => "it has no rows",
        Nothing::NoValues => "every feature of every row is null",
    });
    let FrameReport { view, rows, entities_written, rows_older, null_keys, .. } = report;
    (view, rows, entities_written, rows_older, null_keys, nothing)
}

/// Frames on their way to views of one store. Owns all that it needs.
pub struct FrameWrite {
    parts: Vec<(Arc<FramePlan>, Vec<FrameBatch>)>,
    options: FrameOptions,
    online: Arc<dyn OnlineStore>,
}

impl FrameWrite {
    /// One frame for each view of `plans`.
    pub fn new(
        plans: Vec<Arc<FramePlan>>,
        frame: &Bound<'_, PyAny>,
        config: &RepoConfig,
        online: Arc<dyn OnlineStore>,
    ) -> PyResult<Self> {
        let given = Given::new(frame)?;
        let mut parts = Vec::with_capacity(plans.len());
        for plan in plans {
            let batches = given.batches(&plan)?;
            parts.push((plan, batches));
        }
        Ok(FrameWrite { parts, options: options(config), online })
    }

    /// The same for rows of a source: of equal event timestamps the newest by created timestamp
    /// is written, whatever is done to the stored one, and rows of nothing but nulls are, too.
    pub fn of_source(mut self) -> Self {
        self.options.equal_timestamps = EqualTimestamps::Overwrite;
        self.options.writes_bare = true;
        self
    }

    /// Writes view after view. Rows of a source are still there in the end: that they were
    /// materialized is recorded elsewhere.
    pub fn run(&self, call: &Call<'_>) -> Result<Vec<FrameReport>> {
        let store = self.online.as_ref();
        let watch = self.options.writes_bare.then(|| store.watch(call)).transpose()?;
        let write = |(plan, batches): &(Arc<FramePlan>, Vec<FrameBatch>)| {
            write_frame(plan, batches, self.options, store, call)
        };
        let reports = self.parts.iter().map(write).collect::<Result<_>>()?;
        watch.map_or(Ok(()), |watch| watch.confirm(call))?;
        Ok(reports)
    }
}

fn options(config: &RepoConfig) -> FrameOptions {
    let skips = match &config.online_store {
        OnlineStoreConfig::Redis(redis) => redis.equal_timestamps_skip,
        OnlineStoreConfig::Sqlite(sqlite) => sqlite.equal_timestamps_skip,
        _ => false,
    };
    FrameOptions {
        skip_null_keys: config.materialization.skip_null_keys,
        equal_timestamps: if skips { EqualTimestamps::Skip } else { EqualTimestamps::Overwrite },
        write_rows: config.materialization.online_write_batch_size,
        writes_bare: false,
    }
}

/// Plans of views, all of one snapshot of the registry.
#[derive(Default)]
pub struct FramePlans(ProcessLocal<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    catalog: Option<Arc<Catalog>>,
    plans: HashMap<String, Arc<FramePlan>>,
}

impl FramePlans {
    /// The plan of the view of that name, made now if it was not yet.
    pub fn plan(
        &self,
        name: &str,
        catalog: &Arc<Catalog>,
        config: &RepoConfig,
    ) -> Result<Arc<FramePlan>> {
        let mut kept = self.0.get().lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.catalog.as_ref().is_some_and(|known| Arc::ptr_eq(known, catalog)) {
            *kept = Kept { catalog: Some(catalog.clone()), plans: HashMap::new() };
        }
        if let Some(plan) = kept.plans.get(name) {
            return Ok(plan.clone());
        }
        let plan = FramePlan::new(catalog.view(name)?, config)
            .map_err(|error| error.context(format_args!("view '{name}'")))?;
        let plan = Arc::new(plan);
        kept.plans.insert(name.to_owned(), plan.clone());
        Ok(plan)
    }
}
