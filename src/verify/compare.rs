//! Rows of the source, as they would be written, against what is online: bytes first, and
//! decoded only where those differ.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::coverage::Expiry;
use super::drift::Drifts;
use super::equal::problem;
use super::found::{Found, FoundRows};
use super::report::{Counts, Difference, Drift, Example, FeatureReport, RowStatus, VerifyRequest};
use crate::call::{Call, now_micros};
use crate::error::Result;
use crate::materialize::plan::{PlannedColumn, ViewPlan};
use crate::materialize::transfer::Chunk;
use crate::store::{OnlineStore, StoreReader, StoredGroup};
use crate::value::PackedBytes;

/// Rows that are read online at once.
const READ_ROWS: usize = 1_000;

/// Compares the rows of one view.
pub(super) struct Comparison<'a> {
    plan: &'a ViewPlan,
    store: &'a dyn OnlineStore,
    reader: Arc<dyn StoreReader>,
    expiry: Expiry,
    max_examples: usize,
    drifts: Drifts,
    pub counts: Counts,
    features: Vec<FeatureReport>,
    pub examples: Vec<Example>,
}

/// Rows of a chunk as they should be online.
struct Expected<'c> {
    chunk: &'c Chunk,
    rows: Range<usize>,
    // For each feature, the values of `rows`.
    values: Vec<PackedBytes>,
}

impl Expected<'_> {
    fn key(&self, row: usize) -> &[u8] {
        self.chunk.keys().get(self.rows.start + row)
    }

    fn time(&self, row: usize) -> i64 {
        self.chunk.event_timestamps()[self.rows.start + row]
    }

    fn keys(&self, rows: impl Iterator<Item = usize>) -> PackedBytes {
        let mut keys = PackedBytes::default();
        rows.for_each(|row| keys.push(self.key(row)));
        keys
    }
}

impl<'a> Comparison<'a> {
    /// Of the rows of `plan`.
    pub fn new(
        plan: &'a ViewPlan,
        store: &'a dyn OnlineStore,
        expiry: Expiry,
        request: &VerifyRequest,
    ) -> Self {
        let expected_fields = plan.features.len() + 1;
        let group = StoredGroup { views: vec![plan.stored.clone()], expected_fields };
        let report = |feature: &PlannedColumn| FeatureReport {
            feature: feature.name.clone(),
            value_type: feature.value_type,
            compared: 0,
            different: 0,
            absent: 0,
            drift: Drift::default(),
        };
        let types = plan.features.iter().map(|feature| feature.value_type);
        Comparison {
            plan,
            store,
            reader: store.reader(&[group]),
            expiry,
            max_examples: request.examples,
            drifts: Drifts::new(types, request.seed),
            counts: Counts::default(),
            features: plan.features.iter().map(report).collect(),
            examples: Vec::new(),
        }
    }

    /// Compares the rows of `chunk`.
    pub fn take(&mut self, chunk: &Chunk, call: &Call<'_>) -> Result<()> {
        let len = chunk.keys().len();
        for start in (0..len).step_by(READ_ROWS) {
            call.check()?;
            let rows = start..len.min(start + READ_ROWS);
            let values = chunk.encode(self.plan, rows.clone())?;
            self.take_part(&Expected { chunk, rows, values }, call)?;
        }
        Ok(())
    }

    /// What looks wrong is read again, and counts as it is then: others may have been writing.
    fn take_part(&mut self, expected: &Expected<'_>, call: &Call<'_>) -> Result<()> {
        let found = self.read(expected, 0..expected.rows.len(), call)?;
        let mut suspects = Vec::new();
        for row in 0..expected.rows.len() {
            match self.judge(expected, row, &found, row) {
                status if status.is_finding() => suspects.push(row),
                status => self.count(status, expected, row, &found, row)?,
            }
        }
        if suspects.is_empty() {
            return Ok(());
        }
        let again = self.read(expected, suspects.iter().copied(), call)?;
        for (index, &row) in suspects.iter().enumerate() {
            let status = self.judge(expected, row, &again, index);
            self.count(status, expected, row, &again, index)?;
        }
        Ok(())
    }

