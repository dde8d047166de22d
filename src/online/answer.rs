//! What an online read gives back: columns in the order asked, with statuses and times.

use std::sync::Arc;

use crate::error::Result;
use crate::value::Column;

/// `feast.serving.FieldStatus`: what became of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The value is there.
    Present = 1,
    /// The value was stored as null.
    NullValue = 2,
    /// The entity or the feature is not in the store.
    NotFound = 3,
    /// The row is older than the view's `ttl`.
    OutsideMaxAge = 4,
}

impl Status {
    /// Feast's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Present => "PRESENT",
            Status::NullValue => "NULL_VALUE",
            Status::NotFound => "NOT_FOUND",
            Status::OutsideMaxAge => "OUTSIDE_MAX_AGE",
        }
    }
}

/// One column of the answer.
#[derive(Clone, Debug)]
pub struct FeatureVector {
    /// The name in the response.
    pub name: String,
    /// One value for each row of the request.
    pub column: Column,
    /// One status for each row.
    pub statuses: Vec<Status>,
    /// When each row's values were true, microseconds since the epoch, UTC; 0 where there is
    /// no row. Shared by the features of a view.
    pub event_timestamps: Arc<Vec<i64>>,
}

/// The answer to one online read.
#[derive(Clone, Debug)]
pub struct OnlineFeatures {
    /// Join keys first, then features in the order asked.
    pub vectors: Vec<FeatureVector>,
    /// How many of `vectors` are join keys.
    pub join_keys: usize,
    /// Rows of the request.
    pub rows: usize,
}

impl OnlineFeatures {
    /// The columns that were asked for, without the join keys.
    pub fn features(&self) -> &[FeatureVector] {
        self.vectors.get(self.join_keys..).unwrap_or_default()
    }
}

impl FeatureVector {
    /// A column of the request itself: every value present, with no time.
    pub(crate) fn of_request(name: &str, column: Column, event_timestamps: Arc<Vec<i64>>) -> Self {
        let rows = event_timestamps.len();
        FeatureVector {
            name: name.to_owned(),
            column,
            statuses: vec![Status::Present; rows],
            event_timestamps,
        }
    }

    /// The vector with row `i` taken from row `rows[i]` of this one.
    pub(crate) fn take(
        &self,
        rows: &arrow_array::UInt32Array,
        event_timestamps: Arc<Vec<i64>>,
    ) -> Result<Self> {
        Ok(FeatureVector {
            name: self.name.clone(),
            column: self.column.take(rows)?,
            statuses: rows.values().iter().map(|&row| self.statuses[row as usize]).collect(),
            event_timestamps,
        })
    }
}
