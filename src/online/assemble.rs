//! Rows as a store finds them -> typed columns, statuses and times. Pure: it is a
//! [`RowSink`], and does not know which store fills it.

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::store::RowSink;

use super::columns::{Row, ViewColumns};
use super::found::Found;
use super::plan::{PlanGroup, ReadPlan};

/// How statuses are given.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatusRules {
    /// Rows older than their view's `ttl`, counted from this time (microseconds since the
    /// epoch), are `OUTSIDE_MAX_AGE`. `None`: rows never grow too old.
    pub max_age_at: Option<i64>,
    /// What Feast says of a null or of what is not there, instead of what feastrs says.
    pub feast: Option<FeastStatuses>,
}

/// Feast's statuses, which depend on its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeastStatuses {
    /// Everything is `PRESENT`.
    Redis,
    /// What is not there is `NOT_FOUND`, a null is `PRESENT`.
    Sqlite,
}

/// Collects the rows of one read.
pub struct Assembler<'a> {
    plan: &'a ReadPlan,
    rules: &'a StatusRules,
    // The views of all groups, one group after the other, and where each group begins: most
    // reads are of one view, and need no memory for more.
    views: SmallVec<[ViewColumns; 1]>,
    firsts: SmallVec<[usize; 2]>,
}

impl<'a> Assembler<'a> {
    /// Room for as many keys in each group as `key_counts` says.
    pub fn new(
        plan: &'a ReadPlan,
        key_counts: impl Iterator<Item = usize>,
        rules: &'a StatusRules,
    ) -> Self {
        let (mut views, mut firsts) = (SmallVec::new(), SmallVec::new());
        for (group, rows) in plan.groups.iter().zip(key_counts) {
            firsts.push(views.len());
            views.extend(group.types.iter().map(|types| ViewColumns::new(types, rows)));
        }
        Assembler { plan, rules, views, firsts }
    }

    /// The columns, once every row has come.
    pub fn finish(self) -> Result<Found> {
        let stored = self.plan.groups.iter().flat_map(|group| &group.stored.views);
        let views = stored.zip(self.views).map(|(view, columns)| {
            let named = |error: Error| error.context(format!("view '{}'", view.name));
            columns.finish().map_err(named)
        });
        Ok(Found { views: views.collect::<Result<_>>()?, firsts: self.firsts })
    }
}

impl RowSink for Assembler<'_> {
    fn row(
        &mut self,
        group: usize,
        view: usize,
        event_timestamp: Option<i64>,
        values: &[Option<&[u8]>],
    ) -> Result<()> {
        let plan: &PlanGroup = &self.plan.groups[group];
        let columns = &mut self.views[self.firsts[group] + view];
        let is_too_old = match (event_timestamp, plan.ttls[view], self.rules.max_age_at) {
            (Some(time), Some(ttl), Some(now)) => time.saturating_add(ttl) < now,
            _ => false,
        };
        let row = Row { event_timestamp, values, is_too_old, feast: self.rules.feast };
        columns.push(&row).map_err(|(error, feature)| {
            let stored = &plan.stored.views[view];
            in_column(error, &stored.name, &stored.features[feature].name)
        })
    }
}

#[cold]
fn in_column(error: Error, view: &str, feature: &str) -> Error {
    error.context(format!("stored value of '{view}:{feature}'"))
}