    fn read(
        &self,
        expected: &Expected<'_>,
        rows: impl Iterator<Item = usize>,
        call: &Call<'_>,
    ) -> Result<FoundRows> {
        let keys = expected.keys(rows);
        FoundRows::read(self.reader.as_ref(), &keys, self.plan.features.len(), call)
    }

    /// `index` is where the row stands in `found`.
    fn judge(
        &self,
        expected: &Expected<'_>,
        row: usize,
        found: &FoundRows,
        index: usize,
    ) -> RowStatus {
        let event = expected.time(row);
        let online = match found.row(index) {
            Found::Row(online) => *online,
            Found::Unreadable(_) => return RowStatus::Unreadable,
            Found::Absent if self.expiry.may_be_over(event, now_micros()) => {
                return RowStatus::Expired;
            }
            Found::Absent => return RowStatus::Missing,
        };
        match self.store.kept_time(online).cmp(&self.store.kept_time(event)) {
            Ordering::Less => RowStatus::Stale,
            Ordering::Greater => RowStatus::Newer,
            Ordering::Equal => {
                let is_other = |feature: usize| {
                    let source = expected.values[feature].get(row);
                    let online = found.value(index, feature);
                    online != Some(source) && problem(source, online).is_some()
                };
                match (0..self.features.len()).any(is_other) {
                    true => RowStatus::Different,
                    false => RowStatus::Matching,
                }
            }
        }
    }

    /// Whether anything is not as it should be.
    pub fn has_findings(&self) -> bool {
        RowStatus::ALL.iter().any(|status| status.is_finding() && self.counts.of(*status) > 0)
    }

    /// What was found about each feature.
    pub fn into_features(self) -> Vec<FeatureReport> {
        let features = self.features.into_iter().zip(self.drifts.finish());
        features.map(|(feature, drift)| FeatureReport { drift, ..feature }).collect()
    }

    fn count(
        &mut self,
        status: RowStatus,
        expected: &Expected<'_>,
        row: usize,
        found: &FoundRows,
        index: usize,
    ) -> Result<()> {
        self.counts.add(status);
        let differences = match status {
            RowStatus::Different => self.differences(expected, row, found, index),
            _ => Vec::new(),
        };
        if matches!(status, RowStatus::Matching | RowStatus::Different) {
            self.features.iter_mut().for_each(|feature| feature.compared += 1);
        }
        if matches!(found.row(index), Found::Row(_)) {
            let value = |feature: usize| expected.values[feature].get(row);
            self.drifts.observe(|feature| (value(feature), found.value(index, feature)));
        }
        if !status.is_finding() || self.counts.of(status) > self.max_examples as u64 {
            return Ok(());
        }
        let (online_time, reason) = match found.row(index) {
            Found::Row(online) => (Some(*online), None),
            Found::Unreadable(reason) => (None, Some(reason.clone())),
            Found::Absent => (None, None),
        };
        self.examples.push(Example {
            status,
            key: self.plan.decode_key(expected.key(row))?,
            source_time: expected.time(row),
            online_time,
            differences,
            reason,
        });
        Ok(())
    }

    /// The features that differ, counted.
    fn differences(
        &mut self,
        expected: &Expected<'_>,
        row: usize,
        found: &FoundRows,
        index: usize,
    ) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (number, feature) in self.features.iter_mut().enumerate() {
            let (source, online) = (expected.values[number].get(row), found.value(index, number));
            if online == Some(source) {
                continue;
            }
            let Some(problem) = problem(source, online) else { continue };
            feature.different += 1;
            feature.absent += u64::from(online.is_none());
            differences.push(Difference {
                feature: feature.feature.clone(),
                value_type: feature.value_type,
                problem,
                source: source.to_vec(),
                online: online.map(<[u8]>::to_vec),
            });
        }
        differences
    }
}
