//! Times as whole numbers of their own unit, as a source has them: comparing needs no more.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, Int64Array};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};

use crate::error::{Error, ErrorKind, Result};

const DAY_SECONDS: i64 = 86_400;

/// The times of a column, since the epoch. A time without a zone is UTC.
#[derive(Clone, Debug)]
pub struct Ticks {
    /// How often the unit has passed.
    pub values: ScalarBuffer<i64>,
    /// Which of them are there.
    pub nulls: Option<NullBuffer>,
    /// The unit.
    pub unit: TimeUnit,
}

impl Ticks {
    /// The unit in which times of this type are read; `None` for what is no time.
    pub fn unit_of(data_type: &DataType) -> Option<TimeUnit> {
        match data_type {
            DataType::Timestamp(unit, _) => Some(*unit),
            DataType::Date32 => Some(TimeUnit::Second),
            DataType::Date64 => Some(TimeUnit::Millisecond),
            _ => None,
        }
    }

    /// Reads a timestamp of any unit and zone, or a date (its midnight). `column` names it in
    /// errors.
    pub fn read(array: &dyn Array, column: &str) -> Result<Self> {
        let Some(unit) = Self::unit_of(array.data_type()) else {
            return Err(not_a_time(column, array.data_type()));
        };
        let values = match array.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => {
                array.as_primitive::<TimestampSecondType>().values().clone()
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                array.as_primitive::<TimestampMillisecondType>().values().clone()
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                array.as_primitive::<TimestampMicrosecondType>().values().clone()
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                array.as_primitive::<TimestampNanosecondType>().values().clone()
            }
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>().values();
                days.iter().map(|&days| i64::from(days) * DAY_SECONDS).collect()
            }
            _ => array.as_primitive::<Date64Type>().values().clone(),
        };
        Ok(Ticks { values, nulls: array.logical_nulls(), unit })
    }

    /// The same times in `unit`, which must not be coarser. What is later than it can tell is
    /// null, what is earlier is its first moment.
    pub fn in_finer(self, unit: TimeUnit) -> Self {
        if unit == self.unit {
            return self;
        }
        let from = self.unit;
        let finer = |row| self.get(row).and_then(|value| rounded_up(value, from, unit));
        let finer: Int64Array = (0..self.values.len()).map(finer).collect();
        Ticks { values: finer.values().clone(), nulls: finer.logical_nulls(), unit }
    }

    /// Whether the time of `row` is there.
    pub fn is_valid(&self, row: usize) -> bool {
        self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
    }

    /// The time of `row`; `None` if it is null.
    pub fn get(&self, row: usize) -> Option<i64> {
        self.is_valid(row).then(|| self.values.get(row).copied()).flatten()
    }

    /// The first and the last time; `None` where all are null.
    pub fn range(&self) -> Option<(i64, i64)> {
        let valid = (0..self.values.len()).filter_map(|row| self.get(row));
        valid.fold(None, |range, value| match range {
            None => Some((value, value)),
            Some((first, last)) => Some((value.min(first), value.max(last))),
        })
    }
}

/// The unit that tells more.
pub fn finest(one: TimeUnit, other: TimeUnit) -> TimeUnit {
    if nanos_per(one) <= nanos_per(other) { one } else { other }
}

/// Nanoseconds in one of the unit.
pub fn nanos_per(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// The first moment in unit `to` that is not before `value` in unit `from`. So a time is at or
/// before a label if it is when rounded up to the label's unit. `None`: it is after all moments
/// that `to` can tell.
#[inline]
pub fn rounded_up(value: i64, from: TimeUnit, to: TimeUnit) -> Option<i64> {
    let (from, to) = (nanos_per(from), nanos_per(to));
    if from >= to {
        let is_early = value < 0;
        return value.checked_mul(from / to).or(is_early.then_some(i64::MIN));
    }
    let unit = to / from;
    Some(value.div_euclid(unit) + i64::from(value.rem_euclid(unit) != 0))
}

#[cold]
fn not_a_time(column: &str, found: &DataType) -> Error {
    Error::new(
        ErrorKind::SourceInvalid,
        format!(
            "timestamp column '{column}' has type {found}; it must be a timestamp or a date \
             (convert text to timestamps when the file is written)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Date32Array, StringArray, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn rounding_up_keeps_what_is_at_or_before() {
        let (ns, us, s) = (TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Second);
        assert_eq!(rounded_up(1_000, ns, us), Some(1));
        assert_eq!(rounded_up(1_001, ns, us), Some(2));
        assert_eq!(rounded_up(-1, ns, us), Some(0));
        assert_eq!(rounded_up(-1_001, ns, us), Some(-1));
        assert_eq!(rounded_up(3, us, ns), Some(3_000));
        assert_eq!(rounded_up(i64::MAX, s, ns), None);
        assert_eq!(rounded_up(i64::MIN, s, ns), Some(i64::MIN));
    }

    #[test]
    fn dates_are_midnights_and_nulls_have_no_time() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(1), None, Some(-1)]));
        let ticks = Ticks::read(&days, "day").unwrap();
        assert_eq!((ticks.get(0), ticks.get(1), ticks.get(2)), (Some(86_400), None, Some(-86_400)));
        assert_eq!(ticks.range(), Some((-86_400, 86_400)));
        let finer = ticks.in_finer(TimeUnit::Millisecond);
        assert_eq!((finer.get(0), finer.get(1)), (Some(86_400_000), None));

        let nothing: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![None]));
        assert_eq!(Ticks::read(&nothing, "t").unwrap().range(), None);
    }

    #[test]
    fn text_is_no_time() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["2024-01-01"]));
        let error = Ticks::read(&text, "when").unwrap_err();
        assert!(error.to_string().contains("'when' has type Utf8"), "{error}");
    }
}
