//! Rows as a store finds them -> typed columns, statuses and times. Pure: it is a
//! [`RowSink`], and does not know which store fills it.

use std::sync::Arc;

use arrow_array::UInt32Array;

use crate::error::{Error, Result};
use crate::store::RowSink;
use crate::value::wire::{ColumnDecoder, Decoded};

use super::answer::{FeatureVector, Status};
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

struct ViewColumns {
    event_timestamps: Vec<i64>,
    features: Vec<FeatureColumn>,
}

struct FeatureColumn {
    decoder: ColumnDecoder,
    statuses: Vec<Status>,
}

/// Everything that was found, by group, view and feature.
pub struct Found {
    groups: Vec<Vec<FoundView>>,
}

struct FoundView {
    event_timestamps: Arc<Vec<i64>>,
    features: Vec<Option<FeatureVector>>,
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
                    .map(|(view, columns)| columns.finish(&view.name))
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
        columns.event_timestamps.push(event_timestamp.unwrap_or(0));
        let is_too_old = match (event_timestamp, plan.ttls[view], self.rules.max_age_at) {
            (Some(time), Some(ttl), Some(now)) => time.saturating_add(ttl) < now,
            _ => false,
        };
        for (index, (column, value)) in columns.features.iter_mut().zip(values).enumerate() {
            column.push(*value, is_too_old, self.rules.feast).map_err(|error| {
                in_column(
                    error,
                    &plan.stored.views[view].name,
                    &plan.stored.views[view].features[index].name,
                )
            })?;
        }
        Ok(())
    }
}

#[cold]
fn in_column(error: Error, view: &str, feature: &str) -> Error {
    error.context(format!("stored value of '{view}:{feature}'"))
}

impl ViewColumns {
    fn new(value_types: &[crate::value::ValueType], rows: usize) -> Self {
        ViewColumns {
            event_timestamps: Vec::with_capacity(rows),
            features: value_types
                .iter()
                .map(|&value_type| FeatureColumn {
                    decoder: ColumnDecoder::new(value_type, rows),
                    statuses: Vec::with_capacity(rows),
                })
                .collect(),
        }
    }

    fn finish(self, view: &str) -> Result<FoundView> {
        let event_timestamps = Arc::new(self.event_timestamps);
        let features = self
            .features
            .into_iter()
            .map(|feature| {
                Ok(Some(FeatureVector {
                    name: String::new(),
                    column: feature.decoder.finish()?,
                    statuses: feature.statuses,
                    event_timestamps: event_timestamps.clone(),
                }))
            })
            .collect::<Result<Vec<_>>>()
            .map_err(|error| error.context(format!("view '{view}'")))?;
        Ok(FoundView { event_timestamps, features })
    }
}

impl FeatureColumn {
    fn push(
        &mut self,
        value: Option<&[u8]>,
        is_too_old: bool,
        feast: Option<FeastStatuses>,
    ) -> Result<()> {
        let status = match value {
            Some(_) if is_too_old => {
                self.decoder.push_missing();
                Status::OutsideMaxAge
            }
            Some(bytes) => match self.decoder.push(bytes)? {
                Decoded::Present => Status::Present,
                Decoded::Null if feast.is_some() => Status::Present,
                Decoded::Null => Status::NullValue,
            },
            None => {
                self.decoder.push_missing();
                match feast {
                    Some(FeastStatuses::Redis) => Status::Present,
                    _ => Status::NotFound,
                }
            }
        };
        self.statuses.push(status);
        Ok(())
    }
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
                let mut vector = self.vector(column);
                vector.name.clone_from(&column.name);
                match &row_maps[column.group] {
                    None => Ok(vector),
                    Some(rows) => vector.take(rows, times[column.group][column.view].clone()),
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
    fn vector(&mut self, column: &PlanColumn) -> FeatureVector {
        let view = &mut self.groups[column.group][column.view];
        view.features[column.feature]
            .take()
            .expect("each place of a plan belongs to one column: names are checked for collisions")
    }
}
