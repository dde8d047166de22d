//! Writing frames from Python: taken apart, and written without the GIL.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::Result;
use crate::materialize::frame::{
    FrameBatch, FrameOptions, FramePlan, FrameReport, Nothing, write_frame,
};
use crate::store::{EqualTimestamps, OnlineStore};

use super::frame::Given;

/// What became of a view: its name, rows, entities written, rows older, null keys, and why
/// nothing was written, if there was nothing to write.
pub type Written = (String, u64, u64, u64, u64, Option<&'static str>);

/// As Python takes it.
pub fn written(report: FrameReport) -> Written {
    let nothing = report.nothing.map(Nothing::reason);
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
        let given = Given::with_index(frame)?;
        let mut parts = Vec::with_capacity(plans.len());
        for plan in plans {
            let batches = given.batches(&plan)?;
            parts.push((plan, batches));
        }
        Ok(FrameWrite { parts, options: FrameOptions::of(config), online })
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
