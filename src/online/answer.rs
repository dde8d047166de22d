//! What an online read gives back: columns in the order asked, with statuses and times.

use std::sync::Arc;

use arrow_array::UInt32Array;

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
    /// The status of that number; `None`: Feast has none.
    pub fn from_number(number: u8) -> Option<Self> {
        [Status::Present, Status::NullValue, Status::NotFound, Status::OutsideMaxAge]
            .into_iter()
            .find(|status| *status as u8 == number)
    }

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

/// One status for each row. Where all values are there, which is the rule, it takes no memory.
#[derive(Clone, Debug)]
pub struct Statuses {
    rows: usize,
    // `None`: all are PRESENT.
    each: Option<Vec<Status>>,
}

impl Statuses {
    /// `PRESENT` for so many rows.
    pub fn all_present(rows: usize) -> Self {
        Statuses { rows, each: None }
    }

    /// Those of so many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The status of a row; `PRESENT` past the end.
    pub fn get(&self, row: usize) -> Status {
        self.each.as_ref().and_then(|each| each.get(row)).copied().unwrap_or(Status::Present)
    }

    /// Whether all rows are `PRESENT`, as far as that is known without a look at each.
    pub fn are_all_present(&self) -> bool {
        self.each.is_none()
    }

    /// The statuses in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Status> + '_ {
        (0..self.rows).map(|row| self.get(row))
    }

    /// Appends the status of the next row.
    pub fn push(&mut self, status: Status) {
        if status != Status::Present || self.each.is_some() {
            let rows = self.rows;
            self.each.get_or_insert_with(|| vec![Status::Present; rows]).push(status);
        }
        self.rows += 1;
    }

    /// Changes the status of a row.
    pub fn set(&mut self, row: usize, status: Status) {
        let rows = self.rows;
        let each = self.each.get_or_insert_with(|| vec![Status::Present; rows]);
        if let Some(slot) = each.get_mut(row) {
            *slot = status;
        }
    }
}

impl Statuses {
    /// With row `i` taken from row `rows[i]` of these.
    pub fn take(&self, rows: &UInt32Array) -> Self {
        match &self.each {
            None => Statuses::all_present(rows.len()),
            Some(_) => rows.values().iter().map(|&row| self.get(row as usize)).collect(),
        }
    }
}

impl FromIterator<Status> for Statuses {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        let mut collected = Statuses::all_present(0);
        statuses.into_iter().for_each(|status| collected.push(status));
        collected
    }
}

/// One column of the answer.
#[derive(Clone, Debug)]
pub struct FeatureVector {
    /// The name in the response.
    pub name: Arc<str>,
    /// One value for each row of the request.
    pub column: Column,
    /// One status for each row.
    pub statuses: Statuses,
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
            name: name.into(),
            column,
            statuses: Statuses::all_present(rows),
            event_timestamps,
        }
    }
}
