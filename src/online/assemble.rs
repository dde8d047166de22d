//! Rows as a store finds them -> typed columns, statuses and times. Pure: it is a
//! [`RowSink`], and does not know which store fills it.

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
    groups: Vec<Vec<ViewColumns>>,
}

impl<'a> Assembler<'a> {
    /// Room for `key_counts[g]` keys in group `g`.
    pub fn new(plan: &'a ReadPlan, key_counts: &[usize], rules: &'a StatusRules) -> Self {
        let groups = plan
            .groups
            .iter()
            .zip(key_counts)
            .map(|(group, &rows)| {
                group.types.iter().map(|types| ViewColumns::new(types, rows)).collect()
            })
            .collect();
        Assembler { plan, rules, groups }
    }

    /// The columns, once every row has come.
    pub fn finish(self) -> Result<Found> {
        let mut groups = Vec::with_capacity(self.groups.len());
        for (group, views) in self.plan.groups.iter().zip(self.groups) {
            groups.push(
                group
                    .stored
                    .views
                    .iter()
                    .zip(views)
                    .map(|(view, columns)| {
                        let named = |error: Error| error.context(format!("view '{}'", view.name));
                        columns.finish().map_err(named)
                    })
                    .collect::<Result<Vec<_>>>()?,
            );
        }
        Ok(Found { groups })
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
        let columns = &mut self.groups[group][view];
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
