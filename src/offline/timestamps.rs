//! Timestamp columns of any resolution and zone as comparable moments.
//!
//! Stores hold microseconds; a source may hold nanoseconds, and which row is the newest is
//! decided on all of them, as Feast does (pandas compares what the file has).

use arrow_array::Array;
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};

use super::ticks::{Ticks, nanos_per};
use crate::error::{Error, ErrorKind, Result};

/// A point in time with nanoseconds, ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Microseconds since the epoch, UTC, rounded down.
    pub micros: i64,
    /// What is left, 0 to 999 nanoseconds.
    pub nanos: u16,
}

impl Moment {
    /// No moment is later.
    pub const MAX: Moment = Moment { micros: i64::MAX, nanos: 999 };
    /// No moment is earlier.
    pub const MIN: Moment = Moment { micros: i64::MIN, nanos: 0 };

    /// A moment of whole microseconds.
    pub fn from_micros(micros: i64) -> Self {
        Moment { micros, nanos: 0 }
    }
}

/// From `start` to `end`, microseconds since the epoch, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// The first moment inside.
    pub start: i64,
    /// The last moment inside.
    pub end: i64,
}

impl TimeWindow {
    /// Whether `moment` lies inside. A nanosecond past `end` is outside.
    pub fn contains(&self, moment: Moment) -> bool {
        moment >= Moment::from_micros(self.start) && moment <= Moment::from_micros(self.end)
    }
}

/// The values of a timestamp column. Times without a zone are UTC.
#[derive(Clone, Debug)]
pub struct Timestamps {
    moments: Vec<Moment>,
    nulls: Option<NullBuffer>,
}

impl Timestamps {
    /// Reads `array`: a timestamp of any unit and zone, or a date (its midnight, UTC).
    /// `column` names it in errors.
    pub fn from_array(array: &dyn Array, column: &str) -> Result<Self> {
        let Ticks { values, nulls, unit } = Ticks::read(array, column)?;
        let moments = match unit {
            TimeUnit::Nanosecond => values.iter().copied().map(from_nanos).collect(),
            _ => scaled(&values, nulls.as_ref(), nanos_per(unit) / 1_000)
                .map_err(|value| too_far(column, array.data_type(), value, unit))?,
        };
        Ok(Timestamps { moments, nulls })
    }

    /// The moment of `row`; `None` if it is null.
    pub fn get(&self, row: usize) -> Option<Moment> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        if is_null { None } else { self.moments.get(row).copied() }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.moments.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.moments.is_empty()
    }
}

fn from_nanos(nanos: i64) -> Moment {
    // rem_euclid by 1000 lies in 0..1000.
    Moment { micros: nanos.div_euclid(1_000), nanos: nanos.rem_euclid(1_000) as u16 }
}

/// Values of which each is so many microseconds. Errors: the first that is too many of them.
fn scaled(
    values: &[i64],
    nulls: Option<&NullBuffer>,
    micros: i64,
) -> std::result::Result<Vec<Moment>, i64> {
    let values = values.iter().enumerate();
    values
        .map(|(row, &value)| match value.checked_mul(micros) {
            Some(micros) => Ok(Moment::from_micros(micros)),
            // What lies under a null is anything at all.
            None if nulls.is_some_and(|nulls| nulls.is_null(row)) => Ok(Moment::from_micros(0)),
            None => Err(value),
        })
        .collect()
}

#[cold]
fn too_far(column: &str, found: &DataType, value: i64, unit: TimeUnit) -> Error {
    let units = if unit == TimeUnit::Second { "seconds" } else { "milliseconds" };
    Error::new(
        ErrorKind::SourceInvalid,
        format!(
            "timestamp column '{column}' of type {found} has a time that lies outside the years \
             that microseconds can tell: {value} {units} since 1970"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, Date32Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        TimestampNanosecondArray, TimestampSecondArray,
    };

    use super::*;

    fn first(array: ArrayRef) -> Moment {
        Timestamps::from_array(array.as_ref(), "t").unwrap().get(0).unwrap()
    }

    #[test]
    fn every_unit_reads_the_same_moment() {
        let expected = Moment::from_micros(1_700_000_000_000_000);
        let zone = "+05:30";
        let arrays: [ArrayRef; 5] = [
            Arc::new(TimestampSecondArray::from(vec![1_700_000_000])),
            Arc::new(TimestampMillisecondArray::from(vec![1_700_000_000_000]).with_timezone(zone)),
            Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_000_000])),
            Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_000_000_000])),
            Arc::new(TimestampMicrosecondArray::from(vec![expected.micros]).with_timezone("UTC")),
        ];
        for array in arrays {
            assert_eq!(first(array), expected);
        }
        assert_eq!(first(Arc::new(Date32Array::from(vec![1]))).micros, 86_400_000_000);
    }

    #[test]
    fn nanoseconds_round_down_and_still_order() {
        let before = first(Arc::new(TimestampNanosecondArray::from(vec![-1])));
        assert_eq!(before, Moment { micros: -1, nanos: 999 });

        let window = TimeWindow { start: 0, end: 1 };
        assert!(!window.contains(before));
        assert!(window.contains(Moment::from_micros(0)) && window.contains(Moment::from_micros(1)));
        assert!(!window.contains(Moment { micros: 1, nanos: 1 }));
    }

    #[test]
    fn what_is_no_time_is_refused_by_name() {
        let text = StringArray::from(vec!["2024-01-01"]);
        let error = Timestamps::from_array(&text, "event_timestamp").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceInvalid);
        assert!(error.to_string().contains("'event_timestamp' has type Utf8"));

        let far = TimestampSecondArray::from(vec![Some(i64::MAX), None]);
        let error = Timestamps::from_array(&far, "t").unwrap_err();
        assert!(error.to_string().ends_with("9223372036854775807 seconds since 1970"), "{error}");
        let hidden =
            TimestampSecondArray::new(vec![i64::MAX].into(), Some(NullBuffer::from(vec![false])));
        assert_eq!(Timestamps::from_array(&hidden, "t").unwrap().get(0), None);
    }
}
