//! Rows as a store finds them -> typed columns, statuses and times. Pure: it is a
//! [`RowSink`], and does not know which store fills it.

use std::sync::Arc;

use arrow_array::UInt32Array;

use crate::error::{Error, Result};
use crate::store::RowSink;
use crate::value::Column;

use super::answer::{FeatureVector, Statuses};
use super::columns::{Row, ViewColumns};
use super::plan::{PlanColumn, PlanGroup, ReadPlan};

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

/// Everything that was found, by group, view and feature.
pub struct Found {
    groups: Vec<Vec<FoundView>>,
}

struct FoundView {
    event_timestamps: Arc<Vec<i64>>,
    // `None` once it has been given away.
    features: Vec<Option<(Column, Statuses)>>,
}

impl<'a> Assembler<'a> {
    /// Room for `key_counts[g]` keys in group `g`.
    pub fn new(plan: &'a ReadPlan, key_counts: &[usize], rules: &'a StatusRules) -> Self {
        let groups = plan
            .groups
            .iter()
            .zip(key_counts)
            .map(|(group, &rows)| {
                group.value_types.iter().map(|types| ViewColumns::new(types, rows)).collect()
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
                    .map(|(view, columns)| found(columns, &view.name))
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

fn found(columns: ViewColumns, view: &str) -> Result<FoundView> {
    let (event_timestamps, features) =
        columns.finish().map_err(|error| error.context(format!("view '{view}'")))?;
    Ok(FoundView {
        event_timestamps: Arc::new(event_timestamps),
        features: features.into_iter().map(Some).collect(),
    })
}

impl Found {
    /// The columns in the plan's order, with the rows of the request. `row_maps[g]` says for
    /// each row which key of group `g` it asked for; `None`: row `i` is key `i`.
    pub fn into_vectors(
        mut self,
        plan: &ReadPlan,
        row_maps: &[Option<UInt32Array>],
    ) -> Result<Vec<FeatureVector>> {
        let times = self.mapped_times(row_maps);
        plan.columns
            .iter()
            .map(|column| {
                let (values, statuses) = self.take(column);
                let event_timestamps = times[column.group][column.view].clone();
                let name = column.name.clone();
                match &row_maps[column.group] {
                    None => Ok(FeatureVector { name, column: values, statuses, event_timestamps }),
                    Some(rows) => Ok(FeatureVector {
                        name,
                        column: values.take(rows)?,
                        statuses: statuses.take(rows),
                        event_timestamps,
                    }),
                }
            })
            .collect()
    }

    fn mapped_times(&self, row_maps: &[Option<UInt32Array>]) -> Vec<Vec<Arc<Vec<i64>>>> {
        let mapped = |view: &FoundView, rows: &Option<UInt32Array>| match rows {
            None => view.event_timestamps.clone(),
            Some(rows) => Arc::new(
                rows.values().iter().map(|&row| view.event_timestamps[row as usize]).collect(),
            ),
        };
        self.groups
            .iter()
            .zip(row_maps)
            .map(|(views, rows)| views.iter().map(|view| mapped(view, rows)).collect())
            .collect()
    }

    // Names of a response are unique, but two of them may show one feature (a view and its
    // alias never share a place, so each place is asked for once).
    fn take(&mut self, column: &PlanColumn) -> (Column, Statuses) {
        let view = &mut self.groups[column.group][column.view];
        view.features[column.feature]
            .take()
            .expect("each place of a plan belongs to one column: names are checked for collisions")
    }
}
